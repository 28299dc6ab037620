"""What is shipped: the wheel, the service, the locks, the version."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import leeroy
from leeroy.db import schema
from tests.servers import ROOT


def test_the_wheel_holds_all_it_needs(tmp_path: Path) -> None:
    """Migrations, example pipelines, templates, pictures and the unit are in it."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = tmp_path.glob("leeroy-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        packed.extractall(tmp_path / "installed")
    for name in (
        "leeroy/_migrations/env.py",
        "leeroy/_pipelines/django-heroku.toml",
        "leeroy/web/templates/stop.html",
        "leeroy/web/static/leeroy.css",
        "leeroy/leeroy.service",
    ):
        assert name in names, name
    assert not any(name.startswith(("tests/", "bench/", "docs/")) for name in names)
    done = subprocess.run(
        [sys.executable, "-m", "leeroy", "init", "--example", "ssh-rsync"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    assert "rsync" in (tmp_path / "pipelines" / "hello.toml").read_text()
    migrated = subprocess.run(
        [sys.executable, "-m", "leeroy", "migrate"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == migrated.returncode, migrated.stderr
    assert (tmp_path / "var" / "leeroy.db").is_file()


def test_the_service_leaves_scripts_alone() -> None:
    """A stop ends the server only, and the watchdog is on."""
    text = (ROOT / "leeroy" / "leeroy.service").read_text(encoding="utf-8")
    for line in ("KillMode=process", "Type=notify", "Restart=on-failure"):
        assert f"\n{line}\n" in text
    assert re.search(r"^WatchdogSec=[0-9]+$", text, flags=re.M)


def test_locks_have_hashes_and_no_addresses() -> None:
    """The versions are fixed; where they come from is the installer's business."""
    for file in sorted((ROOT / "requirements").glob("*.txt")):
        text = file.read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert "://" not in text
        for line in re.findall(r"^[a-z0-9][^\n]*", text, flags=re.M):
            assert "==" in line, line


def test_head_is_the_newest_migration() -> None:
    """The program asks for the schema that the migrations make."""
    found = [
        re.search(r'^revision = "(\w+)"', file.read_text(encoding="utf-8"), flags=re.M)
        for file in (ROOT / "migrations" / "versions").glob("*.py")
    ]
    assert schema.HEAD == max(match[1] for match in found if match)


def test_the_version_is_one() -> None:
    """It is said in one place."""
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+.*", leeroy.__version__)
