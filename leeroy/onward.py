"""
Where a build goes when its scripts have passed: to the next environment, or to its end.

Decides with the pipeline's text as it was when the build was accepted, and
makes the moves with `advance`; the caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from leeroy import gates, pipelines
from leeroy.advance import advance
from leeroy.db import builds, deploys
from leeroy.errors import Overtaken
from leeroy.model import Build, Environment
from leeroy.pipelines import Target
from leeroy.terms import Move, State


def pipeline_of(build: Build) -> pipelines.Pipeline:
    """The pipeline as it was when the build was accepted."""
    return pipelines.parse(build.pipeline_text, name=build.pipeline, file=build.pipeline)


def plans(build: Build) -> tuple[pipelines.Deploy, ...]:
    """Every deploy of the build, in order; none where it only is to be tested."""
    pipeline = pipeline_of(build)
    if build.deploy_to is not None:
        return tuple(d for d in pipeline.deploys if d.environment == build.deploy_to)
    if not build.deploys or build.pull_request is not None or build.fork:
        return ()
    if pipeline.repository is None:
        # Started by hand, on no branch: what asks for none is meant.
        return tuple(d for d in pipeline.deploys if d.branches is None and d.tags is None)
    return pipelines.deploys_for(
        pipeline, branch=build.branch, tag=build.tag, default_branch=build.default_branch
    )


def plan_of(build: Build) -> pipelines.Deploy:
    """The deploy that waits or runs."""
    for plan in pipeline_of(build).deploys:
        if plan.environment == build.environment:
            return plan
    raise AssertionError(f"build {build.id} is at {build.environment!r}, which it has no plan for")


def next_plan(build: Build) -> pipelines.Deploy | None:
    """The deploy after the one at `build.environment` (the first, when it is at none)."""
    planned = plans(build)
    names = [plan.environment for plan in planned]
    at = -1
    if build.environment is not None and build.state is not State.passed:
        at = names.index(build.environment) if build.environment in names else len(names)
    return planned[at + 1] if at + 1 < len(planned) else None


def onward(
    conn: Connection,
    build: Build,
    *,
    now: datetime,
    actor: str,
    house: Sequence[Target],
    reason: str | None = None,
) -> Build:
    """
    Announce the next deploy of a build that passed or was deployed, or finish it.

    Older builds that wait for the same environment give way in the same
    transaction; a build that is itself too old gives way.
    """
    plan = next_plan(build)
    if plan is None:
        return advance(conn, build, Move.finish, now=now, actor=actor, house=house, reason=reason)
    # Before the announcement: what is told of this environment is told in the order of its lock.
    builds.still(conn, build.pipeline, plan.environment)
    _places(conn, build, plan)
    moved = advance(
        conn,
        build,
        Move.announce,
        now=now,
        actor=actor,
        house=house,
        reason=reason,
        environment=plan.environment,
    )
    return settle(conn, moved, plan, now=now, actor=actor, house=house)


def _places(conn: Connection, build: Build, plan: pipelines.Deploy) -> Sequence[Environment]:
    """The environments that share the plan's lock; nobody else decides about them meanwhile."""
    deploys.ensure_every(conn)
    deploys.ensure(conn, build.pipeline, [(plan.environment, plan.lock)])
    return deploys.locked(conn, plan.lock)


def settle(
    conn: Connection,
    build: Build,
    plan: pipelines.Deploy,
    *,
    now: datetime,
    actor: str,
    house: Sequence[Target],
) -> Build:
    """What arriving in `deploy_pending` means for the others there, and for the build itself."""
    if build.state is not State.deploy_pending:
        return build
    places = _places(conn, build, plan)
    mine = next(p for p in places if (p.pipeline, p.name) == (build.pipeline, plan.environment))
    why = gates.overtaken_by(conn, build, mine)
    if why is not None:
        return advance(conn, build, Move.supersede, now=now, actor=actor, house=house, reason=why)
    waiting = builds.at_environment(conn, build.pipeline, plan.environment, State.deploy_pending)
    for other in waiting:
        tags = other.tag is not None and build.tag is not None
        asked = other.deploy_to is not None and build.deploy_to is None
        if other.place < build.place and not tags and not asked:
            reason = f"build {build.id} is announced for {plan.environment}, and is newer"
            try:
                advance(
                    conn, other, Move.supersede, now=now, actor=actor, house=house, reason=reason
                )
            except Overtaken:
                continue  # its own move was first: the gates decide
    return build
