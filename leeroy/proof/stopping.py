"""C: what an answer to "cancel" and the grace period mean."""

from __future__ import annotations

from collections.abc import Iterator

from leeroy.proof.history import Answer, History, Violation
from leeroy.terms import Move, Stage, State

TICK_S = 0.01
"""What /proc/uptime rounds away."""


def acknowledged(history: History) -> Iterator[Violation]:
    """After "cancelled" no deploy of that build starts."""
    for answer in history.answers:
        build = history.rows.builds.get(answer.build)
        if build is None or answer.verdict not in ("cancelled", "stopping"):
            continue
        if answer.verdict == "cancelled" and build.state is not State.cancelled:
            yield Violation("C1", build.id, f"answered cancelled, and it is {build.state}")
        if answer.verdict == "stopping" and build.stop_at is None and not build.state.over:
            yield Violation("C1", build.id, "answered that it is being stopped; nobody wrote it")
        for mark in history.marks_of(build.id):
            if (mark.stage, mark.what) == (Stage.deploy, "start") and (
                mark.at > answer.answered_at
            ):
                yield Violation("C1", build.id, "a deploy started after its stop was answered")
        if history.wall_s is None:
            continue
        for event in history.rows.events[build.id]:
            if event.to_state is State.deploying and (
                history.boot(event.at) > answer.answered_at + TICK_S
            ):
                yield Violation("C1", build.id, f"event {event.seq}: deploying after its stop")


def held(history: History) -> Iterator[Violation]:
    """What was held goes on only when a person lets it, which a hold had taken back."""
    for number, events in history.rows.events.items():
        last: dict[str, Move] = {}
        for event in events:
            if event.environment is None:
                continue
            if event.to_state is State.deploying and last.get(event.environment) is Move.hold:
                deploy = history.rows.deploys.get((number, event.environment))
                again = any(
                    (later.move, later.environment) == (Move.resolve_again, event.environment)
                    for later in events[event.seq :]
                )  # it takes the approval back, too
                if not again and (deploy is None or deploy.approved_at is None):
                    text = f"deployed to {event.environment}, and nobody had let it go on"
                    yield Violation("C1", number, text)
            last[event.environment] = event.move


def frozen(history: History) -> Iterator[Violation]:
    """After a freeze was answered nothing but what a person asked for starts there."""
    if history.wall_s is None:
        return
    for number, events in history.rows.events.items():
        build = history.rows.builds[number]
        for event in events:
            if event.to_state is not State.deploying or build.deploy_to is not None:
                continue
            began, where = history.boot(event.at), (build.pipeline, event.environment)
            for freeze in history.freezes:
                if where == (freeze.pipeline, freeze.environment) and freeze.holds(event, began):
                    text = f"event {event.seq}: {event.environment} was frozen"
                    yield Violation("C1", number, text)


def truthful(history: History) -> Iterator[Violation]:
    """Who was told "too late" does not see it cancelled by that request."""
    by_build: dict[int, list[Answer]] = {}
    for answer in history.answers:
        by_build.setdefault(answer.build, []).append(answer)
    for number, answers in by_build.items():
        build = history.rows.builds.get(number)
        late = all(answer.verdict == "too_late" for answer in answers)
        if build is not None and late and build.state is State.cancelled:
            yield Violation("C2", number, "every answer was too late, and it is cancelled")


def grace(history: History) -> Iterator[Violation]:
    """From the moment somebody was told, a person has the full grace period."""
    if history.wall_s is None:
        return
    for (number, where), deploy in history.rows.deploys.items():
        build = history.rows.builds[number]
        plan = history.plan(build, where)
        owed = (
            plan is not None
            and plan.grace_s > 0
            and not build.without_grace
            and deploy.approved_at is None
            and plan.unheard == "hold"
            and any(n.build_id == number and n.seq == deploy.announced_seq and n.urgent
                    for n in history.rows.notices)
        )  # fmt: skip
        begun = deploy.started_at
        if begun is None or deploy.announced_at is None or begun < deploy.announced_at:
            continue  # what is announced now has not started
        starts = [
            mark.at
            for mark in history.marks_of(number)
            if (mark.environment, mark.stage, mark.what) == (where, Stage.deploy, "start")
            and mark.at >= history.boot(begun) - TICK_S
        ]
        if not owed or plan is None or not starts:
            continue
        if deploy.heard_at is None:
            yield Violation("C3", number, f"deployed to {where}, and nobody had been told")
            continue
        told = max(history.boot(deploy.heard_at), history.boot(deploy.announced_at))
        if starts[0] - told < plan.grace_s - TICK_S:
            waited = starts[0] - told
            yield Violation("C3", number, f"{where}: the grace period was only {waited:.2f} s")


def stopped(history: History) -> Iterator[Violation]:
    """It is "cancelled" only when nothing of it runs any more."""
    if history.wall_s is None:
        return
    for number, build in history.rows.builds.items():
        if build.state is not State.cancelled or build.finished_at is None:
            continue
        ended = history.boot(build.finished_at)
        if any(mark.at > ended + TICK_S for mark in history.marks_of(number)):
            yield Violation("C4", number, "a process of it lived after it was cancelled")
