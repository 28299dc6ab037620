"""
`leeroy crashtest`: kill a throw-away Leeroy again and again, then judge its history.

Everything is real: a server, its runner, scripts, a git repository, signed
deliveries, somebody who is told.  It lives in a temporary folder and on free
ports, and nothing is left of it, also when it is asked to end (SIGTERM,
SIGHUP, SIGINT).  Killed itself (SIGKILL) it leaves the folder; its server dies
with it, and the scripts that run then end within a second.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leeroy.errors import Unavailable
from leeroy.proof.checker import check
from leeroy.proof.history import History, Violation
from leeroy.proof.installation import Installation, phone
from leeroy.proof.people import People
from leeroy.terms import Move, Stage

VICTIMS = ("server", "supervisors", "parent", "starting server", "everything")
"""Who is killed: at random, and every third time just after a deploy's script began."""

_BEGUN = re.compile(rb" start \d+ deploy ")
ROOM = 32 << 20
"""What the folder of a long storm comes to, and then some: less would end in waiting for room."""
_SERVER_DIES = frozenset({"server", "starting server", "everything"})


@dataclass
class Report:
    """What a crash test did, and what it found."""

    seconds: float = 0.0
    builds: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    deploys: int = 0
    interrupted: int = 0
    withdrawn: int = 0
    requeued: int = 0
    cancels: int = 0
    slowest_start_s: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            **{k: v for k, v in self.__dict__.items() if k not in ("kills", "states")},
            "kills": self.kills.total(),
            "killed": dict(self.kills),
            "states": dict(self.states),
        }


def run(
    *,
    kills: int,
    progress: Callable[[str], None] = lambda _: None,
    victims: Sequence[str] = VICTIMS,
    builds: int = 0,
    database: str | None = None,
    seed: int | None = None,
) -> Report:
    """
    Make that many kills (and at least so many *builds*), then judge.

    Raises Unavailable when the test itself cannot be made.
    """
    if shutil.which("git") is None:
        raise Unavailable("the crash test needs git; install it first")
    _see_room()
    with (
        _orderly(),
        tempfile.TemporaryDirectory(prefix="leeroy-crash-", ignore_cleanup_errors=True) as folder,
        phone() as told,
    ):
        installation = Installation(Path(folder).resolve(), told, database)
        storm = _Storm(installation, random.Random(seed), progress)  # noqa: S311 - no secret
        try:
            return storm.tell(kills, victims, builds)
        finally:
            installation.end(signal.SIGKILL)
            while installation.kill(installation.left()):  # who is being killed may have forked
                threading.Event().wait(0.02)


def _see_room() -> None:
    where = tempfile.gettempdir()
    free = shutil.disk_usage(where).free
    if free < ROOM:
        raise Unavailable(
            f"the crash test needs {ROOM >> 20} MiB in {where}, and {free / (1 << 20):.1f} are "
            "free; make room, or set TMPDIR to a folder on another disk"
        )


@contextmanager
def _orderly() -> Iterator[None]:
    """A signal that asks to end raises, once, so that all is cleaned up; then it is obeyed."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number: int, _frame: object) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {n: old for n in numbers if (old := signal.getsignal(n)) != signal.SIG_IGN}
    for one in before:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one, old in before.items():
            signal.signal(one, old)


class _Storm:
    def __init__(
        self, installation: Installation, dice: random.Random, progress: Callable[[str], None]
    ) -> None:
        self._there = installation
        self._dice = dice
        self._progress = progress
        self._people = People(installation, dice)
        self._pause = threading.Event()  # never set: a pause that nothing cuts short
        self._report = Report()

    def tell(self, kills: int, victims: Sequence[str], builds: int) -> Report:
        began = time.monotonic()
        self._start()
        people = self._people
        people.start()
        try:
            while (done := self._report.kills.total()) < kills or len(people.taken) < builds:
                if people.errors:
                    raise people.errors[0]
                if done < kills:
                    self._one_kill(self._dice.choice(list(victims)), number=done)
                    self._progress(f"{self._report.kills.total()} of {kills} kills")
                else:
                    self._pause.wait(0.2)
        finally:
            people.stop()
        self._progress("no more kills; everything comes to its end")
        if not people.settle():
            self._progress("not everything came to its end")
        history = people.history()
        found = check(history)
        for pid, run in self._there.scripts().items():
            found.append(Violation("E4", None, f"process {pid} of run {run} is left"))
        self._there.end(signal.SIGTERM)
        return self._count(history, found, time.monotonic() - began)

    def _start(self) -> None:
        began = time.monotonic()
        self._there.up()
        took = time.monotonic() - began
        self._report.slowest_start_s = max(self._report.slowest_start_s, round(took, 2))

    def _one_kill(self, victim: str, number: int) -> None:
        if number % 3 == 0:
            self._until_a_deploy_begins()
        else:
            self._pause.wait(self._dice.uniform(0.02, 0.6))
        there = self._there
        if victim == "supervisors":
            killed = there.kill(there.supervisors())
        elif victim == "parent":
            killed = there.kill(there.parents())
        else:
            if victim == "everything":
                there.kill([*there.supervisors(), *there.parents(), *there.scripts()])
            there.end(signal.SIGKILL)
            killed = 1
            if victim == "starting server":
                there.spawn()
                self._pause.wait(self._dice.uniform(0.05, 0.8))
                there.end(signal.SIGKILL)
        self._report.kills[victim] += killed
        if victim in _SERVER_DIES:
            self._people.look()
            self._start()

    def _until_a_deploy_begins(self) -> None:
        begun = self._deploys_begun()
        deadline = time.monotonic() + 3
        while self._deploys_begun() == begun and time.monotonic() < deadline:
            self._pause.wait(0.01)

    def _deploys_begun(self) -> int:
        log = self._there.log
        return len(_BEGUN.findall(log.read_bytes())) if log.exists() else 0

    def _count(self, history: History, found: list[Violation], seconds: float) -> Report:
        report = self._report
        moves = Counter(e.move for events in history.rows.events.values() for e in events)
        report.seconds = round(seconds, 1)
        report.builds = len(history.rows.builds)
        report.deploys = sum(
            (mark.stage, mark.what) == (Stage.deploy, "start") for mark in history.marks
        )
        report.interrupted = moves[Move.lose]
        report.withdrawn = moves[Move.withdraw]
        report.requeued = moves[Move.requeue]
        report.cancels = len(history.answers)
        report.states = Counter(str(build.state) for build in history.rows.builds.values())
        report.violations = [str(violation) for violation in found]
        return report
