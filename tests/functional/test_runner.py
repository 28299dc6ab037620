"""Scripts run once, under a supervisor of their own, and their end is known."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leeroy.errors import NotFound
from leeroy.runner.rundir import RunDirs
from leeroy.runner.runner import Result, Run, Runner, Spec
from tests.waiting import until


class Bench:
    """A runner, and the ends it heard of."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.ended: dict[str, threading.Event] = {}
        self.runner = Runner(data, self.end)
        self.runner.start()

    def end(self, run_id: str) -> None:
        """What the runner calls."""
        self.ended.setdefault(run_id, threading.Event()).set()

    def begin(self, run_id: str, script: str, **values: Any) -> str:
        """Start a script."""
        values = {
            "argv": ("url", "main", "1"),
            "cwd": str(self.data),
            "env": {"PATH": "/usr/bin:/bin"},
            "timeout_s": 60.0,
            "max_log": 1_000_000,
            "durable": False,
            "grace_s": 0.3,
        } | values
        self.ended[run_id] = threading.Event()
        self.runner.prepare(Spec(run_id=run_id, script=script, **values))
        self.runner.launch(run_id)
        return run_id

    def run(self, run_id: str, script: str, **values: Any) -> Result:
        """Start a script and wait for its end."""
        self.begin(run_id, script, **values)
        assert self.ended[run_id].wait(30), self.runner.look(run_id)
        return self.runner.result(run_id)

    def text(self, run_id: str) -> str:
        """Its whole output."""
        found = b""
        at = 0
        while (piece := self.runner.read(run_id, at, 1 << 20)).data:
            found += piece.data
            at = piece.offset + len(piece.data)
        return found.decode()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A runner with an empty folder."""
    made = Bench(tmp_path)
    yield made
    made.runner.close()


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [("true", 0, None), ("exit 3", 3, None), ("false; true", 1, None), ("kill -9 $$", None, 9)],
)
def test_how_a_script_ended(bench: Bench, script: str, code: int | None, number: int) -> None:
    """Exit code or signal as they were; a shell stops at its first failed command."""
    result = bench.run("r", script)
    assert (code, number, None) == (result.exit_code, result.signal, result.reason)
    assert Run.ended is bench.runner.look("r")


def test_a_script_without_output(bench: Bench) -> None:
    """Its log is empty, and reading it is no mistake."""
    bench.run("r", "true")
    piece = bench.runner.read("r", 0, 100)
    assert (0, b"", 0) == (piece.offset, piece.data, piece.dropped_before)


def test_arguments_and_environment(bench: Bench) -> None:
    """The script gets its arguments, its environment, and nothing else of the server's."""
    bench.run("r", 'echo "$1 $2 $3"; tr "\\0" "\\n" < /proc/$$/environ | cut -d= -f1 | sort')
    assert ["url main 1", "LEEROY_RUN", "LEEROY_RUN_DIR", "PATH"] == [
        line for line in bench.text("r").split("\n") if line and line not in ("PWD", "_")
    ]


def test_no_descriptor_but_its_three_leaks_into_a_script(bench: Bench) -> None:
    """A script must not be able to speak to the server in a supervisor's name."""
    bench.run("r", '#!/usr/bin/env python3\nimport os\nprint(sorted(os.listdir("/proc/self/fd")))')
    # the fourth is the listing's own
    assert "['0', '1', '2', '3']" == bench.text("r").strip()


def test_another_interpreter(bench: Bench) -> None:
    """A first line with #! names it; the arguments are the same."""
    bench.run("r", "#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:])")
    assert "['url', 'main', '1']" == bench.text("r").strip()


def test_a_timeout_ends_the_whole_tree(bench: Bench) -> None:
    """TERM first; whoever ignores it is killed, in a session of its own or not."""
    script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$; sleep 60' & wait; sleep 60"
    result = bench.run("r", script, timeout_s=0.5)
    assert "timeout" == result.reason
    assert not alive(int(bench.text("r").split()[0]))


@pytest.mark.parametrize("left", ["setsid sleep 60 &", "(sleep 60 &)", "sleep 60 <&- >&- 2>&- &"])
def test_a_step_ends_with_its_tree(bench: Bench, left: str) -> None:
    """What a script leaves behind is dead before its end is told, and the exit code stays."""
    result = bench.run("r", f"{left}\necho left; exit 4")
    assert 4 == result.exit_code
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mark = b"LEEROY_RUN_DIR=" + str(bench.data / "runs" / "r").encode()
            assert mark not in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue


def test_output_whole_and_in_order(bench: Bench) -> None:
    """Binary too: length and hash are of what was written."""
    script = (
        "#!/usr/bin/env python3\nimport sys\n"
        "for i in range(3000): sys.stdout.buffer.write(bytes([i % 256]) * 100)\n"
    )
    result = bench.run("r", script)
    wanted = b"".join(bytes([i % 256]) * 100 for i in range(3000))
    assert wanted == bench.runner.read("r", 0, 1 << 20).data
    assert (len(wanted), hashlib.sha256(wanted).hexdigest()) == (result.raw_bytes, result.sha256)


