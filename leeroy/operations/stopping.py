"""What stops a build, holds it, or lets it go on."""

from __future__ import annotations

from sqlalchemy import Connection

from leeroy import gates, onward, stoplink, views
from leeroy.context import Context
from leeroy.db import builds, chronicle, deploys, outbox
from leeroy.errors import NotFound, NotPossible
from leeroy.model import Build
from leeroy.operations import common
from leeroy.operations.common import Json
from leeroy.terms import Kind, Move, State
from leeroy.views import find

_RUNNING = (State.building, State.deploying)


def cancel(
    conn: Connection,
    context: Context,
    actor: str,
    *,
    id: int,
    reason: str | None = None,
    force: bool = False,
) -> Json:
    """
    Stop a build: at once where nothing of it runs, else as soon as its processes are dead.

    Raises:
        NotPossible: It is over otherwise, or its deploy runs and *force* was not given.
    """
    build = find(conn, id, lock=True)
    if build.state is State.cancelled:
        return common.told(conn, context, build, f"build {id} is cancelled already")
    if build.state.over:
        when = views.instant(build.finished_at)
        raise NotPossible(f"too late: build {id} is {build.state} since {when}")
    if build.state is State.interrupted:
        raise NotPossible(
            f"nothing of build {id} can be stopped: nobody saw how its deploy to "
            f"{build.environment} ended; look, then `leeroy resolve {id} done|failed|again "
            f"--environment {build.environment} --reason …`"
        )
    if build.state in _RUNNING:
        return _stop_running(conn, context, build, actor, reason, force=force)
    if build.state is State.deploy_pending:
        common.lock_environment(conn, build)
    moved = common.move(conn, context, build, Move.cancel, actor=actor, reason=reason)
    return common.told(conn, context, moved, f"build {id} is cancelled; nothing of it runs")


def _stop_running(
    conn: Connection, context: Context, build: Build, actor: str, reason: str | None, *, force: bool
) -> Json:
    if build.stop_at is not None:
        return common.told(conn, context, build, f"build {build.id} is being stopped already")
    if build.state is State.deploying and not force:
        started = deploys.get(conn, build.id, build.environment or "")
        since = views.instant(started.started_at) if started else "some time ago"
        raise NotPossible(
            f"too late: the deploy of build {build.id} to {build.environment} started {since}; "
            "`--force` ends its script in the middle"
        )
    if not builds.ask_to_stop(conn, build, context.clock.now(), actor, reason):
        raise NotPossible(f"build {build.id} was moved at this moment; look at it again")
    what = f"build {build.id}"
    if build.state is State.deploying:
        what = f"the deploy of build {build.id} to {build.environment}"
    stopped = find(conn, build.id)
    return common.told(conn, context, stopped, f"{what} is being stopped; no deploy follows")


def hold(
    conn: Connection, context: Context, actor: str, *, id: int, reason: str | None = None
) -> Json:
    """Keep the deploy that waits until a person lets it go on."""
    build = find(conn, id, lock=True)
    if build.state is not State.deploy_pending:
        raise NotPossible(f"build {id} is {build.state}, and no deploy of it waits")
    common.lock_environment(conn, build)
    held = common.deploy_row(conn, build)
    if held.held_at is not None:
        return common.told(conn, context, build, f"build {id} is held already by {held.held_by}")
    moved = common.move(conn, context, build, Move.hold, actor=actor, reason=reason)
    text = (
        f"the deploy of build {id} to {build.environment} is held until "
        f"`leeroy approve {id} --environment {build.environment}`"
    )
    return common.told(conn, context, moved, text)


