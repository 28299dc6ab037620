"""The rows of `deploys` and `environments`: what is to go where, and what runs there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, select, update

from leeroy.db import upserts
from leeroy.db.builds import get as find_build
from leeroy.db.engine import touch
from leeroy.db.tables import builds, deploys, environments
from leeroy.model import Build, Deploy, Environment
from leeroy.terms import State

EVERY = ("", "*")
"""The row of `environments` whose freeze holds all of them, those to come included."""

_ENSURE = upserts.prepared(environments, lambda insert: insert.on_conflict_do_nothing())
_ENVIRONMENTS = select(*(c for c in environments.c if c is not environments.c.frozen_except))


def deploy_of(row: Row[Any]) -> Deploy:
    """The frozen picture of a row of `deploys`."""
    return Deploy(**row._mapping)


def environment_of(row: Row[Any]) -> Environment:
    """The frozen picture of a row of `environments`."""
    return Environment(**row._mapping)


def get(conn: Connection, build_id: int, environment: str) -> Deploy | None:
    """One build's deploy to one environment."""
    statement = select(deploys).where(
        deploys.c.build_id == build_id, deploys.c.environment == environment
    )
    row = conn.execute(statement).first()
    return None if row is None else deploy_of(row)


def of(conn: Connection, build_id: int) -> list[Deploy]:
    """Every deploy a build has had announced or started."""
    statement = select(deploys).where(deploys.c.build_id == build_id)
    return [deploy_of(row) for row in conn.execute(statement)]


def newest(conn: Connection, pipeline: str, environment: str) -> Iterator[tuple[Build, Deploy]]:
    """The deploys that ended there with their builds, the largest place first."""
    statement = (
        select(deploys)
        .join(builds, builds.c.id == deploys.c.build_id)
        .where(
            builds.c.pipeline == pipeline,
            deploys.c.environment == environment,
            deploys.c.outcome.is_not(None),
        )
        .order_by(builds.c.place.desc(), builds.c.id.desc())
    )
    for row in conn.execute(statement):
        build = find_build(conn, row.build_id)
        assert build is not None
        yield build, deploy_of(row)


def put(conn: Connection, build: Build, environment: str, **values: Any) -> Deploy:
    """Make or change the row of a build's deploy."""
    found = get(conn, build.id, environment)
    if found is None:
        key = build.deploy_key(environment)
        row = {"build_id": build.id, "environment": environment, "key": key, "withdrawals": 0}
        conn.execute(deploys.insert(), {**row, **values})
    elif values:
        conn.execute(
            update(deploys)
            .where(deploys.c.build_id == build.id, deploys.c.environment == environment)
            .values(**values)
        )
    deploy = get(conn, build.id, environment)
    assert deploy is not None
    return deploy


def ensure(conn: Connection, pipeline: str, locks: Iterable[tuple[str, str]]) -> None:
    """The rows of a pipeline's environments, given as (name, lock); what is known stays."""
    known = {
        row.name: row.lock
        for row in conn.execute(
            select(environments.c.name, environments.c.lock).where(
                environments.c.pipeline == pipeline
            )
        )
    }
    for name, lock in locks:
        if name not in known:
            conn.execute(_ENSURE(conn), {"pipeline": pipeline, "name": name, "lock": lock})
        elif known[name] != lock:
            change(conn, pipeline, name, lock=lock)


def ensure_every(conn: Connection) -> None:
    """The row that stands for all environments."""
    pipeline, name = EVERY
    conn.execute(_ENSURE(conn), {"pipeline": pipeline, "name": name, "lock": ""})


def environment(conn: Connection, pipeline: str, name: str) -> Environment | None:
    """What is known of an environment."""
    statement = _ENVIRONMENTS.where(
        environments.c.pipeline == pipeline, environments.c.name == name
    )
    row = conn.execute(statement).first()
    return None if row is None else environment_of(row)


def all_environments(conn: Connection, name: str | None = None) -> list[Environment]:
    """Every environment (of that name), without the row that stands for all."""
    statement = _ENVIRONMENTS.where(environments.c.name != EVERY[1])
    if name is not None:
        statement = statement.where(environments.c.name == name)
    statement = statement.order_by(environments.c.pipeline, environments.c.name)
    return [environment_of(row) for row in conn.execute(statement)]


