"""How an interrupted deploy is said to have ended."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from leeroy import onward
from leeroy.context import Context
from leeroy.errors import Invalid, NotPossible
from leeroy.model import Build
from leeroy.operations import common
from leeroy.operations.common import Json
from leeroy.terms import Move, State
from leeroy.views import find

_OUTCOMES: Final = {
    "done": Move.resolve_done,
    "failed": Move.resolve_failed,
    "again": Move.resolve_again,
}


def resolve(
    conn: Connection,
    context: Context,
    actor: str,
    *,
    id: int,
    outcome: str,
    environment: str | None = None,
    reason: str | None = None,
) -> Json:
    """Say how an interrupted deploy ended, or that it is to be run again."""
    if outcome not in _OUTCOMES:
        raise Invalid(f"{outcome!r} is no outcome; it is done, failed or again")
    if not reason:
        raise Invalid("say why: --reason TEXT")
    build = find(conn, id, lock=True)
    if build.state is not State.interrupted:
        raise NotPossible(f"build {id} is {build.state}, not interrupted; there is nothing to say")
    common.same_environment(build, environment, f"resolve {id} {outcome}", " --reason …")
    moved = resolved(conn, context, build, _OUTCOMES[outcome], actor=actor, reason=reason)
    return common.told(conn, context, moved, f"build {id} is {moved.state}")


def resolved(
    conn: Connection, context: Context, build: Build, how: Move, *, actor: str, reason: str
) -> Build:
    """An interrupted build after its end became known, at its next environment if it has one."""
    context = context.at_one_moment()
    plan = onward.next_plan(build) if how is Move.resolve_done else None
    if how is Move.resolve_again:
        plan = onward.plan_of(build)
    moved = common.move(
        conn,
        context,
        build,
        how,
        actor=actor,
        reason=reason,
        more_to_deploy=plan is not None,
        environment=None if plan is None else plan.environment,
    )
    if plan is None:
        return moved
    now = context.clock.now()
    return onward.settle(conn, moved, plan, now=now, actor=actor, house=context.house)
