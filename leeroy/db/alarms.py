"""The rows of `alarms`: one for each target, until it is sent or given up."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, func, select, update

from leeroy.db.alarm_tables import alarms
from leeroy.db.engine import touch
from leeroy.model import Alarm

_WAITS = alarms.c.state == "waiting"


def _alarm_of(row: Row[Any]) -> Alarm:
    return Alarm(
        id=row.id,
        title=row.title,
        body=row.body,
        target=row.target,
        attempts=row.attempts,
        accepted=tuple(json.loads(row.accepted)),
        created_at=row.created_at,
    )


def add(conn: Connection, now: datetime, targets: Iterable[str], title: str, body: str) -> None:
    """One alarm for each target, in the transaction of what it tells of."""
    for target in dict.fromkeys(targets):
        row = {
            "title": title,
            "body": body,
            "target": target,
            "state": "waiting",
            "attempts": 0,
            "accepted": "[]",
            "next_try_at": now,
            "created_at": now,
        }
        conn.execute(alarms.insert(), row)
        touch(conn, "alarms")


def waiting(conn: Connection) -> bool:
    """Whether any is still to be sent."""
    return conn.execute(select(alarms.c.id).where(_WAITS).limit(1)).first() is not None


def claim(
    conn: Connection, now: datetime, limit: int, who: str, busy: Collection[str] = ()
) -> list[Alarm]:
    """The alarms to send now, marked as *who*'s; none of the *busy* targets."""
    statement = (
        select(alarms)
        .where(
            _WAITS,
            alarms.c.claimed_by.is_(None),
            alarms.c.next_try_at <= now,
            alarms.c.target.not_in(sorted(busy)),
        )
        .order_by(alarms.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = [_alarm_of(row) for row in conn.execute(statement)]
    ids = [alarm.id for alarm in found]
    conn.execute(update(alarms).where(alarms.c.id.in_(ids)).values(claimed_by=who))
    return found


def release(conn: Connection, who: str) -> None:
    """What *who* had claimed may be sent by anybody again: its process died."""
    conn.execute(update(alarms).where(_WAITS, alarms.c.claimed_by == who).values(claimed_by=None))


def accept(conn: Connection, alarm_id: int, recipient: str) -> None:
    """Write down that *recipient* has it: it is never sent there again."""
    row = conn.execute(select(alarms).where(alarms.c.id == alarm_id).with_for_update()).first()
    if row is not None:
        accepted = json.dumps(sorted({*json.loads(row.accepted), recipient}))
        conn.execute(update(alarms).where(alarms.c.id == alarm_id).values(accepted=accepted))


def end(conn: Connection, alarm_id: int, **values: Any) -> None:
    """An attempt ended; *values* say how."""
    conn.execute(
        update(alarms).where(alarms.c.id == alarm_id, _WAITS).values(claimed_by=None, **values)
    )
    touch(conn, "alarms")


def failed(conn: Connection, alarm_id: int, error: str, next_try_at: datetime) -> None:
    """Not everybody has it: count the attempt, and try again then."""
    attempts = alarms.c.attempts + 1
    end(conn, alarm_id, attempts=attempts, last_error=error, next_try_at=next_try_at)


def next_due(conn: Connection) -> datetime | None:
    """When the next one is to be tried."""
    statement = select(func.min(alarms.c.next_try_at)).where(_WAITS, alarms.c.claimed_by.is_(None))
    return conn.execute(statement).scalar()


def trouble(conn: Connection) -> list[tuple[Alarm, str | None]]:
    """The alarms that were given up, and those that fail, with the last error; newest first."""
    failing = sa.or_(alarms.c.state == "dead", sa.and_(_WAITS, alarms.c.attempts > 0))
    statement = select(alarms).where(failing).order_by(alarms.c.id.desc()).limit(20)
    return [(_alarm_of(row), row.last_error) for row in conn.execute(statement)]
