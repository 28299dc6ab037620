"""Kill a process at the K-th of its system calls of one kind, while one build goes its way."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from leeroy.errors import LeeroyError, NotPossible
from leeroy.proof.installation import Installation
from leeroy.proof.people import People
from leeroy.terms import State
from tests.waiting import until

SHOP = """
repository = "{repository}"
secret = "env:CRASHTEST_HOOK"
[[test]]
name = "unit"
run = '''{script}'''
[[deploy]]
environment = "production"
run = '''{script}'''
grace = "0s"
verify = "true"
[[notify]]
to = "{phone}"
"""
TOOL = """
[[test]]
name = "unit"
run = '''{script}'''
[[deploy]]
environment = "rack"
run = '''{script}'''
approve = true
[[notify]]
to = "{phone}"
"""


@dataclass(frozen=True)
class Way:
    """
    Who is killed at which call, and what the build does then.

    `victim` is the server, the runner's parent, or a supervisor: the first
    one to get so far after a "push" (the checkout's), a "trigger" (the
    test's) or an "approval" (the deploy's).
    """

    victim: str
    at: str
    call: str
    kind: str = "sqlite"

    def __str__(self) -> str:
        return f"{self.victim}-{self.at}-{self.call}-{self.kind}"


class Trap:
    """
    strace on a process and what it forks: whoever makes its K-th *call* dies there.

    Each thread counts for itself.  What is executed (scripts, git) is let go of.
    """

    def __init__(self, strace: str, pid: int, call: str, number: int, log: Path) -> None:
        log.unlink(missing_ok=True)
        self._log = log
        self._strace = subprocess.Popen(
            [
                strace, "-f", "--detach-on=execve", "-o", log, "-p", str(pid), "-e", f"trace={call}",
                "-e", f"inject={call}:signal=SIGKILL:when={number}",
            ],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        tasks = Path(f"/proc/{pid}/task")
        until(lambda: all(_traced(task) for task in tasks.iterdir()), 300, "strace is attached")

    def sprung(self) -> bool:
        """Whether somebody died in it."""
        return b"+++ killed by SIGKILL +++" in self._log.read_bytes()

    def release(self) -> None:
        """Let everybody go; a strace that waits for what has died is killed itself."""
        self._strace.send_signal(signal.SIGTERM)
        try:
            self._strace.wait(3)
        except subprocess.TimeoutExpired:
            self._strace.kill()
            self._strace.wait()


def _traced(task: Path) -> bool:
    try:
        return "TracerPid:\t0" not in (task / "status").read_text()
    except OSError:
        return True  # a thread that has ended


class Course:
    """One installation that is killed again and again, a build for each K."""

    def __init__(self, there: Installation, people: People, strace: str) -> None:
        self._there = there
        self._people = people
        self._strace = strace
        self._pause = threading.Event()  # never set: a pause that nothing cuts short
        self.builds = 0
        self.kills = 0
        there.define("shop", SHOP)
        there.define("tool", TOOL)

    def start(self) -> None:
        """Serve."""
        self._there.up()

    def hit(self, way: Way, number: int) -> bool:
        """Whether anybody died at the K-th call; however that was, the build has ended."""
        there = self._there
        if way.at == "approval":
            build = self._people.trigger("tool")
            until(lambda: State.deploy_pending == there.call("show", id=build)["state"], 300)
        pid = there.pid if way.victim == "server" else there.parents()[0]
        trap = Trap(self._strace, pid, way.call, number, there.folder / "trace")
        try:
            with contextlib.suppress(LeeroyError, OSError):
                if way.at == "push":
                    self._people.deliver()
                elif way.at == "trigger":
                    self._people.trigger("tool")
                else:
                    there.call("approve", id=build)
            until(lambda: trap.sprung() or self._over(), 300, f"{way} {number}", pause=0.02)
            sprung = trap.sprung()
        finally:
            trap.release()
        until(self._started_and_over, 300, f"after {way} {number} the build ends", pause=0.02)
        self.builds += 1
        self.kills += sprung
        return sprung

    def _started_and_over(self) -> bool:
        """What `_over` says, with a server that runs: it may take a moment to be dead."""
        if not self._there.alive():
            self._there.end(signal.SIGKILL)
            self._people.look()
            self.start()
        return self._over()

    def _over(self) -> bool:
        """Whether every build is; what waits for a person is let go on."""
        try:
            self._people.redeliver()
            left = self._people.unfinished()
            for build in left:
                with contextlib.suppress(NotPossible):
                    if build["state"] == State.interrupted:
                        self._people.resolve(int(build["id"]))
                    elif build["state"] == State.deploy_pending and build["pipeline"] == "tool":
                        self._there.call("approve", id=build["id"])
        except (LeeroyError, OSError):
            return False  # it has just been killed
        return not left and not self._people.unanswered


def ended(there: Installation) -> None:
    """Nothing of it is left."""
    there.end(signal.SIGKILL)
    there.kill(there.left())
    (there.folder / "trace").unlink(missing_ok=True)
