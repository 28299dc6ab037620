"""What is judged: the rows of one moment, and what the scripts and the callers saw themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from leeroy import pipelines
from leeroy.db.picture import Picture
from leeroy.model import Build, Event, Step
from leeroy.terms import Stage


@dataclass(frozen=True, kw_only=True)
class Mark:
    """
    A line of the WORLD log, written by a script under test itself.

    `at` is in seconds since the boot, by a clock nobody sets.  `what` is
    start, beat or end.  At its start a script tells the `commit` it stands
    on; at its end the `code` it is about to exit with, and the `sha256` of
    all it has written.
    """

    at: float
    what: str
    build: int
    stage: Stage
    name: str
    environment: str | None
    attempt: int
    run: str
    workspace: str
    commit: str | None = None
    code: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """
    What a person who asked to cancel was told, and when (seconds since the boot).

    `verdict` is cancelled, stopping (as soon as its processes are dead),
    too_late, or unknown (no answer came: nothing was promised).
    """

    build: int
    asked_at: float
    answered_at: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """
    A freeze of an environment that was answered, and when a person asked to lift it.

    Times are seconds since the boot; `thawed_at` None: it still holds.  `waiting`
    are builds that were seen to wait there after the answer, each with its version.
    """

    pipeline: str
    environment: str
    answered_at: float
    thawed_at: float | None = None
    waiting: Mapping[int, int] = field(default_factory=dict)

    def holds(self, event: Event, at: float) -> bool:
        """Whether it was answered before that event of its environment, and not yet lifted."""
        waited = self.waiting.get(event.build_id)
        after = self.answered_at < at or (waited is not None and waited < event.seq)
        return after and (self.thawed_at is None or at < self.thawed_at)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A webhook delivery that was answered 2xx, or a trigger (`delivery` None), with its builds."""

    delivery: str | None
    builds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class History:
    """
    All that is known of what happened.

    `wall_s` is what to take from a row's unix time for seconds since the boot;
    None: the wall clock was set, so that times of rows order nothing.
    `settled`: faults are over, and everything had the time to come to its end.
    `seen` are events that an earlier look found: they must still be there.
    `house` are the targets that hear every pipeline.
    """

    rows: Picture
    house: Sequence[pipelines.Target] = ()
    marks: Sequence[Mark] = ()
    answers: Sequence[Answer] = ()
    freezes: Sequence[Frozen] = ()
    taken: Sequence[Taken] = ()
    seen: Mapping[tuple[int, int], Event] = field(default_factory=dict)
    wall_s: float | None = None
    settled: bool = False

    def boot(self, at: datetime) -> float:
        """A row's time as seconds since the boot."""
        assert self.wall_s is not None
        return at.timestamp() - self.wall_s

    def pipeline(self, build: Build) -> pipelines.Pipeline:
        """The pipeline as it was when the build was accepted."""
        return pipelines.parse(build.pipeline_text, name=build.pipeline, file=build.pipeline)

    def plan(self, build: Build, environment: str) -> pipelines.Deploy | None:
        """What the build's pipeline says of an environment."""
        found = (d for d in self.pipeline(build).deploys if d.environment == environment)
        return next(found, None)

    def tested_by(self, build: Build) -> Build:
        """The build whose tests count: its own, or those of the one it deploys again."""
        while build.deploy_to is not None and build.source is not None:
            source = self.rows.builds.get(build.source)
            if source is None:
                break
            build = source
        return build

    def step_of(self, run: str) -> Step | None:
        """The step that was executed in that run."""
        return self._executed.get(run)

    @cached_property
    def _executed(self) -> dict[str, Step]:
        every = itertools.chain.from_iterable(self.rows.steps.values())
        return {step.run_id: step for step in every if step.run_id is not None}

    def marks_of(self, build: int) -> Sequence[Mark]:
        """What the scripts of one build wrote, in the order in which they did."""
        return self._written.get(build, ())

    @cached_property
    def _written(self) -> dict[int, list[Mark]]:
        found: dict[int, list[Mark]] = {}
        for mark in self.marks:
            found.setdefault(mark.build, []).append(mark)
        return found

    def moments(self) -> Iterator[list[Event]]:
        """
        The events of all builds in the order of their times; those of one instant together.

        Within a build the numbers order, whatever the clock of a concurrent
        transaction said.
        """
        timed: list[tuple[datetime, int, int, Event]] = []
        for number, events in self.rows.events.items():
            latest: datetime | None = None
            for event in events:
                latest = event.at if latest is None else max(latest, event.at)
                timed.append((latest, number, event.seq, event))
        timed.sort(key=lambda entry: entry[:3])
        for _, group in itertools.groupby(timed, key=lambda entry: entry[0]):
            yield [entry[3] for entry in group]

    def runs(self) -> dict[str, list[Mark]]:
        """The marks of each execution, in the order in which they were made."""
        found: dict[str, list[Mark]] = {}
        for mark in sorted(self.marks, key=lambda m: m.at):
            found.setdefault(mark.run, []).append(mark)
        return found


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept: the rule's number, the build, and what was found."""

    rule: str
    build: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: build {self.build}: {self.text}"
