"""What the operations share: moving a build, answering, noting, locking."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from leeroy import onward, views
from leeroy.advance import advance
from leeroy.context import Context
from leeroy.db import deploys, house
from leeroy.errors import Invalid, NotPossible
from leeroy.model import Build, Deploy
from leeroy.terms import Move

Json = dict[str, Any]

EVERY_FORK = 'forks = "test"'
"""Who approved a fork's code where no person did: the pipeline, for all of them."""


def told(conn: Connection, context: Context, build: Build, sentence: str) -> Json:
    """A build's JSON with the sentence that answers the person."""
    return views.build_json(conn, context, build) | {"answer": sentence}


def move(
    conn: Connection,
    context: Context,
    build: Build,
    how: Move,
    *,
    actor: str,
    reason: str | None = None,
    **options: Any,
) -> Build:
    """Make a move now, told to the house."""
    return advance(
        conn,
        build,
        how,
        now=context.clock.now(),
        actor=actor,
        house=context.house,
        reason=reason,
        **options,
    )


def deploy_row(conn: Connection, build: Build) -> Deploy:
    """The row of the deploy that waits."""
    found = deploys.get(conn, build.id, build.environment or "")
    assert found is not None, f"build {build.id} waits without a row in deploys"
    return found


def lock_environment(conn: Connection, build: Build) -> None:
    """Whoever decides about a waiting deploy has its environment's rows first."""
    plan = onward.plan_of(build)
    deploys.ensure_every(conn)
    deploys.ensure(conn, build.pipeline, [(plan.environment, plan.lock)])
    deploys.locked(conn, plan.lock)


def same_environment(build: Build, environment: str | None, what: str, more: str = "") -> None:
    """
    Whether the person means the environment the build is at; raises when that is not clear.

    Where a build goes to several, the one that waits now may not be the one
    that was looked at: so it is said.  *what* and *more* are the command
    around it.
    """
    planned = [plan.environment for plan in onward.plans(build)]
    if environment is None and len(planned) > 1:
        listed = ", ".join(planned)
        raise Invalid(
            f"build {build.id} goes to several environments ({listed}); say which one you mean. "
            f"It is at {build.environment} now: "
            f"`leeroy {what} --environment {build.environment}{more}`"
        )
    if environment is not None and environment != build.environment:
        raise NotPossible(f"build {build.id} is at {build.environment} now, not at {environment}")


def note(
    conn: Connection,
    context: Context,
    actor: str,
    act: str,
    subject: str,
    detail: str | None = None,
) -> None:
    """A line of the audit, now."""
    house.note(conn, context.clock.now(), actor, act, subject, detail)
