"""What holds at every moment, and what one transaction may do."""

from __future__ import annotations

from dataclasses import replace

from hypothesis.stateful import (
    invariant,
)
from sqlalchemy import Connection

from leeroy import gates, onward, pipelines, views
from leeroy.db import deploys
from leeroy.db.picture import Picture
from leeroy.model import Build, Deploy, Event
from leeroy.proof import places, telling
from leeroy.proof.checker import check
from leeroy.scheduler.ending import MOST_REPEATS
from leeroy.terms import Move, Stage, State, StepState
from tests.db.histories.happenings import Happenings
from tests.db.histories.server import GRACE_S
from tests.db.histories.shelves import ENVIRONMENTS, pipeline, plan


class Story(Happenings):
    """The rules."""

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
        place = before.environments[build.pipeline, where]

        assert build.id not in self.cancelled, "cancelled means that no deploy follows"
        assert build.stop_at is None and self.room is None

        source = replace(self.history(), rows=before).tested_by(build)
        tests = pipeline(source.pipeline).tests
        for test in tests:
            mine = [
                s for s in before.steps[source.id] if (s.stage, s.name) == (Stage.test, test.name)
            ]
            assert mine and StepState.passed is mine[-1].state, f"{test.name} has not passed"
        assert tests, "nothing was tested"

        sharing = [p for p in before.environments.values() if p.lock == wanted.lock]
        assert [None] * len(sharing) == [p.holder for p in sharing]
        frozen = [place, before.environments.get(deploys.EVERY)]
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
            assert "deploy" == wanted.unheard
            tried = self.mono - GRACE_S - max(self.announced[key], self.born)
            assert tried >= gates.UNHEARD_S, "nobody was told"
        since = max(self.announced[key], self.heard.get(key, 0.0), self.born)
        assert self.mono - since >= GRACE_S, "the grace period was cut short"

    # --- what holds at every moment

    @invariant()
    def no_promise_is_broken(self) -> None:
        """Every rule of the product's own checker."""
        broken = [str(violation) for violation in check(self.history())]
        assert [] == broken, broken
        ordered = self.in_order()
        found = [*places.in_order(ordered), *places.give_way(ordered)]
        assert [] == [str(violation) for violation in found]

    @invariant()
    def one_deploy_under_a_lock(self) -> None:
        held = [p.lock for p in self.picture.environments.values() if p.holder is not None]
        assert len(set(held)) == len(held)

    @invariant()
    def cancelled_means_cancelled(self) -> None:
        for number, seq in self.cancelled.items():
            later = [e.to_state for e in self.picture.events[number] if e.seq > seq]
            assert State.deploying not in later
            assert {State.done, State.deploy_pending, State.passed}.isdisjoint(later)

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
                said = views.waiting_for(conn, self.context, build)
                assert said is not None and said.startswith(wait.sentence), said
            elif build.state is State.interrupted:
                mine = [s for s in self.picture.steps[number] if s.environment == build.environment]
                lost = [s for s in mine if s.state is StepState.interrupted]
                asked = "hold" == plan(build, build.environment or "").interrupted
                assert running or asked or len(lost) > MOST_REPEATS
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
            while running := self.running():
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
        assert [] == self.running()
        self.no_promise_is_broken()
        self.cancelled_means_cancelled()
        for _ in range(100):
            if not list(telling.untried(self.picture.notices)):
                break
            self.time_goes_by(GRACE_S)
            self.carry(50, "yes")
        broken = [str(violation) for violation in check(self.history(settled=True))]
        assert [] == broken, broken
