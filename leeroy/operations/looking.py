"""What is only looked at."""

from __future__ import annotations

from sqlalchemy import Connection

from leeroy import pushes, replay, views
from leeroy.context import Context
from leeroy.db import artifacts, builds, house, outbox, remotes
from leeroy.db.remotes import Remote
from leeroy.errors import Invalid
from leeroy.operations.common import Json
from leeroy.terms import State
from leeroy.verdict import gather
from leeroy.views import find


def list_(
    conn: Connection,
    context: Context,
    actor: str,
    *,
    pipeline: str | None = None,
    branch: str | None = None,
    state: str | None = None,
    limit: int = 30,
    before: int | None = None,
) -> list[Json]:
    """The newest builds first."""
    if state is not None and state not in {str(s) for s in State}:
        raise Invalid(f"{state!r} is no state; `leeroy states` lists them")
    if not 1 <= limit <= 1000:
        raise Invalid("limit is from 1 to 1000")
    found = builds.latest(
        conn,
        pipeline=pipeline,
        branch=branch,
        state=None if state is None else State(state),
        limit=limit,
        before=before,
    )
    return [views.build_json(conn, context, build) for build in found]


def show(conn: Connection, context: Context, actor: str, *, id: int) -> Json:
    """One build."""
    return views.build_json(conn, context, find(conn, id))


def events(conn: Connection, context: Context, actor: str, *, id: int) -> list[Json]:
    """Every move of a build."""
    find(conn, id)
    return [views.event_json(event) for event in builds.history(conn, id)]


def notices(conn: Connection, context: Context, actor: str, *, id: int) -> list[Json]:
    """Whom a build's moves were told to, and how that went."""
    find(conn, id)
    return [views.notice_json(notice, state) for notice, state in outbox.of(conn, id)]


def artifacts_(conn: Connection, context: Context, actor: str, *, id: int) -> list[Json]:
    """The files that a build left for its deploys; of a rollback, those that it deploys."""
    found = artifacts.of(conn, artifacts.owner(conn, find(conn, id)))
    return [{"path": a.path, "size": a.size, "sha256": a.sha256} for a in found]


def why(conn: Connection, context: Context, actor: str, *, id: int) -> Json:
    """Why a build waits."""
    build = find(conn, id)
    return {"id": id, "state": str(build.state), "why": views.why(conn, context, build)}


def verdict(conn: Connection, context: Context, actor: str, *, id: int) -> Json:
    """A build's record, every line chained to the one before, with one sentence of cause."""
    return gather.verdict(conn, find(conn, id))


def replay_(
    conn: Connection, context: Context, actor: str, *, id: int | None = None, after: int = 0
) -> Json:
    """Builds rebuilt from their events and compared with the rows: one, or a part of all."""
    if id is not None:
        return replay.one(conn, find(conn, id))
    return replay.part(conn, after)


def environments(conn: Connection, context: Context, actor: str) -> list[Json]:
    """What runs where."""
    return views.environments_json(conn, context.clock.now())


def pipelines(conn: Connection, context: Context, actor: str) -> list[Json]:
    """The pipelines: what is wrong with their files, and what is known of their repositories."""
    known = remotes.every(conn)
    return [
        {
            "name": s.name,
            "in_force": s.text is not None,
            "mistakes": s.mistakes,
            **pushes.remote_json(known.get(s.name) or Remote(s.name)),
        }
        for s in house.shelf(conn).values()
        if s.present
    ]
