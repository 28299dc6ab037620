"""
What a server finds when it starts, and how it takes it up: by the same doors as ever.

Every step that the rows call running is followed again; what became of it is
told by its run directory, and recorded like any end.  Nothing here decides.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from leeroy import ends
from leeroy.context import Context
from leeroy.db import builds, chronicle, house, logs, outbox, steps
from leeroy.model import Build, Step
from leeroy.operations.resolving import resolved
from leeroy.runner.runner import Result
from leeroy.terms import Move, Stage, State, StepState


def arrive(conn: Connection, context: Context, boot_id: str) -> datetime | None:
    """Say that this host is here, and have everything that waits looked at; when it was last."""
    now = context.clock.now()
    said = house.last_end(conn, context.host_id, boot_id)
    before = house.beat(conn, context.host_id, context.host_name, boot_id, now)
    house.stopped(conn, context.host_id, None)
    chronicle.add_start(conn, context.host_id, said, now)
    builds.rouse(conn, now)
    return before


def clock_set(conn: Connection, now: datetime) -> None:
    """The wall clock was set: nothing sleeps until it is back."""
    outbox.hurry(conn, now)
    builds.rouse(conn, now)


def running(conn: Connection, context: Context) -> list[tuple[Build, Step, int]]:
    """This host's steps that run as far as the rows know, with how much log is stored."""
    found = []
    for step in steps.running(conn, context.host_id):
        build = builds.get(conn, step.build_id)
        if build is not None:
            found.append((build, step, logs.end(conn, step.id)))
    return found


def lost(conn: Connection, context: Context) -> list[tuple[Build, Step]]:
    """The deploy scripts of this host whose end nobody saw, of builds still interrupted."""
    found = []
    for build in builds.in_state(conn, State.interrupted):
        mine = [
            step
            for step in steps.of(conn, build.id)
            if step.stage is Stage.deploy and step.environment == build.environment
        ]
        last = mine[-1] if mine else None
        if last and last.state is StepState.interrupted and last.host == context.host_id:
            found.append((build, last))
    return found


def late(conn: Connection, context: Context, build_id: int, step: Step, result: Result) -> None:
    """A result of an interrupted deploy turned up after all: it counts."""
    build = builds.get(conn, build_id, lock=True)
    if build is None or build.state is not State.interrupted:
        return
    if step.reason == ends.SHUT_DOWN:
        return  # this result is known; it says that nobody knows how far the script came
    good = ends.landed(replace(step, exit_code=result.exit_code, reason=result.reason))
    steps.change(
        conn,
        step.id,
        state=StepState.passed if good else StepState.failed,
        exit_code=result.exit_code,
        signal=result.signal,
        reason=result.reason,
        raw_bytes=result.raw_bytes,
        dropped_bytes=result.dropped_bytes,
        sha256=result.sha256,
        ended_seq=build.version,
    )
    how = Move.resolve_done if good else Move.resolve_failed
    reason = f"its end was found on {context.host_name}"
    resolved(conn, context, build, how, actor=context.scheduler, reason=reason)


def rouse(conn: Connection, now: datetime) -> int:
    """Have all that waits looked at, as at a start; returns how many deploys are pending."""
    builds.rouse(conn, now)
    return builds.counts(conn).get(State.deploy_pending, 0)


def announced(pending: int, away_s: float) -> str:
    """What is said when *pending* deploys were announced again."""
    what = "deploy is" if pending == 1 else "deploys are"
    return f"nothing was watched for {away_s:.0f} s: {pending} pending {what} announced again"
