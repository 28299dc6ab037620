"""
`leeroy crashtest`: kill a throw-away Leeroy again and again, then judge its history.

Everything is real: a server, its runner, scripts, a git repository, signed
deliveries, somebody who is told.  It lives in a temporary folder and on free
ports, and nothing is left of it.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leeroy.db import picture
from leeroy.db.engine import Database
from leeroy.errors import LeeroyError, NotPossible, Unavailable
from leeroy.model import Event, Move, Stage, State
from leeroy.proof import world
from leeroy.proof.checker import check
from leeroy.proof.history import Answer, History, Taken, Violation
from leeroy.proof.installation import Installation, phone

VICTIMS = ("server", "supervisors", "parent", "starting server", "everything")
"""Who is killed: at random, and every third time just after a deploy's script began."""

_OPEN = 4
_SETTLE_S = 60.0
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
    with (
        tempfile.TemporaryDirectory(prefix="leeroy-crash-", ignore_cleanup_errors=True) as folder,
        phone() as told,
    ):
        installation = Installation(Path(folder).resolve(), told, database)
        storm = _Storm(installation, random.Random(seed), progress)  # noqa: S311 - no secret
        try:
            return storm.tell(kills, victims, builds)
        finally:
            installation.end(signal.SIGKILL)
            installation.kill([*installation.scripts(), *installation.supervisors()])


class _Storm:
    def __init__(
        self, installation: Installation, dice: random.Random, progress: Callable[[str], None]
    ) -> None:
        self._there = installation
        self._dice = dice
        self._progress = progress
        self._stopping = threading.Event()
        self._pause = threading.Event()  # never set: a pause that nothing cuts short
        self._report = Report()
        self._taken: list[Taken] = []
        self._answers: list[Answer] = []
        self._seen: dict[tuple[int, int], Event] = {}
        self._unanswered: list[str] = []
        self._numbers = itertools.count(1)
        self._errors: list[BaseException] = []

    def tell(self, kills: int, victims: Sequence[str], builds: int) -> Report:
        began = time.monotonic()
        self._start()
        traffic = threading.Thread(target=self._traffic, daemon=True)
        traffic.start()
        try:
            while (done := self._report.kills.total()) < kills or len(self._taken) < builds:
                if self._errors:
                    raise self._errors[0]
                if done < kills:
                    self._one_kill(self._dice.choice(list(victims)), number=done)
                    self._progress(f"{self._report.kills.total()} of {kills} kills")
                else:
                    self._pause.wait(0.2)
        finally:
            self._stopping.set()
            traffic.join(30)
        self._progress("no more kills; everything comes to its end")
        settled = self._settle()
        history = self._history(settled)
        found = check(history)
        for pid, run in self._there.scripts().items():
            found.append(Violation("E4", None, f"process {pid} of run {run} is left"))
        self._there.end(signal.SIGTERM)
        return self._count(history, found, time.monotonic() - began)

    # --- who kills

    def _start(self) -> None:
        began = time.monotonic()
        self._there.spawn()
        self._there.ready()
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
            self._look()
            self._start()

    def _until_a_deploy_begins(self) -> None:
        begun = self._deploys_begun()
        deadline = time.monotonic() + 3
        while self._deploys_begun() == begun and time.monotonic() < deadline:
            self._pause.wait(0.01)

    def _deploys_begun(self) -> int:
        log = self._there.log
        return log.read_bytes().count(b" deploy ") if log.exists() else 0

    def _look(self) -> None:
        """What is committed now must be there in the end."""
        rows = self._rows()
        self._seen |= {(e.build_id, e.seq): e for events in rows.events.values() for e in events}

    def _rows(self) -> picture.Picture:
        database = Database(self._there.database)
        try:
            return database.read(picture.look)
        finally:
            database.close()

    # --- who uses it

    def _traffic(self) -> None:
        while not self._stopping.is_set():
            try:
                self._use_it()
            except (LeeroyError, OSError):
                self._pause.wait(0.1)  # it is being killed
            except BaseException as exc:
                self._errors.append(exc)
                return
            self._pause.wait(0.05)

    def _use_it(self) -> None:
        self._redeliver()
        found = self._there.call("list", limit=20)
        waiting = [b for b in found if b["finished_at"] is None]
        if len(waiting) < _OPEN:
            if next(self._numbers) % 2:
                self._unanswered.append(f"delivery-{time.monotonic_ns()}")
                self._redeliver()
            else:
                made = self._there.call("trigger", name="tool")
                self._taken.append(Taken(delivery=None, builds=(int(made["id"]),)))
        for build in waiting:
            if build["state"] == State.interrupted:
                self._resolve(int(build["id"]))
            elif self._dice.random() < 0.02:
                self._cancel(int(build["id"]))

    def _redeliver(self) -> None:
        """A forge sends again what was not answered."""
        for delivery in list(self._unanswered):
            builds = self._there.push(delivery)
            if builds is not None:
                self._unanswered.remove(delivery)
                self._taken.append(Taken(delivery=delivery, builds=builds))

    def _cancel(self, number: int) -> None:
        asked, verdict = world.now(), "unknown"
        try:
            shown = self._there.call("cancel", id=number)
            verdict = "cancelled" if shown["state"] == State.cancelled else "stopping"
        except NotPossible:
            verdict = "too_late"
        except (LeeroyError, OSError):
            verdict = "unknown"
        self._answers.append(
            Answer(build=number, asked_at=asked, answered_at=world.now(), verdict=verdict)
        )

    def _resolve(self, number: int) -> None:
        """What a person does: look whether it still runs, then say how it ended."""
        runs = set(self._there.scripts().values())
        if any(run.startswith(f"{number}-") for run in runs):
            return
        shown = self._there.call("show", id=number)
        where = shown["environment"]
        ended = any(
            (mark.build, mark.stage, mark.environment, mark.what)
            == (number, Stage.deploy, where, "end")
            for mark in world.read(self._there.log)
        )
        outcome = "done" if ended else self._dice.choice(["failed", "again"])
        with contextlib.suppress(NotPossible):
            self._there.call(
                "resolve", id=number, outcome=outcome, environment=where, reason="looked"
            )

    # --- in the end

    def _settle(self) -> bool:
        """Wait until everything is over; False when it is not after a minute."""
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            self._redeliver()
            rows = self._rows()
            for number, build in rows.builds.items():
                if build.state is State.interrupted:
                    self._resolve(number)
            waits = any(n.state == "waiting" for n in rows.notices)
            if not waits and all(build.state.over for build in rows.builds.values()):
                return True
            self._pause.wait(0.2)
        return False

    def _history(self, settled: bool) -> History:
        if not settled:
            self._progress("not everything came to its end")
        return History(
            rows=self._rows(),
            marks=world.read(self._there.log),
            answers=self._answers,
            taken=self._taken,
            seen=self._seen,
            wall_s=time.time() - world.now(),
            settled=True,
        )

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
