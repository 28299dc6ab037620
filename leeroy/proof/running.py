"""E: each script is executed once, its end is known, and nothing of it lives on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from leeroy.model import Event, Step
from leeroy.proof.history import History, Violation
from leeroy.proof.stopping import TICK_S
from leeroy.terms import Move, Stage, State, StepState

_NEVER = frozenset({StepState.waiting, StepState.cancelled})


def once(history: History) -> Iterator[Violation]:
    """One execution for each attempt; one of a deploy, unless it was to be run again."""
    runs = history.runs()
    for run, marks in runs.items():
        first = marks[0]
        if sum(mark.what == "start" for mark in marks) != 1:
            yield Violation("E1", first.build, f"run {run} did not start once")
        if history.step_of(run) is None:
            yield Violation("E1", first.build, f"run {run} was executed, and no row tells of it")
    firsts = [marks[0] for marks in runs.values()]
    attempts = Counter((m.build, m.stage, m.name, m.environment, m.attempt) for m in firsts)
    for key, count in attempts.items():
        if count > 1:
            yield Violation(
                "E1", key[0], f"attempt {key[4]} of {key[1]} {key[2]} ran {count} times"
            )
    deploys = Counter((m.build, m.environment) for m in firsts if m.stage is Stage.deploy)
    for (number, where), count in deploys.items():
        events = history.rows.events.get(number, ())
        again = sum(e.move is Move.resolve_again and e.environment == where for e in events)
        if count > 1 + again:
            yield Violation("E1", number, f"it was deployed to {where} {count} times")


def withdrawn(history: History) -> Iterator[Violation]:
    """A deploy goes back only if its script never began, and at most three times."""
    for number, events in history.rows.events.items():
        count = Counter(e.environment for e in events if e.move is Move.withdraw)
        for where, times in count.items():
            if times > 3:
                yield Violation("E1", number, f"withdrawn from {where} {times} times")
    begun = {mark.run for mark in history.marks}
    for number, steps in history.rows.steps.items():
        for step in steps:
            ended = (
                step.signal is not None or step.exit_code is not None or step.reason == "stopped"
            )
            if step.state in _NEVER and not ended and step.run_id in begun:
                text = f"{step.stage} {step.name} began, and its row says it never did"
                yield Violation("E1", number, text)


def truth(history: History) -> Iterator[Violation]:
    """What is recorded of an end is what happened; "passed" needs its proof."""
    runs = history.runs()
    told = {mark.stage for mark in history.marks}
    for number, steps in history.rows.steps.items():
        for step in steps:
            marks = runs.get(step.run_id or "", [])
            code = next((mark.code for mark in marks if mark.what == "end"), None)
            what = f"{step.stage} {step.name}"
            if step.state is StepState.passed and step.stage in told and code != 0:
                yield Violation("E2", number, f"{what} is recorded as passed, and it said {code}")
            if step.exit_code is not None and code is not None and step.exit_code != code:
                text = f"{what} is recorded with {step.exit_code}, and it said {code}"
                yield Violation("E2", number, text)
            exited = (code, step.exit_code, step.reason) == (0, 0, None)
            if step.state is StepState.failed and exited:
                yield Violation("E2", number, f"{what} exited 0, and is recorded as failed")


def one_end(history: History) -> Iterator[Violation]:
    """Every start has exactly one end."""
    for run, marks in history.runs().items():
        if sum(mark.what == "end" for mark in marks) > 1:
            yield Violation("E3", marks[0].build, f"run {run} ended twice")
    for number, steps in history.rows.steps.items():
        for step in steps:
            over = step.state not in (StepState.waiting, StepState.running)
            if history.settled and not over:
                yield Violation("E3", number, f"{step.stage} {step.name} is {step.state} for ever")
            if step.run_id is not None and over != (step.finished_at is not None):
                yield Violation("E3", number, f"{step.stage} {step.name} has no moment of its end")


def repeated(history: History) -> Iterator[Violation]:
    """Without a person a lost deploy is run again at most three times."""
    for number, events in history.rows.events.items():
        build = history.rows.builds.get(number)
        rules = {"status script", f"pipeline {build.pipeline}" if build else ""}
        again = [e for e in events if e.move is Move.resolve_again and e.actor in rules]
        for where, times in Counter(e.environment for e in again).items():
            if times > 3:
                yield Violation("E1", number, f"repeated at {where} {times} times by itself")


def nothing_left(history: History) -> Iterator[Violation]:
    """
    After its end no process of an attempt exists.

    Nobody saw the end of an interrupted deploy.  It holds its environment, and
    the moment for it is the first at which something may follow: its `status`
    script begins, or its build leaves `interrupted`, whoever says so.
    """
    if history.wall_s is None:
        return
    for run, marks in history.runs().items():
        step = history.step_of(run)
        over = None if step is None else _over(history, step)
        if step is None or over is None:
            continue
        if marks[-1].at > over + TICK_S:
            text = f"{step.stage} {step.name} ended, and a process of it lived on"
            yield Violation("E4", step.build_id, text)


def _over(history: History, step: Step) -> float | None:
    """From when on nothing of an attempt may live; None: that moment has not come."""
    if step.finished_at is None:
        return None
    events = history.rows.events.get(step.build_id, ())
    if step.stage is not Stage.deploy or not _was_lost(step, events):
        return history.boot(step.finished_at)
    after = step.ended_seq or 0
    left = [e.at for e in events if e.from_state is State.interrupted and e.seq > after]
    asked = [
        other.started_at
        for other in history.rows.steps.get(step.build_id, ())
        if (other.stage, other.environment) == (Stage.status, step.environment)
        and other.id > step.id
        and other.started_at is not None
    ]
    return min((history.boot(at) for at in (*left[:1], *asked[:1])), default=None)


def _was_lost(step: Step, events: Sequence[Event]) -> bool:
    """Whether nobody saw how it ended, at first or (its record came late) for ever."""
    return any(
        event.to_state is State.interrupted
        and (event.seq == step.ended_seq or event.seq - 1 == step.ended_seq)
        for event in events
    )


def whole_log(history: History) -> Iterator[Violation]:
    """The log is what was written: its sha256 is the one the script counted itself."""
    for mark in history.marks:
        step = history.step_of(mark.run) if mark.sha256 is not None else None
        if step is None or step.sha256 is None or step.reason is not None:
            continue
        if step.signal is None and step.sha256 != mark.sha256:
            text = f"the log of {step.stage} {step.name} is not what it wrote"
            yield Violation("E5", step.build_id, text)


def own_workspace(history: History) -> Iterator[Violation]:
    """Two attempts never use one workspace at the same time."""
    spans: dict[str, list[tuple[float, float, int]]] = {}
    for marks in history.runs().values():
        first = marks[0]
        if first.stage is not Stage.status:
            spans.setdefault(first.workspace, []).append((first.at, marks[-1].at, first.build))
    for workspace, found in spans.items():
        found.sort()
        for index, (_, ended, number) in enumerate(found[:-1]):
            if found[index + 1][0] < ended:
                yield Violation("E6", number, f"two attempts were in {workspace} at once")
