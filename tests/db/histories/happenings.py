"""What may happen, in any order."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

from leeroy.db import builds, outbox
from leeroy.model import Build, Delivery, Push, Step
from leeroy.operations import receiving
from leeroy.proof.history import Answer, Mark, Taken
from leeroy.runner.rundir import Result
from leeroy.runner.runner import Run
from leeroy.scheduler import ending, recovering, starting, waiting
from leeroy.scheduler.acts import End
from leeroy.terms import Stage, State
from tests.db.histories.server import ANY, CRASH, Server
from tests.db.histories.shelves import ENVIRONMENTS, pipeline


class Happenings(Server):
    """Pushes, ends, crashes, clocks, people."""

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
        work = partial(receiving.receive, context=self.context, delivery=delivery, pipelines=chosen)
        if crash == "before":
            self.dies(work)
        if crash is not None:
            self.do(work)  # unanswered, so the forge sends it again
        made = list(self.picture.builds)
        numbers, reason = self.do(work)
        if crash is not None:
            assert ("seen before", made) == (reason, list(self.picture.builds))
        assert [list(self.picture.builds)[-1]] == numbers
        self.taken.append(Taken(delivery=delivery.id, builds=tuple(numbers)))

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
            tried={key: self.mono - since for key, since in self.tries.items()},
        )

    @precondition(lambda self: self.running())
    @rule(
        which=ANY,
        how=st.sampled_from(["0"] * 9 + ["1", "killed", "trouble", "lost", "lost", "revoked"]),
        crash=CRASH,
    )
    def a_script_ends(self, which: int, how: str, crash: str | None) -> None:
        running = self.running()
        self.it_ends(running[which % len(running)], how, crash)

    @precondition(lambda self: self.running())
    @rule(count=st.integers(1, 12))
    def scripts_end_well(self, count: int) -> None:
        for _ in range(count):
            for step in self.running()[:1]:
                self.it_ends(step, "0", None)
        self.slots_are_given(None)
        self.what_is_due_is_looked_at(None)

    def it_ends(self, step: Step, how: str, crash: str | None) -> None:
        assert step.run_id is not None
        end = self.end(step, how)
        record = partial(ending.record, context=self.context, end=end)
        if end.run in (Run.ended, Run.lost) and crash != "before":
            self.executed[step.build_id, f"{step.stage} {step.environment}"] += 1
            self.mark(step, "start", self.launched[step.run_id])
            if end.run is Run.lost and step.stage is Stage.deploy:
                self.alive[step.run_id] = step
            if end.result is not None and end.result.exit_code is not None:
                self.mark(step, "end", self.mono, end.result.exit_code)
        self.decide(record, crash)
        if crash != "before":
            self.launched.pop(step.run_id, None)
            self.stopping.discard(step.run_id)
            assert [] == self.do(record), "the same end twice changes nothing"

    def mark(self, step: Step, what: str, at: float, code: int | None = None) -> None:
        """What the script itself wrote down."""
        assert step.run_id is not None
        self.marks.append(
            Mark(
                at=at, what=what, build=step.build_id, stage=step.stage, name=step.name,
                environment=step.environment, attempt=step.attempt, run=step.run_id,
                workspace=step.run_id, code=code,
            )
        )  # fmt: skip

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
        self.nothing_of_it_lives(build)
        self.do(partial(builds.change, build_id=build.id, due_at=self.wall))
        self.what_is_due_is_looked_at(None)

    def nothing_of_it_lives(self, build: Build) -> None:
        """The last loss is cleared, and that one only: so does the server, run by run."""
        lost = self.database.read(partial(recovering.lost, context=self.context))
        for run in [s.run_id for b, s in lost if b.id == build.id and s.run_id is not None]:
            self.cleared.add(run)
            step = self.alive.pop(run, None)
            if step is not None:
                self.mark(step, "beat", self.mono)

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
                self.mark(step, "end", self.mono, code)
                self.alive.pop(step.run_id or "", None)
                result = Result(code, None, None, 0.0, 1.0, 0, 0, "0" * 64)
                work = partial(recovering.late, build_id=build.id, step=step, result=result)
                self.do(partial(work, context=self.context))

    def start_again(self, away_s: float) -> None:
        self.time_goes_by(away_s)
        self.number += 1
        self.name, self.away_s, self.born = f"server {self.number}", away_s, self.mono
        self.watches.clear()
        self.tries.clear()
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
            verdict = "cancelled" if now.state is State.cancelled else "stopping"
            at = self.mono
            self.answers.append(
                Answer(build=build.id, asked_at=at, answered_at=at, verdict=verdict)
            )

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
        self.nothing_of_it_lives(build)  # whoever says how it ended has looked
        self.ask("resolve", crash, id=build.id, outcome=outcome, environment=where, reason="seen")

    @rule(where=st.sampled_from(ENVIRONMENTS), until=st.sampled_from([None, "5m"]), crash=CRASH)
    def a_freeze(self, where: str, until: str | None, crash: str | None) -> None:
        self.ask("freeze", crash, which=where, until=until)

    @rule(where=st.sampled_from(ENVIRONMENTS), crash=CRASH)
    def a_thaw(self, where: str, crash: str | None) -> None:
        self.ask("thaw", crash, which=where)
