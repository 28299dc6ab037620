"""A disk that gives errors, at exact system calls: what was seen is told, and nothing is made up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from leeroy.runner.runner import Run
from tests.functional.test_runner import Bench
from tests.injections import injected
from tests.parts import missing, need
from tests.servers import Leeroy
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
ERRORS = ["EIO", "ENOSPC", "EAGAIN", "ETIMEDOUT"] if TORTURE else ["EIO"]


def status_of(leeroy: Leeroy, repo: object, delivery: str) -> int | str:
    """The answer to a delivery; where there was none, why."""
    try:
        return leeroy.hook(repo, delivery=delivery)[0]  # type: ignore[arg-type]
    except (OSError, ValueError) as exc:
        return repr(exc)


def files(leeroy: Leeroy) -> list[Path]:
    database = leeroy.folder / "var" / "leeroy.db"
    return [database, Path(f"{database}-wal")]


@pytest.mark.parametrize("error", ERRORS)
def test_a_commit_that_is_not_durable_stops_the_server(leeroy: Leeroy, error: str) -> None:
    """It may or may not be on the disk: no yes, an end with a clear word, and the rows read anew."""
    repo = leeroy.shop()
    leeroy.start()
    first = leeroy.push(repo)
    assert "done" == leeroy.until_over(first)
    assert leeroy.process is not None
    server = leeroy.process
    with injected(server.pid, f"fsync,fdatasync:error={error}", paths=files(leeroy)):
        assert status_of(leeroy, repo, "doubtful") not in (200, 202)
        assert 1 == server.wait(20)
    leeroy._gone()
    assert "a write may or may not be on the disk" in leeroy.log.read_text()
    leeroy.start()
    status, answer = leeroy.hook(repo, delivery="doubtful")
    assert status in (200, 202)
    [again] = answer["builds"]
    assert "done" == leeroy.until_over(again)
    assert [again, first] == [build["id"] for build in leeroy.ask("list")]
    assert "replayed" in leeroy.cli("replay").stdout


@pytest.mark.parametrize(
    ("call", "error"),
    [("pread64", "EIO"), ("pwrite64", "ENOSPC")]
    + ([("pread64", "ETIMEDOUT"), ("pread64", "EAGAIN")] if TORTURE else []),
)
def test_an_error_before_the_commit_is_waited_for(leeroy: Leeroy, call: str, error: str) -> None:
    """Nothing was promised and nothing is stored: 503, and on by itself when the disk is well."""
    repo = leeroy.shop()
    leeroy.start()
    first = leeroy.push(repo)
    assert "done" == leeroy.until_over(first)
    assert leeroy.process is not None
    server = leeroy.process
    with injected(server.pid, f"{call}:error={error}", paths=files(leeroy)):
        # Another process writes, so that what the server has read before is no longer true.
        leeroy.cli("token", "add", "other", "--role", "viewer")
        assert [503, 503] == [status_of(leeroy, repo, "later") for _ in range(2)]
        assert server.poll() is None
    status, answer = until(
        lambda: (found := leeroy.hook(repo, delivery="later"))[0] != 503 and found, 20
    )
    assert 202 == status
    assert "done" == leeroy.until_over(answer["builds"][0])
    assert server.poll() is None
    assert 2 == len(leeroy.ask("list"))


def test_a_database_that_cannot_be_read_at_the_start(leeroy: Leeroy) -> None:
    """The server waits for its disk, says so, and needs no second start."""
    need("strace")  # asked for here already: what waits behind the gate could not be ended
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "true"\n')
    leeroy.write_settings()
    leeroy.cli("migrate")
    gate = leeroy.folder / "gate"
    leeroy.wrap = ["sh", "-c", f'while [ ! -e "{gate}" ]; do sleep 0.02; done; exec "$@"', "sh"]
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(leeroy.start)
        until(lambda: leeroy.process is not None)
        assert leeroy.process is not None
        with injected(leeroy.process.pid, "pread64:error=EIO", paths=files(leeroy)):
            gate.touch()
            said = "leeroy.db cannot be read: disk I/O error; see to its disk"
            until(lambda: said in leeroy.log.read_text(), 60)
            assert not starting.done()
        starting.result(60)
    assert "the disk takes something again" in leeroy.log.read_text()
    assert "done" == leeroy.until_over(leeroy.ask("trigger", name="shop")["id"])


# --- the supervisor's side


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A runner with an empty folder."""
    made = Bench(tmp_path)
    yield made
    made.runner.close()


