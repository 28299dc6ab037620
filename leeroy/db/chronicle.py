"""
The rows of `chronicle`: what happened around a build besides its moves, in order.

Each line carries the build's version at that moment, read while nobody else
may move the build; so what belongs to a finished build's story is fixed by its
last move, whatever is written later.  Triggers keep lines from being changed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, select

from leeroy.db.tables import builds, chronicle
from leeroy.model import Note
from leeroy.terms import Kind, State

_INSERT = chronicle.insert()


def _note_of(row: Row[Any]) -> Note:
    values = dict(row._mapping)
    values.pop("id")
    values["kind"] = Kind(values["kind"])
    return Note(**values)


def add(
    conn: Connection,
    build_id: int,
    seq: int,
    kind: Kind,
    who: str,
    at: datetime,
    *,
    environment: str | None = None,
    said: str | None = None,
    number: int | None = None,
) -> None:
    """Write a line; the caller holds the build's row, and *seq* is its version."""
    conn.execute(
        _INSERT,
        {
            "build_id": build_id,
            "seq": seq,
            "kind": str(kind),
            "environment": environment,
            "who": who,
            "said": said,
            "number": number,
            "at": at,
        },
    )


def add_start(conn: Connection, host_id: str, said: str, at: datetime) -> None:
    """A server of *host_id* started: a line for each build it finds under way."""
    columns = [c.name for c in chronicle.columns if c.name != "id"]
    mine = sa.or_(
        sa.and_(
            builds.c.host == host_id,
            builds.c.state.in_([State.building, State.deploying, State.interrupted]),
        ),
        builds.c.state.in_([State.passed, State.deploy_pending]),
    )
    found = select(builds.c.id, builds.c.version).where(mine).with_for_update()
    for build_id, version in conn.execute(found.order_by(builds.c.id)).all():
        row = dict.fromkeys(columns) | {
            "build_id": build_id,
            "seq": version,
            "kind": str(Kind.started),
            "who": host_id,
            "said": said,
            "at": at,
        }
        conn.execute(_INSERT, row)


def last(conn: Connection, build_id: int, kind: Kind) -> Note | None:
    """The newest line of that kind."""
    statement = (
        select(chronicle)
        .where(chronicle.c.build_id == build_id, chronicle.c.kind == kind)
        .order_by(chronicle.c.id.desc())
        .limit(1)
    )
    row = conn.execute(statement).first()
    return None if row is None else _note_of(row)


def of(conn: Connection, build_id: int) -> list[Note]:
    """Every line of a build, in order."""
    statement = select(chronicle).where(chronicle.c.build_id == build_id)
    return [_note_of(row) for row in conn.execute(statement.order_by(chronicle.c.id))]
