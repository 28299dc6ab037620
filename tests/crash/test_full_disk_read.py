"""A client reads the database of a full disk, with a server and without."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts import missing
from tests.servers import Leeroy, end_runs


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    where = tmp_path / "disk"
    where.mkdir()
    if os.geteuid() != 0:
        missing("root, for a disk of its own")
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", where]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        missing("the right to mount a tmpfs")
    yield where
    end_runs(where)
    subprocess.run(["umount", "-l", where], check=False)


def fill(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        try:
            while ballast.write(bytes(4096)):
                pass
        except OSError:
            pass


def test_what_is_there_can_be_read(leeroy: Leeroy, full: Path) -> None:
    """`list` and `show` answer, whether the index of SQLite's log is there or not."""
    leeroy.settings |= {"data": str(full / "var"), "min_free": "1kB"}
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "sleep 60"\n')
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    leeroy.until_state(build, "building")
    for stopped in (False, True):
        if stopped:
            leeroy.kill()
            for name in ("leeroy.db-shm", "ballast"):  # as after a start of the machine
                next(full.rglob(name)).unlink()
        fill(full)
        [found] = json.loads(leeroy.cli("list", "--json").stdout)
        assert (build, "building") == (found["id"], found["state"])
        assert leeroy.cli("show", str(build)).returncode == 0
