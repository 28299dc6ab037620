"""B: nothing is deployed that was not tested."""

from __future__ import annotations

from collections.abc import Iterator

from leeroy.model import Build, Event
from leeroy.proof.history import History, Violation
from leeroy.terms import Stage, State, StepState


def _starts(history: History) -> Iterator[tuple[Build, Event]]:
    for number, events in history.rows.events.items():
        for event in events:
            if event.to_state is State.deploying:
                yield history.rows.builds[number], event


def tests_passed(history: History) -> Iterator[Violation]:
    """Every required test of the very same build ended ok before its deploy started."""
    for build, event in _starts(history):
        source = history.tested_by(build)
        pipeline = history.pipeline(source)
        if not pipeline.tests and not pipeline.untested:
            yield Violation("B1", build.id, "it was deployed without any test")
        for test in pipeline.tests:
            ran = [
                step
                for step in history.rows.steps[source.id]
                if (step.stage, step.name) == (Stage.test, test.name)
            ]
            last = ran[-1] if ran else None
            if last is None or (last.state, last.exit_code) != (StepState.passed, 0):
                yield Violation("B1", build.id, f"deployed, and test {test.name} has not passed")
            elif history.wall_s is not None and (
                last.finished_at is None or last.finished_at > event.at
            ):
                yield Violation("B1", build.id, f"deployed before test {test.name} had passed")


def same_commit(history: History) -> Iterator[Violation]:
    """What is tested and deployed is the build's commit."""
    for mark in history.marks:
        build = history.rows.builds.get(mark.build)
        if build is not None and mark.commit is not None and mark.commit != build.commit:
            text = f"{mark.stage} {mark.name} ran on {mark.commit}, not on {build.commit}"
            yield Violation("B2", mark.build, text)


def planned(history: History) -> Iterator[Violation]:
    """Every step is one of the build's own snapshot of its pipeline."""
    for number, steps in history.rows.steps.items():
        build = history.rows.builds[number]
        pipeline = history.pipeline(build)
        known = {(s.stage, s.name) for s in (*pipeline.tests, *pipeline.builds)}
        places = {d.environment for d in pipeline.deploys}
        for step in steps:
            if step.environment is None and step.stage is not Stage.checkout:
                good = (step.stage, step.name) in known
            else:
                good = step.environment is None or step.environment in places
            if not good:
                text = f"{step.stage} {step.name} is not in its pipeline"
                yield Violation("B3", number, text)


def trusted(history: History) -> Iterator[Violation]:
    """Pull requests and forks are never deployed."""
    for build, _ in _starts(history):
        if build.fork or build.pull_request is not None:
            yield Violation("B4", build.id, "it comes from a pull request, and was deployed")
