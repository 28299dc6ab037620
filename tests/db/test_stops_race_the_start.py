"""Cancel, hold and freeze at every instant around a deploy's start: what was answered holds."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from leeroy import config, context, onward, operations
from leeroy.advance import accept, advance
from leeroy.clock import Clock
from leeroy.db import builds, outbox, picture
from leeroy.db.engine import Database
from leeroy.errors import NotPossible, Unavailable
from leeroy.proof import world
from leeroy.proof.checker import check
from leeroy.proof.history import Answer, Frozen, History, Mark
from leeroy.runner.rundir import Result
from leeroy.runner.runner import Run
from leeroy.scheduler import ending, waiting
from leeroy.scheduler.acts import DropWatch, End, Launch, StartWatch, WatchKey
from leeroy.terms import Move, Stage, State
from tests import longrun
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
ROUNDS = 10_000 if TORTURE else 200
AT_ONCE = 10
"""Rounds that share a grace period, each with a pipeline of its own."""
GRACE_S = 0.03
AROUND_S = 0.012
ASKED = ("cancel", "hold", "freeze")
PIPELINE = f"""
untested = true
[[deploy]]
environment = "production"
run = "true"
grace = "{GRACE_S * 1000:.0f}ms"
[[notify]]
to = "env:OPS"
on = ["deploy_pending", "cancelled"]
"""
GOOD = Result(0, None, None, 0.0, 1.0, 0, 0, "0" * 64)


class Races:
    """Deploys that are about to start, a loop that starts them, and people who would rather not."""

    def __init__(self, database: Database, here: context.Context) -> None:
        self.database = database
        self.here = here
        self.people = Database(database.url.render_as_string(hide_password=False))
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.violations: list[str] = []
        self._dice = random.Random(5)
        self._forget()

    def _forget(self) -> None:
        self.watches: dict[WatchKey, float] = {}
        self.marks: list[Mark] = []
        self.answers: list[Answer] = []
        self.freezes: list[Frozen] = []

    # --- the loop, without processes

    def turn(self) -> None:
        """What one turn of the scheduler does about deploys that are due."""
        mono = time.monotonic()
        seen = waiting.Watching(
            name="me", away_s=0.0, room=None, cleared=frozenset(),
            watched={key: mono - since for key, since in self.watches.items()},
        )  # fmt: skip
        find = partial(builds.due, now=datetime.now(UTC), states=[State.deploy_pending])
        jobs = [
            partial(waiting.look, context=self.here, build_id=build.id, watching=seen)
            for build in self.database.read(find)
        ]
        for future in self.database.submit_all(jobs):
            with contextlib.suppress(Unavailable):  # then nothing was decided; the loop looks again
                for act in future.result():
                    self._act(act)

    def _act(self, act: object) -> None:
        if isinstance(act, Launch):
            step = act.step
            assert step.run_id is not None
            self.marks.append(
                Mark(
                    at=world.now(), what="start", build=step.build_id, stage=Stage.deploy,
                    name=step.name, environment=step.environment, attempt=step.attempt,
                    run=step.run_id, workspace=step.run_id,
                )
            )  # fmt: skip
        elif isinstance(act, StartWatch):
            self.watches[act.key] = time.monotonic()
        elif isinstance(act, DropWatch):
            self.watches = {k: at for k, at in self.watches.items() if k[0] != act.build_id}

    # --- the people

    def _do(self, what: str, **arguments: Any) -> Any:
        work = partial(operations.DO[what], context=self.here, actor="ada", **arguments)
        return self.people.transact(work)

    def ask(self, what: str, number: int, build: int, gate: threading.Barrier) -> None:
        """One wish, at an instant of chance around the start."""
        after = GRACE_S + self._dice.uniform(-AROUND_S, AROUND_S)
        gate.wait(30)
        threading.Event().wait(after)
        asked = world.now()
        try:
            verdict = self._freeze(number, build) if what == "freeze" else self._stop(what, build)
        except NotPossible:
            verdict = "too_late"
        except Unavailable:
            verdict = "unknown"
        if what == "cancel":
            self.answers.append(
                Answer(build=build, asked_at=asked, answered_at=world.now(), verdict=verdict)
            )
        self.outcomes[what, verdict] += 1

    def _stop(self, what: str, build: int) -> str:
        shown = self._do(what, id=build)
        return "held" if what == "hold" else str(shown["state"])

    def _freeze(self, number: int, build: int) -> str:
        self._do("freeze", which=f"p{number}/production")
        answered = world.now()
        now = self.people.read(partial(builds.get, build_id=build))
        assert now is not None
        still = {build: now.version} if now.state is State.deploy_pending else {}
        self.freezes.append(
            Frozen(
                pipeline=f"p{number}", environment="production", answered_at=answered, waiting=still
            )
        )  # fmt: skip
        return "frozen" if still else "too_late"

    # --- a round

    def run(self) -> None:
        """Some rounds at once, judged by every rule."""
        made = self.database.transact(self._announce)
        gate = threading.Barrier(len(made) + 1)
        with ThreadPoolExecutor(len(made)) as pool:
            asked = [
                pool.submit(self.ask, ASKED[(number + made[0]) % 3], number, build, gate)
                for number, build in enumerate(made)
            ]
            until(lambda: self.turn() or len(self.watches) == len(made), 30, pause=0.001)
            gate.wait(30)
            until(lambda: self.turn() or all(wish.done() for wish in asked), 30, pause=0.0005)
            for wish in asked:
                wish.result()
        # What was promised not to start has all the time in the world to do it.
        until(lambda: self.turn() or self._all_decided(made), 30, pause=0.001)
        self._judge()
        self._clear(made)
        self._forget()

    def _all_decided(self, made: list[int]) -> bool:
        """Whether each has started, is over, or waits for nothing but a person."""
        found = [self.database.read(partial(builds.get, build_id=build)) for build in made]
        return all(b and (b.state is not State.deploy_pending or b.due_at is None) for b in found)

    def _announce(self, conn: Connection) -> list[int]:
        """A deploy in each pipeline, of which somebody was told."""
        moment = self.here.at_one_moment()
        how: dict[str, Any] = {"now": moment.clock.now(), "actor": "scheduler@here", "house": ()}
        made = []
        for number in range(AT_ONCE):
            build = accept(
                conn, pipeline=f"p{number}", pipeline_text=PIPELINE, trigger="cli", branch=None,
                commit=None, **how,
            )  # fmt: skip
            build = advance(conn, build, Move.start, changes={"slot": number + 1}, **how)
            onward.onward(conn, advance(conn, build, Move.pass_, **how), **how)
            made.append(build.id)
        for notice in outbox.claim(conn, moment.clock.now(), 10 * AT_ONCE, "postman"):
            outbox.accept(conn, notice.id, "ops", moment.clock.now())
            outbox.sent(conn, notice.id, moment.clock.now())
        return made

    def _judge(self) -> None:
        history = History(
            rows=self.database.read(picture.look), marks=self.marks, answers=self.answers,
            freezes=self.freezes, wall_s=time.time() - world.now(),
        )  # fmt: skip
        self.violations += [str(violation) for violation in check(history)]

    def _clear(self, made: list[int]) -> None:
        """End what runs, take back what waits, and forget it all."""
        for mark in self.marks:
            self.database.transact(
                partial(ending.record, context=self.here, end=End(mark.run, Run.ended, GOOD))
            )
        with contextlib.suppress(NotPossible):  # nobody froze in this round
            self._do("thaw", which="*")
        for build in made:
            found = self.database.read(partial(builds.get, build_id=build))
            assert found is not None
            if not found.state.over:
                self._do("cancel", id=build)
            self.database.transact(partial(builds.delete, build_id=build))


@pytest.fixture
def here(tmp_path: Path) -> context.Context:
    """A host with the clocks of this machine."""
    loaded = config.load(None, {"LEEROY_DATA": str(tmp_path), "LEEROY_MIN_FREE": "0B"})
    return context.make(loaded, Clock(lambda: datetime.now(UTC), time.monotonic), {}, new=True)


@pytest.mark.timeout(3600 if TORTURE else 300)
def test_what_was_answered_holds_at_every_instant(
    database: Database, here: context.Context, gave: longrun.Tell
) -> None:
    """Cancelled, held and frozen mean that it does not start; too late, that it does."""
    began = time.monotonic()
    races = Races(database, here)
    try:
        for _ in itertools.repeat(None, ROUNDS // AT_ONCE):
            races.run()
    finally:
        races.people.close()
    kind = "sqlite" if database.is_sqlite else "postgresql"
    told = {
        f"{what}: {verdict}": count for (what, verdict), count in sorted(races.outcomes.items())
    }
    seconds = time.monotonic() - began
    gave(f"stop, hold and freeze against the start on {kind}", rounds=races.outcomes.total(),
         violations=len(races.violations), seconds=seconds)  # fmt: skip
    print(f"\nraces on {kind}: {told} in {seconds:.0f} s")
    assert [] == races.violations
    assert ROUNDS == races.outcomes.total()
    for what in ASKED:
        sides = {verdict for asked, verdict in races.outcomes if asked == what} - {"unknown"}
        assert len(sides) == 2, f"{what} was always on the same side of the start: no race"