def everywhere(conn: Connection) -> list[Environment]:
    """Every environment, the row for all first; nothing is locked."""
    statement = _ENVIRONMENTS.order_by(environments.c.pipeline, environments.c.name)
    return [environment_of(row) for row in conn.execute(statement)]


def sharing(conn: Connection, lock: str) -> list[Environment]:
    """The environments that share *lock*, with the row for all; nothing is locked."""
    statement = _ENVIRONMENTS.where(
        sa.or_(environments.c.lock == lock, environments.c.name == EVERY[1])
    )
    statement = statement.order_by(environments.c.pipeline, environments.c.name)
    return [environment_of(row) for row in conn.execute(statement)]


def locked(conn: Connection, lock: str) -> list[Environment]:
    """
    The environments that share *lock*, with the row for all, locked until the transaction ends.

    They are locked in one order, so that two who ask never wait for each
    other: whoever freezes, holds or approves takes the same rows first.
    """
    statement = (
        _ENVIRONMENTS.where(sa.or_(environments.c.lock == lock, environments.c.name == EVERY[1]))
        .order_by(environments.c.pipeline, environments.c.name)
        .with_for_update()
    )
    return [environment_of(row) for row in conn.execute(statement)]


def lock_all(conn: Connection) -> list[Environment]:
    """Every environment, the row for all first, locked until the transaction ends."""
    statement = _ENVIRONMENTS.order_by(
        environments.c.pipeline, environments.c.name
    ).with_for_update()
    return [environment_of(row) for row in conn.execute(statement)]


def change(conn: Connection, pipeline: str, name: str, **values: Any) -> None:
    """Set columns of an environment."""
    conn.execute(
        update(environments)
        .where(environments.c.pipeline == pipeline, environments.c.name == name)
        .values(**values)
    )
    touch(conn, "builds")


def unannounce(conn: Connection, *, pipeline: str | None, environment: str | None) -> None:
    """The waiting deploys (to one environment, or all) must be announced again, in full."""
    waiting = select(builds.c.id).where(builds.c.state == State.deploy_pending)
    if pipeline is not None:
        waiting = waiting.where(builds.c.pipeline == pipeline, builds.c.environment == environment)
    statement = update(deploys).where(
        deploys.c.build_id.in_(waiting), deploys.c.approved_at.is_(None)
    )
    if environment is not None:
        statement = statement.where(deploys.c.environment == environment)
    conn.execute(statement.values(announced_at=None, heard_at=None, heard_by=None, deploy_at=None))


def pending(conn: Connection) -> frozenset[int]:
    """The builds of which a deploy is announced and has not begun."""
    waiting = select(builds.c.id).where(builds.c.state == State.deploy_pending)
    return frozenset(conn.execute(waiting).scalars())


def approved_before(conn: Connection, moment: datetime) -> list[int]:
    """The builds whose waiting deploy was approved before *moment*."""
    statement = (
        select(deploys.c.build_id)
        .join(builds, builds.c.id == deploys.c.build_id)
        .where(
            builds.c.state == State.deploy_pending,
            deploys.c.environment == builds.c.environment,
            deploys.c.approved_at < moment,
        )
        .order_by(deploys.c.build_id)
    )
    return list(conn.execute(statement).scalars())


def hurried_before(conn: Connection, moment: datetime) -> list[int]:
    """The builds without a grace period (`--now`) that came before *moment* and are not over."""
    over = [state for state in State if state.over]
    statement = select(builds.c.id).where(
        builds.c.without_grace, builds.c.created_at < moment, builds.c.state.not_in(over)
    )
    return list(conn.execute(statement.order_by(builds.c.id)).scalars())


def last_of_each(conn: Connection, count: int) -> set[int]:
    """The builds of the last *count* deploys that reached each environment."""
    number = (
        sa.func.row_number()
        .over(
            partition_by=(builds.c.pipeline, deploys.c.environment),
            order_by=deploys.c.ended_at.desc(),
        )
        .label("number")
    )
    ranked = (
        select(deploys.c.build_id, number)
        .join(builds, builds.c.id == deploys.c.build_id)
        .where(deploys.c.outcome == "done")
        .subquery()
    )
    found = set(conn.execute(select(ranked.c.build_id).where(ranked.c.number <= count)).scalars())
    return found | set(
        conn.execute(
            select(environments.c.runs_build).where(environments.c.runs_build.is_not(None))
        ).scalars()
    )
