"""A disk that turns read-only, or takes nothing at the start: 503, no crash loop, and on by itself."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts import missing, need
from tests.servers import Leeroy
from tests.sinks import json_sink
from tests.waiting import until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small ext4 of its own, on a loop device."""
    if os.geteuid() != 0:
        missing("root, for a disk of its own")
    image, where = tmp_path / "disk.img", tmp_path / "disk"
    where.mkdir()
    with image.open("wb") as stream:
        stream.truncate(64 << 20)
    subprocess.run([need("mkfs.ext4"), "-q", image], check=True)
    done = subprocess.run(["mount", "-o", "loop", image, where], capture_output=True, check=False)
    if done.returncode != 0:
        missing("the right to mount a loop device")
    yield where
    subprocess.run(["umount", "-l", where], check=False)


def a_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_disk_turns_read_only(leeroy: Leeroy, disk: Path) -> None:
    """As after an error of the file system: no hook gets a yes; started anew it waits, then goes on."""
    port = a_port()
    leeroy.settings |= {"data": str(disk / "var"), "listen": f"127.0.0.1:{port}"}
    repo = leeroy.shop()
    leeroy.start()
    first = leeroy.push(repo)
    assert "done" == leeroy.until_over(first)
    subprocess.run(["mount", "-o", "remount,abort", disk], check=True)
    assert 503 == leeroy.hook(repo, delivery="read-only")[0]
    assert leeroy.process is not None
    if leeroy.process.poll() is None:
        leeroy.stop()
    else:
        leeroy._gone()
    with serving(leeroy) as again:
        until(lambda: "cannot be written: Read-only file system" in leeroy.log.read_text(), 20)
        status, _, text = until(lambda: answer(leeroy), 10)
        assert 503 == status and b"Read-only file system" in text
        assert again.poll() is None
    subprocess.run(["umount", "-l", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk.with_suffix(".img"), disk], check=True)
    leeroy.start()
    assert [first] == [build["id"] for build in leeroy.ask("list")]
    status, given = leeroy.hook(repo, delivery="read-only")
    assert 202 == status
    assert "done" == leeroy.until_over(given["builds"][0])


@contextlib.contextmanager
def serving(leeroy: Leeroy) -> Iterator[subprocess.Popen[bytes]]:
    """A server that need not come up; ended in the end."""
    with leeroy.log.open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "leeroy", "serve"],
            cwd=leeroy.folder, env=leeroy.environment(), stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
    try:
        yield server
    finally:
        server.terminate()
        server.wait(10)


def answer(leeroy: Leeroy) -> tuple[int, dict[str, str], bytes] | None:
    try:
        return leeroy.http("POST", "/hooks/github", b"{}" * 1000)
    except OSError:
        return None


def test_a_full_disk_at_the_start(leeroy: Leeroy, disk: Path) -> None:
    """It waits with 503, and serves within seconds of there being room, without being started anew."""
    port = a_port()
    leeroy.settings |= {"data": str(disk / "var"), "listen": f"127.0.0.1:{port}"}
    leeroy.url = f"http://127.0.0.1:{port}"
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "true"\n')
    leeroy.write_settings()
    leeroy.cli("migrate")
    with (disk / "ballast").open("wb") as ballast:
        try:
            while True:
                ballast.write(b"x" * 65536)
                ballast.flush()
        except OSError:
            pass
    with serving(leeroy) as server:
        found = until(lambda: answer(leeroy), 20)
        assert 503 == found[0] and b"No space left on device" in found[2]
        (disk / "ballast").unlink()
        until(lambda: (r := answer(leeroy)) is not None and r[0] == 401, 20, "it serves")
        assert server.poll() is None


def test_a_disk_fills_up_in_the_grace_period(leeroy: Leeroy, disk: Path) -> None:
    """Below min_free no deploy starts, `why` says for what it waits, and with room it goes on."""
    leeroy.settings |= {"data": str(disk / "var"), "min_free": "30MB"}
    leeroy.pipeline(
        'untested = true\n[[deploy]]\nenvironment = "production"\ngrace = "2s"\n'
        "run = 'echo deployed >> \"{world}/deployed\"'\n"
        '[[notify]]\nto = "env:OPS"\non = ["deploy_pending"]\n'
    )
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        leeroy.start()
        build = leeroy.ask("trigger", name="shop")["id"]
        until(lambda: leeroy.build(build)["deploy_at"], 10)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(40 << 20))
        until(lambda: "min_free is 30 MB" in leeroy.ask("why", id=build)["why"], 10)
        time.sleep(3)  # the period is over by now
        assert "deploy_pending" == leeroy.state(build)
        assert "min_free is 30 MB" in leeroy.build(build)["waiting_for"]
        assert not leeroy.marks("deployed")
        ballast.unlink()
        assert "done" == leeroy.until_over(build)
        assert ["deployed"] == leeroy.marks("deployed")
