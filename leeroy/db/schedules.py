"""The rows of `schedules`: up to when each schedule of a pipeline was seen to."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection, select, update

from leeroy.db import upserts
from leeroy.db.tables import schedules


def every(conn: Connection) -> dict[tuple[str, str], datetime]:
    """Up to when each (pipeline, schedule) was seen to."""
    columns = schedules.c
    rows = conn.execute(select(columns.pipeline, columns.schedule, columns.seen_to))
    return {(row.pipeline, row.schedule): row.seen_to for row in rows}


def add(conn: Connection, pipeline: str, schedule: str, now: datetime) -> None:
    """A schedule that is new: what came before it is nothing to it.  Twice is as good as once."""
    row = {"pipeline": pipeline, "schedule": schedule, "seen_to": now}
    conn.execute(upserts.insert(conn, schedules).on_conflict_do_nothing(), row)


def remove(conn: Connection, pipeline: str, schedule: str) -> None:
    """A schedule that its pipeline no longer has."""
    conn.execute(
        sa.delete(schedules).where(
            schedules.c.pipeline == pipeline, schedules.c.schedule == schedule
        )
    )


def see_to(
    conn: Connection, pipeline: str, schedule: str, before: datetime, until: datetime
) -> bool:
    """Everything up to *until* is seen to; False: somebody else did that since *before*."""
    columns = schedules.c
    statement = update(schedules).where(
        columns.pipeline == pipeline, columns.schedule == schedule, columns.seen_to == before
    )
    return conn.execute(statement.values(seen_to=until)).rowcount == 1