def approve(
    conn: Connection, context: Context, actor: str, *, id: int, environment: str | None = None
) -> Json:
    """
    Let a fork's tests start; or lift approval, hold and the rest of the grace period.

    It lifts no freeze, opens no window, and lets nobody overtake: the answer says what is still
    to be waited for.
    """
    build = find(conn, id, lock=True)
    now = context.clock.now()
    if build.state is State.queued and build.fork:
        builds.change(conn, id, approved_by=actor)
        chronicle.add(conn, id, build.version, Kind.approved, actor, now)
        builds.wake(conn)
        common.note(conn, context, actor, "approve", f"build {id}", f"commit {build.commit}")
        return common.told(conn, context, find(conn, id), f"build {id} may run")
    if build.state is not State.deploy_pending:
        raise NotPossible(f"build {id} is {build.state}, and nothing of it waits for approval")
    common.same_environment(build, environment, f"approve {id}")
    common.lock_environment(conn, build)
    assert build.environment is not None
    deploys.put(
        conn,
        build,
        build.environment,
        approved_at=now,
        approved_by=actor,
        held_at=None,
        held_by=None,
        held_reason=None,
    )
    where = build.environment
    chronicle.add(conn, id, build.version, Kind.approved, actor, now, environment=where)
    builds.change(conn, id, due_at=now)
    builds.wake(conn)
    common.note(conn, context, actor, "approve", f"build {id}", f"deploy to {build.environment}")
    wait = gates.closed(gates.facts(conn, build, onward.plan_of(build), now=now))
    what = "goes on" if wait is None else f"is approved, and still waits: {wait.sentence}"
    text = f"the deploy of build {id} to {build.environment} {what}"
    return common.told(conn, context, find(conn, id), text)


def confirm(conn: Connection, context: Context, actor: str, *, id: int, seq: int) -> Json:
    """A client that waits has shown the announcement to its person, who thereby was told."""
    build = find(conn, id, lock=True)
    if build.state is State.deploy_pending and build.environment is not None:
        found = deploys.get(conn, id, build.environment)
        if found is not None and found.announced_seq == seq and found.heard_at is None:
            now = context.clock.now()
            deploys.put(conn, build, build.environment, heard_at=now, heard_by=actor)
            chronicle.add(conn, id, build.version, Kind.accepted, actor, now, number=seq)
            builds.change(conn, id, due_at=now)
            builds.wake(conn)
    return views.build_json(conn, context, find(conn, id))


def by_link(
    conn: Connection, context: Context, right: stoplink.Right, *, action: str
) -> tuple[Build, str]:
    """
    What the holder of a stop link asks for: "cancel" or "hold" that one deploy.

    Raises:
        NotPossible: It started, or is over; the sentence says since when.
    """
    build, environment = linked(conn, right, lock=True)
    sent = outbox.announced_to(conn, build.id)
    whom = next((to for to in sent if stoplink.target_code(to) == right.target), "somebody")
    actor = f"stop link ({views.target_name(whom)})"
    if build.state is State.cancelled:
        return build, f"build {build.id} is cancelled already"
    if build.state is not State.deploy_pending or build.environment != environment:
        raise NotPossible(too_late(conn, build, environment))
    what = hold if action == "hold" else cancel
    reason = None if action == "hold" else "stopped by link"
    answer = what(conn, context, actor, id=build.id, reason=reason)
    return find(conn, build.id), str(answer["answer"])


def linked(conn: Connection, right: stoplink.Right, *, lock: bool = False) -> tuple[Build, str]:
    """The build and the environment a stop link is about; raises NotFound."""
    build = builds.get(conn, right.build_id, lock=lock)
    if build is None:
        raise NotFound("this link is not known here, or its build was removed")
    planned = onward.pipeline_of(build).deploys
    if right.environment >= len(planned):
        raise NotFound("this link is not known here")
    return build, planned[right.environment].environment


def too_late(conn: Connection, build: Build, environment: str) -> str:
    """Why a deploy cannot be stopped any more, and since when."""
    found = deploys.get(conn, build.id, environment)
    if found is not None and found.started_at is not None:
        text = f"too late: the deploy to {environment} started {views.instant(found.started_at)}"
        if found.ended_at is not None:
            text += f" and ended {views.instant(found.ended_at)} ({found.outcome})"
            if build.state is State.deploy_pending:
                text += (
                    f"; its deploy to {build.environment} can still be stopped: "
                    f"`leeroy cancel {build.id}`"
                )
            return text
        return f"{text} and runs; `leeroy cancel {build.id} --force` ends its script in the middle"
    return f"too late: build {build.id} is {build.state}"
