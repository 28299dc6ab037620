"""Who uses a Leeroy under test: forges that deliver, people that wish, and their answers."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from leeroy.db import picture
from leeroy.db.engine import Database
from leeroy.errors import LeeroyError, NotPossible
from leeroy.model import Event
from leeroy.proof import telling, world
from leeroy.proof.history import Answer, Frozen, History, Taken
from leeroy.proof.installation import Installation
from leeroy.terms import Stage, State

_OPEN = 4
_SLOW = 8
"""Each so many builds one whose deploy takes seconds."""
_PAUSE_S = 0.05
_SETTLE_S = 180.0


class People:
    """
    Keeps an installation busy, and remembers every answer.

    `use` asks once; `start` asks again and again in a thread of its own, until
    `stop`.  A server that is being killed does not answer: then nothing was
    promised, and a forge delivers again (`unanswered` are those to come).
    """

    def __init__(self, installation: Installation, dice: random.Random) -> None:
        self.there = installation
        self.dice = dice
        self.taken: list[Taken] = []
        self.answers: list[Answer] = []
        self.freezes: list[Frozen] = []
        self.seen: dict[tuple[int, int], Event] = {}
        self.errors: list[BaseException] = []
        self.unanswered: list[str] = []
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def start(self) -> None:
        """Use it from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for nothing more; what is being asked is answered first."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def _go_on(self) -> None:
        while not self._stopping.is_set():
            try:
                self.use()
            except (LeeroyError, OSError):
                self._stopping.wait(2 * _PAUSE_S)  # it is being killed
            except BaseException as exc:
                self.errors.append(exc)
                return
            self._stopping.wait(_PAUSE_S)

    # --- what they do

    def use(self) -> None:
        """One look at what there is, and what somebody does about it."""
        self.redeliver()
        waiting = self.unfinished()
        if len(waiting) < _OPEN:
            number = next(self._numbers)
            if number % 2:
                self.deliver()
            else:
                self.trigger("tool" if number % _SLOW else "crane")
        for build in waiting:
            if build["state"] == State.interrupted:
                self.resolve(int(build["id"]))
            elif self.dice.random() < 0.02:
                self.cancel(int(build["id"]))

    def unfinished(self) -> list[dict[str, Any]]:
        """The builds that are not over, as far as the first page shows them."""
        return [b for b in self.there.call("list", limit=20) if b["finished_at"] is None]

    def trigger(self, pipeline: str) -> int:
        """Start a pipeline by hand; the build's number."""
        made = int(self.there.call("trigger", name=pipeline)["id"])
        self.taken.append(Taken(delivery=None, builds=(made,)))
        return made

    def deliver(self) -> None:
        """A push, told by the forge until it is answered."""
        self.unanswered.append(f"delivery-{time.monotonic_ns()}")
        self.redeliver()

    def redeliver(self) -> None:
        """A forge sends again what was not answered."""
        for delivery in list(self.unanswered):
            builds = self.there.push(delivery)
            if builds is not None:
                self.unanswered.remove(delivery)
                self.taken.append(Taken(delivery=delivery, builds=builds))

    def cancel(self, number: int) -> str:
        """Ask for a stop; what was answered."""
        asked, verdict = world.now(), "unknown"
        with contextlib.suppress(LeeroyError, OSError):
            try:
                shown = self.there.call("cancel", id=number)
                verdict = "cancelled" if shown["state"] == State.cancelled else "stopping"
            except NotPossible:
                verdict = "too_late"
        self.answers.append(
            Answer(build=number, asked_at=asked, answered_at=world.now(), verdict=verdict)
        )
        return verdict

    def resolve(self, number: int) -> None:
        """What a person does: look whether it still runs, then say how it ended."""
        runs = set(self.there.scripts().values())
        if any(run.startswith(f"{number}-") for run in runs):
            return
        shown = self.there.call("show", id=number)
        where = shown["environment"]
        ended = any(
            (mark.build, mark.stage, mark.environment, mark.what)
            == (number, Stage.deploy, where, "end")
            for mark in world.read(self.there.log)
        )
        outcome = "done" if ended else self.dice.choice(["failed", "again"])
        with contextlib.suppress(NotPossible):
            self.there.call(
                "resolve", id=number, outcome=outcome, environment=where, reason="looked"
            )

    # --- what there is to see

    def rows(self) -> picture.Picture:
        """The rows as they are now."""
        database = Database(self.there.database)
        try:
            return database.read(picture.look)
        finally:
            database.close()

    def look(self) -> None:
        """What is committed now must be there in the end."""
        rows = self.rows()
        self.seen |= {(e.build_id, e.seq): e for events in rows.events.values() for e in events}

    def settle(
        self,
        within_s: float = _SETTLE_S,
        meanwhile: Callable[[], None] = lambda: None,
        *,
        tried: bool = False,
    ) -> bool:
        """
        Wait until everything is over and told; False when it is not in time.

        `tried`: of a notice it is enough that it was tried, for its target was away.
        """
        deadline = time.monotonic() + within_s
        pause = threading.Event()  # never set: a pause that nothing cuts short
        while time.monotonic() < deadline:
            with contextlib.suppress(LeeroyError):
                meanwhile()
            self.redeliver()
            rows = self.rows()
            for number, build in rows.builds.items():
                if build.state is State.interrupted:
                    self.resolve(number)
            waits = list(telling.untried(rows.notices) if tried else telling.waiting(rows.notices))
            if not waits and all(build.state.over for build in rows.builds.values()):
                return True
            pause.wait(0.2)
        return False

    def history(self) -> History:
        """All that is known when everything has come to its end."""
        return History(
            rows=self.rows(),
            marks=world.read(self.there.log),
            answers=self.answers,
            freezes=self.freezes,
            taken=self.taken,
            seen=self.seen,
            wall_s=time.time() - world.now(),
            settled=True,
        )
