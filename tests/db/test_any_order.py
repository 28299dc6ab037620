"""Anything in any order: pushes, ends, losses, stops, freezes, restarts, crashes; the rules hold."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import Connection

from leeroy import config, context, machine, operations, pipelines, shelf, views
from leeroy.db import builds, deploys, outbox, schema, steps
from leeroy.db.engine import Database
from leeroy.errors import LeeroyError
from leeroy.model import HOLDING, OVER, Build, Clock, Delivery, Push, Stage, State, StepState
from leeroy.operations import beginning
from leeroy.runner.rundir import Result
from leeroy.runner.runner import Run
from leeroy.scheduler import ending, starting, waiting
from leeroy.scheduler.acts import Act, DropWatch, End, Launch, StartWatch, Stop
from tests.db.story import START

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
SHOP = """
[[test]]
name = "unit"
run = "true"
[[build]]
name = "wheel"
run = "true"
[[deploy]]
environment = "staging"
tags = ["*"]
branches = ["main"]
run = "true"
verify = "true"
[[deploy]]
environment = "production"
branches = ["main"]
run = "true"
interrupted = "again"
status = "true"
lock = "rack"
[[deploy]]
environment = "moon"
branches = ["main"]
run = "true"
approve = true
lock = "rack"
[[notify]]
to = "env:OPS"
on = ["deploy_pending", "done"]
"""
ENVIRONMENTS = ["staging", "production", "moon"]
ANY = st.integers(0, 10**6)
WHAT = (
    ["push"] * 2 + ["turn"] * 10 + ["end"] * 14 + ["time"] * 4 + ["told"] * 5 + ["approve"] * 6
    + ["restart", "cancel", "once more", "resolve", "freeze"]
)  # fmt: skip


class Crash(Exception):
    """The process dies before its commit."""


class House(RuleBasedStateMachine):
    """A Leeroy without processes: real rows and real decisions, a clock and scripts of our own."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="leeroy-any-"))
        url = f"sqlite:///{self.folder}/leeroy.db"
        schema.ensure(url, migrate=True)
        self.database = Database(url)
        (self.folder / "leeroy.toml").write_text("slots = 2\nmin_free = '1B'\n")
        self.now, self.mono = START, 0.0
        clock = Clock(lambda: self.now, lambda: self.mono)
        loaded = config.load(str(self.folder / "leeroy.toml"), {})
        loaded.data.mkdir()
        self.context = context.make(loaded, clock, {}, new=True)
        self.watches: dict[tuple[int, str, int], float] = {}
        self.name, self.away, self.number = "here:1", 0.0, 0
        self.running: set[str] = set()
        self.stopping: set[str] = set()
        self.cancelled: dict[int, int] = {}
        self.do(partial(shelf.sync, context=self.context, found=[shelf.File("shop", SHOP, None)]))

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.database.close()
            shutil.rmtree(self.folder)

    # --- what the loop does

    def do(self, work: Callable[[Connection], Any], crash: bool = False) -> Any:
        """In a transaction; with *crash* it is undone at its end."""
        if not crash:
            return self.database.transact(work)

        def dies(conn: Connection) -> None:
            work(conn)
            raise Crash

        try:
            self.database.transact(dies)
        except (Crash, LeeroyError):
            return None
        raise AssertionError("a crash was survived")

    def act(self, acts: list[Act] | None) -> None:
        for act in acts or []:
            if isinstance(act, Launch):
                assert act.step.run_id is not None
                self.running.add(act.step.run_id)
            elif isinstance(act, Stop):
                self.stopping.add(act.run_id)
            elif isinstance(act, StartWatch):
                self.watches[act.key] = self.mono
            elif isinstance(act, DropWatch):
                self.watches = {k: v for k, v in self.watches.items() if k[0] != act.build_id}

    def all(self) -> list[Build]:
        return self.database.read(lambda conn: builds.in_state(conn, *State))

    def ask(self, name: str, crash: bool = False, **arguments: Any) -> Any:
        """What a person asks; what is not possible is said, and changes nothing."""
        work = partial(operations.DO[name], context=self.context, actor="ada", **arguments)
        try:
            return self.do(work, crash)
        except LeeroyError:
            return None

    def some(self, which: int, *states: State) -> Build | None:
        found = [b for b in self.all() if b.state in states]
        return found[which % len(found)] if found else None

    # --- what happens

    @rule(what=st.sampled_from(WHAT), which=ANY, other=ANY)
    def something(self, what: str, which: int, other: int) -> None:
        """One rule for all: hypothesis would leave out whole rules for whole runs."""
        crash = other % 7 == 0
        if what == "push":
            self.push(["main", "main", "other", "v1"][which % 4], again=other % 5 == 0, crash=crash)
        elif what == "turn":
            self.pick(crash)
            self.look(crash)
        elif what == "end":
            how = ["good"] * 8 + ["bad", "lost", "never", "twice"]
            self.a_script_ends(which, how[other % len(how)], crash)
        elif what == "time":
            self.time_goes_by([1, 29, 31, 400][which % 4])
        elif what == "restart":
            self.restart([1.0, 60.0, 7200.0][which % 3])
        elif what == "told":
            self.somebody_was_told()
        elif what == "cancel":
            self.cancel(which, force=other % 2 == 0, crash=crash)
        elif what == "approve":
            self.hold_or_approve(which, "approve" if other % 4 else "hold", crash)
        elif what == "once more":
            self.once_more(which, [None, *ENVIRONMENTS][other % 4], now=other % 3 == 0)
        elif what == "resolve":
            self.resolve(which, ["done", "failed", "again"][other % 3])
        else:
            name = "freeze" if other % 3 == 0 else "thaw"
            self.freeze_or_thaw(name, ["*", *ENVIRONMENTS][which % 4])

    def push(self, ref: str, again: bool, crash: bool) -> None:
        self.number += not again
        tag = ref.startswith("v")
        moved = Push(
            branch=None if tag else ref,
            tag=ref if tag else None,
            commit="a" * 40,
            default_branch="main",
        )
        delivery = Delivery(
            forge="github", id=str(self.number), event="push", addresses=("x",), pushes=(moved,)
        )
        # as of a repository: these have branches
        pipeline = pipelines.parse(
            'repository = "/srv/shop.git"\n' + SHOP, name="shop", file="shop"
        )
        self.do(
            partial(beginning.push, context=self.context, delivery=delivery, pipelines=[pipeline]),
            crash,
        )

    def pick(self, crash: bool) -> None:
        self.act(self.do(partial(starting.pick, context=self.context), crash))

    def a_script_ends(self, which: int, how: str, crash: bool) -> None:
        if not self.running:
            return
        run_id = sorted(self.running)[which % len(self.running)]
        stopped = run_id in self.stopping and how == "bad"
        result = Result(
            0 if how in ("good", "twice") else 1,
            None,
            "stopped" if stopped else None,
            0.0,
            1.0,
            0,
            0,
            "0" * 64,
        )
        end = End(run_id, {"lost": Run.lost, "never": Run.revoked}.get(how, Run.ended), result)
        if end.run is not Run.ended:
            end = End(run_id, end.run)
        acts = self.do(partial(ending.record, context=self.context, end=end), crash)
        if crash:
            return
        if how == "twice":
            assert [] == self.do(partial(ending.record, context=self.context, end=end))
        self.running.discard(run_id)
        self.act(acts)

    def look(self, crash: bool = False) -> None:
        watching = self.watching()
        for build in self.database.read(
            partial(builds.due, now=self.now, states=waiting.LOOKED_AT)
        ):
            work = partial(waiting.look, context=self.context, build_id=build.id, watching=watching)
            self.act(self.do(work, crash))

    def watching(self) -> waiting.Watching:
        return waiting.Watching(
            name=self.name,
            away_s=self.away,
            watched={key: self.mono - at for key, at in self.watches.items()},
            room=None,
            cleared=frozenset(b.id for b in self.all()),
        )

    def time_goes_by(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.mono += seconds

    def restart(self, away: float) -> None:
        self.name, self.away = f"here:{self.mono}{self.name}", away
        self.watches.clear()
        self.now += timedelta(seconds=away)
        self.do(partial(builds.rouse, now=self.now))

    def somebody_was_told(self) -> None:
        claimed = self.do(partial(outbox.claim, now=self.now, limit=1, who="me"))
        for notice in claimed:
            self.do(partial(outbox.accept, notice_id=notice.id, recipient="ops", now=self.now))
            self.do(partial(outbox.sent, notice_id=notice.id, now=self.now))

    def cancel(self, which: int, force: bool, crash: bool) -> None:
        build = self.some(which, *(s for s in State if s not in OVER))
        if build is not None:
            answer = self.ask("cancel", crash, id=build.id, force=force)
            if answer is not None:
                events = self.database.read(partial(builds.history, build_id=build.id))
                self.cancelled.setdefault(build.id, events[-1].seq)

    def hold_or_approve(self, which: int, name: str, crash: bool) -> None:
        build = self.some(which, State.deploy_pending)
        if build is not None:
            more = {"environment": build.environment} if name == "approve" else {}
            self.ask(name, crash, id=build.id, **more)

    def once_more(self, which: int, where: str | None, now: bool) -> None:
        build = self.some(which, *OVER)
        if build is not None and where is None:
            self.ask("retry", id=build.id)
        elif build is not None:
            self.ask("deploy", id=build.id, to=where, now=now)

    def resolve(self, which: int, outcome: str) -> None:
        build = self.some(which, State.interrupted)
        if build is not None:
            self.ask(
                "resolve",
                id=build.id,
                outcome=outcome,
                environment=build.environment,
                reason="seen",
            )

    def freeze_or_thaw(self, name: str, where: str) -> None:
        self.ask(name, which=where)

    # --- what holds at every moment

    @invariant()
    def histories_are_whole(self) -> None:
        legal = set(machine.legal())
        for build in self.all():
            events = self.database.read(partial(builds.history, build_id=build.id))
            assert list(range(1, len(events) + 1)) == [e.seq for e in events]
            assert (build.version, build.state) == (events[-1].seq, events[-1].to_state)
            for before, event in itertools.pairwise(events):
                assert before.to_state is event.from_state
                assert (event.move, event.from_state, event.to_state) in legal
                assert before.to_state not in OVER
            if build.id in self.cancelled:
                after = [e.to_state for e in events if e.seq > self.cancelled[build.id]]
                assert State.deploying not in after, "cancelled means cancelled"

    @invariant()
    def one_deploy_at_a_time(self) -> None:
        everything = self.all()
        holding = {(b.pipeline, b.environment): b.id for b in everything if b.state in HOLDING}
        assert len(holding) == sum(b.state in HOLDING for b in everything)
        places = self.database.read(deploys.everywhere)
        found = {(p.pipeline, p.name): p.holder for p in places if p.holder is not None}
        assert holding == found
        racks = [p for p in places if p.lock == "rack" and p.holder is not None]
        assert len(racks) <= 1, "environments of one lock never deploy at the same time"

    @invariant()
    def only_what_passed_is_deployed(self) -> None:
        for build in self.all():
            events = self.database.read(partial(builds.history, build_id=build.id))
            states = [e.to_state for e in events]
            if State.deploying in states:
                source: Build | None = build
                while source is not None and source.deploy_to is not None and source.source:
                    source = self.database.read(partial(builds.get, build_id=source.source))
                assert source is not None
                every = self.database.read(partial(steps.of, build_id=source.id))
                good = {s.name for s in every if s.state is StepState.passed}
                assert {"unit", "wheel"} <= good

    @invariant()
    def environments_never_go_back(self) -> None:
        started: list[tuple[datetime, str, int]] = []
        for build in self.all():
            events = self.database.read(partial(builds.history, build_id=build.id))
            started += [
                (event.at, event.environment or "", build.place)
                for event in events
                if event.to_state is State.deploying
            ]
        for name in ENVIRONMENTS:
            ordered = [p for _, where, p in sorted(started, key=lambda s: s[0]) if where == name]
            for moment in {at for at, where, _ in started if where == name}:
                same = [s for s in started if s[0] == moment and s[1] == name]
                if len(same) > 1:
                    return  # the clock stood still: their order is not known
            assert ordered == sorted(ordered)

    @invariant()
    def nobody_is_forgotten(self) -> None:
        for build in self.all():
            every = self.database.read(partial(steps.of, build_id=build.id))
            running = [s for s in every if s.state is StepState.running]
            # A person may say how it ended while the status script is still being asked.
            asked = [s for s in running if s.stage is Stage.status]
            running = [s for s in running if s.stage is not Stage.status]
            assert len(running) <= 1
            assert len(asked) <= 1
            if running:
                assert build.state in (State.building, State.deploying)
            assert {s.run_id for s in running + asked} <= self.running
            if build.state in (State.building, State.deploying):
                assert running, "it runs, so something of it does"
            why = self.database.read(lambda conn, b=build: views.why(conn, self.context, b))
            assert why
            if build.state in OVER:
                assert not any(s.state is StepState.waiting for s in every)

    @invariant()
    def everybody_is_told(self) -> None:
        for build in self.all():
            events = self.database.read(partial(builds.history, build_id=build.id))
            told = {n.seq for n, _ in self.database.read(partial(outbox.of, build_id=build.id))}
            heard = {e.seq for e in events if e.to_state in (State.deploy_pending, State.done)}
            assert heard <= told

    # --- in the end everything ends

    def drain(self) -> None:
        """Nothing fails any more: every build comes to its end."""
        self.ask("thaw", which="*")
        for name in ENVIRONMENTS:
            self.ask("thaw", which=name)
        for _ in range(400):
            left = [b for b in self.all() if b.state not in OVER]
            if not left:
                return
            self.pick(crash=False)
            while self.running:
                run_id = sorted(self.running)[0]
                end = End(run_id, Run.ended, Result(0, None, None, 0.0, 1.0, 0, 0, "0" * 64))
                self.running.discard(run_id)
                self.act(self.do(partial(ending.record, context=self.context, end=end)))
            for build in self.all():
                if build.state is State.deploy_pending:
                    self.ask("approve", id=build.id, environment=build.environment)
                if build.state is State.interrupted:
                    self.ask(
                        "resolve",
                        id=build.id,
                        outcome="done",
                        environment=build.environment,
                        reason="seen",
                    )
            self.time_goes_by(31)
            self.look(crash=False)
        raise AssertionError(f"these never end: {[(b.id, b.state, b.environment) for b in left]}")


House.TestCase.settings = settings(
    max_examples=150 if TORTURE else 14,
    stateful_step_count=160,
    deadline=None,
    derandomize=not TORTURE,
    suppress_health_check=list(HealthCheck),
)
TestHouse = House.TestCase
