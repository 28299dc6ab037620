"""Random histories: what one server decides, what people ask and what breaks, in any order."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, select

from leeroy import config, context, gates, machine, onward, operations, pipelines, shelf, views
from leeroy.db import builds, deploys, outbox, schema, steps, tables
from leeroy.db.engine import Database
from leeroy.errors import LeeroyError, Unavailable
from leeroy.model import (
    HOLDING,
    Build,
    Clock,
    Delivery,
    Deploy,
    Environment,
    Event,
    Move,
    Notice,
    Push,
    Stage,
    State,
    Step,
    StepState,
)
from leeroy.operations import beginning
from leeroy.runner.rundir import Result
from leeroy.runner.runner import Run
from leeroy.scheduler import ending, recovering, starting, waiting
from leeroy.scheduler.acts import Act, DropWatch, End, Launch, StartWatch, Stop, WatchKey
from tests.conftest import _make
from tests.db.story import START

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
SHOP = """
repository = "/srv/shop.git"
secret = "env:HOOK"
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
status = "true"
interrupted = "again"
lock = "rack"
[[deploy]]
environment = "moon"
branches = ["main"]
run = "true"
approve = true
[[notify]]
to = "env:OPS"
on = ["deploy_pending", "done", "queued"]
"""
TOOL = """
[[test]]
name = "unit"
run = "true"
[[deploy]]
environment = "rack"
run = "true"
interrupted = "fail"
lock = "rack"
[[deploy]]
environment = "shelf"
run = "true"
unheard = "deploy"
[[notify]]
to = "env:TOOL"
on = ["deploy_pending"]
"""
BOOK = """
repository = "/srv/book.git"
secret = "env:HOOK"
only_newest = true
at_once = 1
[[test]]
name = "spelling"
run = "true"
"""
TEXTS = {"shop": SHOP, "tool": TOOL, "book": BOOK}
ENVIRONMENTS = ["shop/staging", "shop/production", "shop/moon", "tool/rack", "tool/shelf", "*"]
SETTINGS = """
slots = 2
min_free = "0B"
[[notify]]
to = "env:HOUSE"
on = ["failed", "done", "interrupted", "cancelled"]
"""
GRACE_S = 30.0
ANY = st.integers(0, 10**6)
CRASH = st.sampled_from([None, None, None, None, None, "before", "after"])
"""Before the commit (nothing happened), or after it (nobody acts on it, or hears the answer)."""


class Crash(Exception):
    """The process dies."""


@dataclass(frozen=True)
class Picture:
    """Every row that counts, of one moment."""

    builds: dict[int, Build]
    events: dict[int, list[Event]]
    steps: dict[int, list[Step]]
    notices: list[Notice]
    deploys: dict[tuple[int, str], Deploy]
    places: dict[tuple[str, str], Environment]

    def running(self) -> list[Step]:
        """The steps that run, as far as the rows say."""
        every = (step for of in self.steps.values() for step in of)
        return sorted((s for s in every if s.state is StepState.running), key=lambda s: s.id)

    def tested_by(self, build: Build) -> Build:
        """The build whose tests count: its own, or those of the one it deploys again."""
        while build.deploy_to is not None and build.source is not None:
            build = self.builds[build.source]
        return build


def look(conn: Connection) -> Picture:
    """The rows as they are."""
    rows = conn.execute(select(tables.builds).order_by(tables.builds.c.id))
    found = {build.id: build for build in map(builds.build_of, rows)}
    events: dict[int, list[Event]] = {number: [] for number in found}
    ran: dict[int, list[Step]] = {number: [] for number in found}
    columns = tables.events.c
    for row in conn.execute(select(tables.events).order_by(columns.build_id, columns.seq)):
        events[row.build_id].append(builds.event_of(row))
    for row in conn.execute(select(tables.steps).order_by(tables.steps.c.id)):
        ran[row.build_id].append(steps.step_of(row))
    told = conn.execute(select(tables.outbox).order_by(tables.outbox.c.id))
    going = conn.execute(select(tables.deploys))
    return Picture(
        builds=found,
        events=events,
        steps=ran,
        notices=[outbox.notice_of(row) for row in told],
        deploys={(d.build_id, d.environment): d for d in map(deploys.deploy_of, going)},
        places={(p.pipeline, p.name): p for p in deploys.everywhere(conn)},
    )


@cache
def pipeline(name: str) -> pipelines.Pipeline:
    """A pipeline in force."""
    return pipelines.parse(TEXTS[name], name=name, file=name)


def plan(build: Build, environment: str) -> pipelines.Deploy:
    """What the pipeline says of a deploy."""
    return next(d for d in pipeline(build.pipeline).deploys if d.environment == environment)


@cache
def template() -> Path:
    """A SQLite file with the schema, made once."""
    folder = Path(tempfile.mkdtemp(prefix="leeroy-template-"))
    schema.ensure(f"sqlite:///{folder}/leeroy.db", migrate=True)
    return folder / "leeroy.db"


def sqlite(folder: Path) -> str:
    """The address of an empty database in *folder*."""
    shutil.copy(template(), folder / "leeroy.db")
    return f"sqlite:///{folder}/leeroy.db"


class Story(RuleBasedStateMachine):
    """
    A server without processes: real rows, real decisions; clocks and scripts of our own.

    The rows alone say which scripts run; `launched` are those that the server
    also started, so only they can have an end.  The invariants are checked
    after every rule, what one transaction may do after every transaction.
    """

    def __init__(self, address: Callable[[Path], str] = sqlite) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="leeroy-random-"))
        self.database = Database(address(self.folder))
        (self.folder / "leeroy.toml").write_text(SETTINGS)
        loaded = config.load(str(self.folder / "leeroy.toml"), {})
        loaded.data.mkdir()
        self.mono, self.wall = 0.0, START
        clock = Clock(self.now, lambda: self.mono)
        self.context = context.make(loaded, clock, {}, new=True)
        # the server's memory
        self.number = 0
        self.name, self.away_s, self.born = "server 0", 0.0, 0.0
        self.watches: dict[WatchKey, float] = {}
        self.cleared: set[int] = set()
        self.room: str | None = None
        # what the world knows
        self.launched: set[str] = set()
        self.stopping: set[str] = set()
        self.deliveries = itertools.count(1)
        # what was seen
        self.cancelled: dict[int, int] = {}
        self.announced: dict[tuple[int, str], float] = {}
        self.heard: dict[tuple[int, str], float] = {}
        self.starts: dict[tuple[str, str], int] = {}
        self.executed: Counter[tuple[int, str]] = Counter()
        self.picture = self.database.read(look)
        found = [shelf.File(name, text, None) for name, text in TEXTS.items()]
        self.do(partial(shelf.sync, context=self.context, found=found))
        self.do(partial(recovering.arrive, context=self.context, boot_id="boot"))

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.everything_ends()
        finally:
            self.database.close()
            shutil.rmtree(self.folder)

    # --- transactions

    def now(self) -> Any:
        return self.wall

    def do(self, work: Callable[[Connection], Any]) -> Any:
        """In a transaction; what it did is looked at, also when it raised."""
        try:
            return self.database.transact(work)
        finally:
            before, self.picture = self.picture, self.database.read(look)
            self.one_transaction(before, self.picture)

    def dies(self, work: Callable[[Connection], Any]) -> None:
        """The work is done, then its process dies before the commit: nothing happened."""

        def dying(conn: Connection) -> None:
            work(conn)
            raise Crash

        with pytest.raises((Crash, LeeroyError)) as caught:
            self.database.transact(dying)
        assert not isinstance(caught.value, Unavailable), caught.value
        assert self.picture == self.database.read(look), "a trace of what was never committed"

    def decide(self, work: Callable[[Connection], list[Act]], crash: str | None = None) -> None:
        """What the loop does: decide, commit, act."""
        if crash == "before":
            self.dies(work)
            return
        acts = self.do(work)
        if crash == "after":
            self.start_again(1.0)
            return
        for act in acts:
            self.act(act)

    def act(self, act: Act) -> None:
        if isinstance(act, Launch):
            step = next(s for s in self.picture.running() if s.id == act.step.id)
            assert step.run_id is not None and step.run_id == act.step.run_id
            assert step.run_id not in self.launched, "a run is started once"
            assert step.build_id not in self.cancelled or step.stage is not Stage.deploy
            self.launched.add(step.run_id)
        elif isinstance(act, Stop):
            self.stopping.add(act.run_id)
        elif isinstance(act, StartWatch):
            self.watches[act.key] = self.mono
        elif isinstance(act, DropWatch):
            self.watches = {k: at for k, at in self.watches.items() if k[0] != act.build_id}

    def ask(self, what: str, crash: str | None = None, **arguments: Any) -> Any:
        """What a person asks; None where it was not possible, or nobody heard the answer."""
        work = partial(operations.DO[what], context=self.context, actor="ada", **arguments)
        if crash == "before":
            self.dies(work)
            return None
        try:
            answer = self.do(work)
        except Unavailable:
            raise
        except LeeroyError:
            return None
        return None if crash == "after" else answer

    def some(self, which: int, *states: State) -> Build | None:
        found = [b for b in self.picture.builds.values() if b.state in states]
        return found[which % len(found)] if found else None

    def any(self, *states: State) -> bool:
        return any(b.state in states for b in self.picture.builds.values())

    # --- what begins

    @rule(ref=st.sampled_from(["main", "main", "main", "other", "v1", "v2"]), crash=CRASH)
    def a_push(self, ref: str, crash: str | None) -> None:
        self.push("shop", ref, crash)

    @rule(count=st.integers(1, 3))
    def pushes_to_the_book(self, count: int) -> None:
        for _ in range(count):
            self.push("book", "main", None)

    def push(self, name: str, ref: str, crash: str | None) -> None:
        tag = ref if ref.startswith("v") else None
        branch = ref if tag is None else None
        delivery = Delivery(
            forge="github",
            id=str(next(self.deliveries)),
            event="push",
            addresses=("x",),
            pushes=(Push(branch=branch, tag=tag, commit="a" * 40, default_branch="main"),),
        )
        chosen = [pipeline(name)]
        work = partial(beginning.push, context=self.context, delivery=delivery, pipelines=chosen)
        if crash == "before":
            self.dies(work)
        if crash is not None:
            self.do(work)  # unanswered, so the forge sends it again
        made = list(self.picture.builds)
        numbers, reason = self.do(work)
        if crash is not None:
            assert ("seen before", made) == (reason, list(self.picture.builds))
        assert [list(self.picture.builds)[-1]] == numbers

    @rule(name=st.sampled_from(["tool", "tool", "shop"]), crash=CRASH)
    def a_trigger(self, name: str, crash: str | None) -> None:
        branch = None if name == "tool" else "main"
        self.ask("trigger", crash, name=name, branch=branch)

    @precondition(lambda self: any(b.state.over for b in self.picture.builds.values()))
    @rule(which=ANY, crash=CRASH)
    def once_more(self, which: int, crash: str | None) -> None:
        build = self.some(which, *(s for s in State if s.over))
        assert build is not None
        self.ask("retry", crash, id=build.id)

    @precondition(lambda self: any(b.state.over for b in self.picture.builds.values()))
    @rule(which=ANY, to=st.sampled_from(ENVIRONMENTS[:-1]), now=st.booleans(), crash=CRASH)
    def put_back(self, which: int, to: str, now: bool, crash: str | None) -> None:
        build = self.some(which, *(s for s in State if s.over))
        assert build is not None
        name, _, environment = to.partition("/")
        if name == build.pipeline:
            self.ask("deploy", crash, id=build.id, to=environment, now=now)

    # --- what the server does

    @rule(crash=CRASH)
    def slots_are_given(self, crash: str | None) -> None:
        self.decide(partial(starting.pick, context=self.context), crash)

    @rule(crash=CRASH)
    def what_is_due_is_looked_at(self, crash: str | None) -> None:
        watching = self.watching()
        due = partial(builds.due, now=self.wall, states=waiting.LOOKED_AT)
        for build in self.database.read(due):
            # the same picture for all, as in the loop; a crash ends the turn
            self.decide(
                partial(waiting.look, context=self.context, build_id=build.id, watching=watching),
                crash,
            )
            if crash == "after":
                return

    def watching(self) -> waiting.Watching:
        return waiting.Watching(
            name=self.name,
            away_s=self.away_s,
            watched={key: self.mono - since for key, since in self.watches.items()},
            room=self.room,
            cleared=frozenset(self.cleared),
        )

    @precondition(lambda self: self.picture.running())
    @rule(
        which=ANY,
        how=st.sampled_from(["0"] * 9 + ["1", "killed", "trouble", "lost", "lost", "revoked"]),
        crash=CRASH,
    )
    def a_script_ends(self, which: int, how: str, crash: str | None) -> None:
        running = self.picture.running()
        self.it_ends(running[which % len(running)], how, crash)

    @precondition(lambda self: self.picture.running())
    @rule(count=st.integers(1, 12))
    def scripts_end_well(self, count: int) -> None:
        for _ in range(count):
            for step in self.picture.running()[:1]:
                self.it_ends(step, "0", None)
        self.slots_are_given(None)
        self.what_is_due_is_looked_at(None)

    def it_ends(self, step: Step, how: str, crash: str | None) -> None:
        assert step.run_id is not None
        end = self.end(step, how)
        record = partial(ending.record, context=self.context, end=end)
        if end.run in (Run.ended, Run.lost) and crash != "before":
            self.executed[step.build_id, f"{step.stage} {step.environment}"] += 1
        self.decide(record, crash)
        if crash != "before":
            self.launched.discard(step.run_id)
            self.stopping.discard(step.run_id)
            assert [] == self.do(record), "the same end twice changes nothing"

    def end(self, step: Step, how: str) -> End:
        assert step.run_id is not None
        if step.run_id not in self.launched:
            return End(step.run_id, Run.absent)
        if how in ("lost", "revoked"):
            return End(step.run_id, Run(how))
        code, signal, reason = {"1": (1, None, None), "killed": (None, 9, None)}.get(
            how, (0, None, None)
        )
        if how != "0" and step.run_id in self.stopping:
            code, signal, reason = None, 15, "stopped"
        result = Result(code, signal, reason, 0.0, 1.0, 0, 0, "0" * 64)
        trouble = "no artifacts" if how == "trouble" else None
        return End(step.run_id, Run.ended, result, trouble)

    @precondition(lambda self: self.any(State.interrupted))
    @rule(which=ANY)
    def what_is_left_of_it_is_ended(self, which: int) -> None:
        """Of a lost deploy nothing lives any more."""
        build = self.some(which, State.interrupted)
        assert build is not None
        self.cleared.add(build.id)
        self.do(partial(builds.change, build_id=build.id, due_at=self.wall))
        self.what_is_due_is_looked_at(None)

    # --- time, and what people are told

    @rule(seconds=st.sampled_from([0.1, 5.0, 29.0, 31.0, 31.0, 299.0, 301.0, 4000.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += timedelta(seconds=seconds)

    @rule(seconds=st.sampled_from([-600, -20, 20, 600]))
    def the_clock_is_set(self, seconds: int) -> None:
        self.wall += timedelta(seconds=seconds)

    @rule(away_s=st.sampled_from([1.0, 60.0, 7200.0]), late=st.booleans(), code=st.integers(0, 1))
    def a_restart(self, away_s: float, late: bool, code: int) -> None:
        """The server was gone for a while; the end of a lost deploy may turn up after all."""
        self.start_again(away_s)
        if late:
            lost = self.database.read(partial(recovering.lost, context=self.context))
            for build, step in lost[:1]:
                result = Result(code, None, None, 0.0, 1.0, 0, 0, "0" * 64)
                work = partial(recovering.late, build_id=build.id, step=step, result=result)
                self.do(partial(work, context=self.context))

    def start_again(self, away_s: float) -> None:
        self.time_goes_by(away_s)
        self.number += 1
        self.name, self.away_s, self.born = f"server {self.number}", away_s, self.mono
        self.watches.clear()
        self.cleared.clear()
        self.do(partial(outbox.release, who="postman"))
        self.do(partial(recovering.arrive, context=self.context, boot_id="boot"))
        for build, step, _ in self.database.read(partial(recovering.running, context=self.context)):
            if build.stop_at is not None and step.run_id is not None:
                self.stopping.add(step.run_id)

    @rule(full=st.booleans())
    def the_disk(self, full: bool) -> None:
        self.room = "no room" if full else None

    @rule(count=st.integers(1, 4), answer=st.sampled_from(["yes", "yes", "yes", "no", "never"]))
    def the_postman_goes(self, count: int, answer: str) -> None:
        self.carry(count, answer)

    def carry(self, count: int, answer: str) -> None:
        claim = partial(outbox.claim, now=self.wall, limit=count, who="postman")
        for notice in self.do(claim):
            mine = {"notice_id": notice.id}
            if answer == "yes":
                self.do(partial(outbox.accept, **mine, recipient="ops", now=self.wall))
                self.do(partial(outbox.sent, **mine, now=self.wall))
            elif answer == "no":
                again = self.wall + timedelta(seconds=60)
                self.do(partial(outbox.failed, **mine, error="busy", next_try_at=again))
            else:
                self.do(partial(outbox.dead, **mine, error="gone"))

    # --- what people ask

    @precondition(lambda self: any(not b.state.over for b in self.picture.builds.values()))
    @rule(which=ANY, force=st.booleans(), crash=CRASH)
    def a_cancel(self, which: int, force: bool, crash: str | None) -> None:
        build = self.some(which, *(s for s in State if not s.over))
        assert build is not None
        answer = self.ask("cancel", crash, id=build.id, force=force)
        if answer is not None:
            self.cancelled.setdefault(build.id, self.picture.builds[build.id].version)
            now = self.picture.builds[build.id]
            assert now.state is State.cancelled or now.stop_at is not None
            assert answer["state"] == now.state

    @precondition(lambda self: self.any(State.deploy_pending))
    @rule(which=ANY, crash=CRASH)
    def a_hold(self, which: int, crash: str | None) -> None:
        build = self.some(which, State.deploy_pending)
        assert build is not None
        self.ask("hold", crash, id=build.id, reason="lunch")

    @precondition(lambda self: self.any(State.deploy_pending))
    @rule(which=ANY, crash=CRASH)
    def an_approval(self, which: int, crash: str | None) -> None:
        build = self.some(which, State.deploy_pending)
        assert build is not None
        self.ask("approve", crash, id=build.id, environment=build.environment)

    @precondition(lambda self: self.any(State.interrupted))
    @rule(which=ANY, outcome=st.sampled_from(["done", "failed", "again"]), crash=CRASH)
    def somebody_knows(self, which: int, outcome: str, crash: str | None) -> None:
        build = self.some(which, State.interrupted)
        assert build is not None
        self.resolve(build, outcome, crash)

    def resolve(self, build: Build, outcome: str, crash: str | None) -> None:
        where = build.environment
        self.ask("resolve", crash, id=build.id, outcome=outcome, environment=where, reason="seen")

    @rule(where=st.sampled_from(ENVIRONMENTS), until=st.sampled_from([None, "5m"]), crash=CRASH)
    def a_freeze(self, where: str, until: str | None, crash: str | None) -> None:
        self.ask("freeze", crash, which=where, until=until)

    @rule(where=st.sampled_from(ENVIRONMENTS), crash=CRASH)
    def a_thaw(self, where: str, crash: str | None) -> None:
        self.ask("thaw", crash, which=where)

    # --- what one transaction may do

    def one_transaction(self, before: Picture, after: Picture) -> None:
        started = 0
        for number, events in after.events.items():
            old = before.events.get(number, [])
            assert old == events[: len(old)], "what happened stays as it was written"
            for event in events[len(old) :]:
                if event.environment is None:
                    continue
                key = (number, event.environment)
                if event.to_state is State.deploy_pending and event.move is not Move.hold:
                    self.announced[key] = self.mono
                    self.heard.pop(key, None)
                if event.to_state is State.deploying:
                    started += 1
                    self.a_deploy_starts(before, after, event)
        assert started <= 1
        for key, deploy in after.deploys.items():
            was = before.deploys.get(key)
            if deploy.heard_at is not None and (was is None or was.heard_at is None):
                self.heard[key] = self.mono

    def a_deploy_starts(self, before: Picture, after: Picture, event: Event) -> None:
        """Every gate was open in the rows just before."""
        build = before.builds[event.build_id]
        where = event.environment
        assert where is not None and State.deploy_pending is build.state
        assert where == build.environment
        wanted = plan(build, where)
        deploy = before.deploys[build.id, where]
        place = before.places[build.pipeline, where]

        assert build.id not in self.cancelled, "cancelled means that no deploy follows"
        assert build.stop_at is None and self.room is None

        source = before.tested_by(build)
        tests = pipeline(source.pipeline).tests
        for test in tests:
            mine = [
                s for s in before.steps[source.id] if (s.stage, s.name) == (Stage.test, test.name)
            ]
            assert mine and StepState.passed is mine[-1].state, f"{test.name} has not passed"
        assert tests, "nothing was tested"

        sharing = [p for p in before.places.values() if p.lock == wanted.lock]
        assert [None] * len(sharing) == [p.holder for p in sharing]
        frozen = [place, before.places.get(deploys.EVERY)]
        for row in frozen if build.deploy_to is None else []:
            over = row and row.frozen_until is not None and row.frozen_until <= self.wall
            assert row is None or row.frozen_at is None or over, "it is frozen"
        assert deploy.held_at is None
        assert not wanted.approve or deploy.approved_at is not None
        assert (
            build.tag is None
            or build.deploy_to is not None
            or not [
                b.id
                for b in before.builds.values()
                if (b.pipeline, b.deploys) == (build.pipeline, True)
                and b.tag is not None
                and b.place < build.place
                and not b.state.over
            ]
        )

        assert place.runs_place is None or place.runs_place <= build.place
        last = self.starts.get((build.pipeline, where), 0)
        assert last <= build.place or build.deploy_to is not None, "an older one overtook"
        self.starts[build.pipeline, where] = build.place
        self.nobody_was_too_quick(before, build, deploy, wanted)
        again = [e for e in after.events[build.id] if e.environment == where]
        allowed = 1 + sum(e.move is Move.resolve_again for e in again)
        assert self.executed[build.id, f"deploy {where}"] < allowed, "a deploy is repeated"

    def nobody_was_too_quick(
        self, before: Picture, build: Build, deploy: Deploy, wanted: pipelines.Deploy
    ) -> None:
        """The full grace period since somebody was told, as this one server has watched it."""
        told = [
            n for n in before.notices if (n.build_id, n.seq) == (build.id, deploy.announced_seq)
        ]
        if deploy.approved_at is not None or build.without_grace or not told:
            return
        key = (build.id, wanted.environment)
        if key not in self.heard:
            assert deploy.announced_at is not None and "deploy" == wanted.unheard
            waited = self.wall - deploy.announced_at
            assert waited >= timedelta(seconds=gates.UNHEARD_S), "nobody was told"
        since = max(self.announced[key], self.heard.get(key, 0.0), self.born)
        assert self.mono - since >= GRACE_S, "the grace period was cut short"

    # --- what holds at every moment

    @invariant()
    def histories_are_whole(self) -> None:
        legal = set(machine.legal())
        for number, build in self.picture.builds.items():
            events = self.picture.events[number]
            assert list(range(1, len(events) + 1)) == [e.seq for e in events]
            assert (Move.accept, None) == (events[0].move, events[0].from_state)
            for earlier, event in itertools.pairwise(events):
                assert earlier.to_state is event.from_state
                assert not earlier.to_state.over
                assert (event.move, event.from_state, event.to_state) in legal
            assert (build.version, build.state) == (events[-1].seq, events[-1].to_state)
            assert build.state.over == (build.finished_at is not None)

    @invariant()
    def one_deploy_per_environment(self) -> None:
        holding = [b for b in self.picture.builds.values() if b.state in HOLDING]
        there = {(b.pipeline, b.environment): b.id for b in holding}
        assert len(there) == len(holding)
        places = self.picture.places.values()
        assert there == {(p.pipeline, p.name): p.holder for p in places if p.holder is not None}
        locks = [p.lock for p in places if p.holder is not None]
        assert len(set(locks)) == len(locks)

    @invariant()
    def cancelled_means_cancelled(self) -> None:
        for number, seq in self.cancelled.items():
            later = [e.to_state for e in self.picture.events[number] if e.seq > seq]
            assert State.deploying not in later
            assert {State.done, State.deploy_pending, State.passed}.isdisjoint(later)

    @invariant()
    def everybody_is_told_once(self) -> None:
        told: dict[tuple[int, int], list[str]] = {}
        announced: dict[tuple[int, int], set[str]] = {}
        for notice in self.picture.notices:
            told.setdefault((notice.build_id, notice.seq), []).append(notice.target)
        for number, build in self.picture.builds.items():
            sent: set[str] = set()
            every = (*pipeline(build.pipeline).notify, *self.context.house)
            for event in self.picture.events[number]:
                key = (number, event.seq)
                got = told.pop(key, [])
                assert len(got) == len(set(got))
                listening = {t.to for t in every if t.hears(event.to_state)}
                told_more = event.to_state.over or event.to_state is State.interrupted
                assert listening <= set(got)
                assert set(got) - listening <= (sent if told_more else set())
                if event.to_state is State.deploy_pending:
                    sent |= set(got)
                    announced[key] = set(got)
            if build.state.over:
                last = self.picture.events[number][-1].seq
                heard = {
                    n.target
                    for n in self.picture.notices
                    if n.build_id == number and n.urgent and n.state == "sent"
                }
                got = [n for n in self.picture.notices if (n.build_id, n.seq) == (number, last)]
                waiting_still = {n.target for n in got}
                assert heard <= waiting_still, "told that it comes, but not how it ended"
        assert {} == told

    @invariant()
    def what_runs_belongs_to_a_build_that_runs(self) -> None:
        for number, build in self.picture.builds.items():
            every = self.picture.steps[number]
            # what a status script says may come too late; then it counts for nothing
            running = [
                s for s in every if s.state is StepState.running and s.stage is not Stage.status
            ]
            assert len(running) <= 1
            if running:
                assert build.state in (State.building, State.deploying)
            if build.state in (State.building, State.deploying):
                assert running
                where = build.environment if build.state is State.deploying else None
                assert where == running[0].environment
            else:
                assert StepState.waiting not in {s.state for s in every}
        slots = [b.slot for b in self.picture.builds.values() if b.state is State.building]
        assert len(slots) == len(set(slots)) <= self.context.config.slots
        book = [b for b in self.picture.builds.values() if b.pipeline == "book"]
        assert sum(b.state is State.building for b in book) <= 1

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """Whatever waits is looked at by itself, or what it waits for will have it looked at."""
        self.database.read(self._nobody_is_forgotten)

    def _nobody_is_forgotten(self, conn: Connection) -> None:
        for number, build in self.picture.builds.items():
            assert views.why(conn, self.context, build)
            running = [s for s in self.picture.steps[number] if s.state is StepState.running]
            if build.state.over or build.state is State.queued or build.due_at is not None:
                continue
            assert State.passed is not build.state
            if build.state is State.deploy_pending:
                facts = gates.facts(conn, build, onward.plan_of(build), now=self.wall)
                wait = gates.closed(facts, gates.BEFORE_GRACE)
                assert wait is not None and wait.until is None, "nobody will look at it again"
                assert wait.sentence == views.waiting_for(conn, self.context, build)
            elif build.state is State.interrupted:
                assert running or "hold" == plan(build, build.environment or "").interrupted
            elif build.stop_at is not None:
                runs = {s.run_id for s in running if s.run_id in self.launched}
                assert runs <= self.stopping, "asked to stop, and nobody stops it"

    # --- in the end

    def everything_ends(self) -> None:
        """Nothing breaks any more and everybody answers: every build comes to its end."""
        self.room = None
        for where in ENVIRONMENTS:
            self.ask("thaw", which=where)
        for _ in range(500):
            left = [b for b in self.picture.builds.values() if not b.state.over]
            if not left:
                break
            self.slots_are_given(None)
            while running := self.picture.running():
                self.it_ends(running[0], "0", None)
            for build in left:
                now = self.picture.builds[build.id]
                if now.state is State.interrupted:
                    self.resolve(now, "done", None)
            self.carry(50, "yes")
            self.what_is_due_is_looked_at(None)
            self.time_goes_by(GRACE_S + 1)
            self.what_is_due_is_looked_at(None)
            for build in left:
                now = self.picture.builds[build.id]
                deploy = self.picture.deploys.get((now.id, now.environment or ""))
                if now.state is State.deploy_pending and deploy is not None:
                    needed = plan(now, now.environment or "").approve or deploy.held_at is not None
                    if needed:
                        self.ask("approve", id=now.id, environment=now.environment)
        left = [b for b in self.picture.builds.values() if not b.state.over]
        assert [] == [(b.id, b.state, b.environment, b.due_at) for b in left]
        assert [] == self.picture.running()
        self.histories_are_whole()
        self.one_deploy_per_environment()
        self.cancelled_means_cancelled()
        self.everybody_is_told_once()


EVERYDAY = settings(
    max_examples=300 if TORTURE else 14,
    stateful_step_count=150 if TORTURE else 80,
    deadline=None,
    derandomize=not TORTURE,
    suppress_health_check=list(HealthCheck),
)
Story.TestCase.settings = EVERYDAY
TestStory = Story.TestCase


def test_postgresql_tells_the_same_stories(postgres: str) -> None:
    """The rules hold on the other kind of database, too."""
    numbers = itertools.count(1)

    def address(_: Path) -> str:
        return _make(postgres, f"random{os.getpid()}_{next(numbers)}")

    run_state_machine_as_test(
        lambda: Story(address),
        settings=settings(EVERYDAY, max_examples=60 if TORTURE else 3, database=None),
    )