def parent(bench: Bench) -> int:
    assert bench.runner._parent is not None
    return bench.runner._parent.pid


@pytest.mark.parametrize("error", ERRORS)
def test_a_supervisor_whose_fsync_fails(bench: Bench, error: str) -> None:
    """Before the script: it is not run, and said so.  After: what was seen is told all the same."""
    for count in range(1, 6):
        mark = bench.data / f"mark{count}"
        with injected(parent(bench), f"fsync:error={error}:when={count}"):
            run = f"r{count}"
            result = bench.run(run, f"echo said; echo x >> {mark}; exit 7", durable=True)
        assert Run.ended is bench.runner.look(run)
        if count <= 2:  # the lock's text, the name `begin`
            assert (None, None) == (result.exit_code, result.signal)
            assert (result.reason or "").startswith("cannot start: ")
            assert not mark.exists()
        else:  # the output, the result, its name
            assert (7, None) == (result.exit_code, result.reason)
            assert "x\n" == mark.read_text()
            assert "said\n" == bench.text(run)


def test_a_result_without_room_waits_for_it(bench: Bench) -> None:
    """The end of a deploy is not lost for want of some bytes."""
    pending = bench.data / "runs" / "r" / "result.tmp"
    with injected(parent(bench), "pwrite64:error=ENOSPC:when=1..2", paths=[pending]):
        result = bench.run("r", "exit 7", durable=True)
    assert 7 == result.exit_code


def test_no_process_to_be_had_for_a_moment(bench: Bench) -> None:
    """The run begins when there is one again, by the same order; for ever without, it never begins."""
    forks = "clone,clone3,fork,vfork:error=EAGAIN"
    with injected(parent(bench), f"{forks}:when=1..3", children=False):
        assert 0 == bench.run("r", "true").exit_code
    with injected(parent(bench), forks, children=False):
        bench.begin("never", "true")
        assert bench.ended["never"].wait(30)
    assert Run.prepared is bench.runner.look("never")
    assert bench.runner.revoke("never")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk that is full; its file `ballast` may go."""
    if os.geteuid() != 0:
        missing("root, for a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        missing("the right to mount")
    yield disk
    subprocess.run(["umount", "-l", disk], check=False)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            return ballast


def test_a_stop_on_a_full_disk(full: Path) -> None:
    """It cannot be written down, and yet it reaches the one who runs the script."""
    bench = Bench(full)
    try:
        bench.begin("r", "sleep 600", durable=True)
        until(lambda: bench.runner.look("r") is Run.running)
        fill(full)
        bench.runner.stop("r", "ann")
        assert bench.ended["r"].wait(20)
        assert "stopped" == bench.runner.result("r").reason
    finally:
        bench.runner.close()


def test_a_run_is_revoked_once_there_is_room(full: Path) -> None:
    """A revocation that found no room leaves nothing in the way of the next one."""
    bench = Bench(full)
    try:
        from leeroy.runner.runner import Spec

        bench.runner.prepare(
            Spec(run_id="r", script="true", argv=(), cwd="/", env={}, timeout_s=9,
                 max_log=1000, durable=True)
        )  # fmt: skip
        ballast = fill(full)
        with pytest.raises(OSError, match="No space left"):
            bench.runner.revoke("r")
        ballast.unlink()
        assert bench.runner.revoke("r")
    finally:
        bench.runner.close()