def test_output_beyond_the_limit(bench: Bench) -> None:
    """Head and tail are kept, and the gap between them is known to the byte."""
    result = bench.run("r", "seq 1 2000000", max_log=1_000_000)
    assert result.dropped_bytes > 0
    at, kept, gaps, first, last = 0, 0, 0, b"", b""
    while (piece := bench.runner.read("r", at, 1 << 16)).data:
        kept += len(piece.data)
        gaps += piece.dropped_before
        first, last = first or piece.data, piece.data
        at = piece.offset + len(piece.data)
    assert result.raw_bytes == kept + gaps == at
    assert result.dropped_bytes == gaps
    assert first.startswith(b"1\n2\n3\n") and last.endswith(b"\n2000000\n")


def test_output_of_a_run_that_goes_away_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end was recorded between two looks: there is no such run, as for any other."""
    runs = RunDirs(tmp_path)
    (tmp_path / "1-1-x").mkdir()
    monkeypatch.setattr(RunDirs, "_existing", lambda self, run_id: f"{tmp_path}/{run_id}")
    assert b"" == runs.read("1-1-x", 0, 10).data
    (tmp_path / "1-1-x").rmdir()
    with pytest.raises(NotFound):
        runs.read("1-1-x", 0, 10)


def test_stop(bench: Bench) -> None:
    """A person's stop ends the tree; the result says so; a second one changes nothing."""
    bench.begin("r", "echo here; sleep 60")
    until(lambda: bench.text("r"))
    bench.runner.stop("r", "ann")
    bench.runner.stop("r", "ann")
    assert bench.ended["r"].wait(10)
    assert "stopped" == bench.runner.result("r").reason


def test_revoked_it_never_begins(bench: Bench) -> None:
    """Exactly one of revoke and begin wins, every time."""
    for number in range(60):
        mark = bench.data / f"mark{number}"
        run_id = bench.begin(f"r{number}", f"touch {mark}")
        if number % 3:
            until(lambda run_id=run_id: bench.runner.look(run_id) is not Run.prepared, pause=0.0005)
        if bench.runner.revoke(run_id):
            assert Run.revoked is bench.runner.look(run_id)
            assert not mark.exists()
        else:
            assert bench.ended[run_id].wait(10)
            assert mark.exists()


def test_a_supervisor_that_was_killed(bench: Bench) -> None:
    """The run is lost, nobody claims a result, and what is left of it can be ended."""
    bench.begin("r", "echo $$; while :; do sleep 0.05; echo on; done")
    pid = int(until(lambda: bench.text("r")).split()[0])
    found = bench.runner.runs.supervised("r")
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    assert bench.ended["r"].wait(10)
    assert Run.lost is bench.runner.look("r")
    before = len(bench.text("r"))
    until(lambda: len(bench.text("r")) > before, what="no SIGPIPE: the output is drained")
    assert alive(pid)
    assert bench.runner.clear("r")
    assert not alive(pid)


def test_a_directory_that_was_there_is_known_to_have_been(bench: Bench) -> None:
    """Absent is "never began" only where none was made: whoever looks, after whatever crash."""
    folder = bench.data / "runs"

    def found(run_id: str) -> bool:
        later = RunDirs(folder)
        later.open()
        return later.vanished(run_id)

    for run_id, durable in (("test", False), ("deploy", True), ("over", True), ("crashed", True)):
        bench.run(run_id, "true", durable=durable)
    assert not any(found(run_id) for run_id in ("test", "deploy", "never"))
    bench.runner.forget("over")
    (folder / ".noted-crashed").unlink()  # a crash in between, when it was made or forgotten
    assert not found("over") and not found("crashed")
    for run_id in ("test", "deploy"):
        shutil.rmtree(folder / run_id)
    assert not found("test"), "it may be repeated, so that nothing is noted"
    assert found("deploy") and bench.runner.vanished("deploy")
    assert ["crashed", "deploy"] == bench.runner.all()
    for run_id in bench.runner.all():
        bench.runner.forget(run_id)
    assert not found("deploy")
    assert [".mark"] == [path.name for path in folder.iterdir()]


_SERVER = """
import sys, time
from pathlib import Path
from tests.functional.test_runner import Bench
bench = Bench(Path(sys.argv[1]))
bench.begin("r", sys.argv[2])
print("launched", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("when", ["while it runs", "after it ended"])
def test_a_killed_server_finds_its_scripts_again(tmp_path: Path, when: str) -> None:
    """The script ran once, its exit code is right, its log whole."""
    go = tmp_path / "go"
    script = f"echo started >> {tmp_path}/world; while ! [ -e {go} ]; do sleep 0.02; done; exit 7"
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(tmp_path), script], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    server.stdout.readline()
    until((tmp_path / "world").exists)
    server.kill()
    server.communicate()
    if when == "after it ended":
        go.touch()
        until((tmp_path / "runs" / "r" / "result.json").exists)
    bench = Bench(tmp_path)
    try:
        bench.ended["r"] = threading.Event()
        assert bench.runner.look("r") is (Run.running if when == "while it runs" else Run.ended)
        bench.runner.watch("r")
        go.touch()
        assert bench.ended["r"].wait(10)
        until(lambda: bench.runner.look("r") is Run.ended)
        assert 7 == bench.runner.result("r").exit_code
        assert "started\n" == (tmp_path / "world").read_text()
    finally:
        bench.runner.close()
