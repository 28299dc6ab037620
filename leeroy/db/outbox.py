"""The rows of `outbox`: one notice for each event and target, until it is sent or given up."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, func, select, update

from leeroy.db import chronicle
from leeroy.db.engine import touch
from leeroy.db.tables import builds, deploys, events, outbox
from leeroy.model import Event, Notice
from leeroy.terms import Kind, State

_INSERT = outbox.insert()
_ANNOUNCED = select(outbox.c.target).where(
    outbox.c.build_id == sa.bindparam("build"), outbox.c.urgent, outbox.c.state != "obsolete"
)


def notice_of(row: Row[Any]) -> Notice:
    """The frozen picture of a row."""
    return Notice(
        id=row.id,
        build_id=row.build_id,
        seq=row.seq,
        target=row.target,
        urgent=row.urgent,
        state=row.state,
        attempts=row.attempts,
        accepted=tuple(json.loads(row.accepted)),
        next_try_at=row.next_try_at,
        last_error=row.last_error,
        created_at=row.created_at,
        sent_at=row.sent_at,
    )


def add(conn: Connection, event: Event, targets: Iterable[str], *, urgent: bool) -> None:
    """One notice of *event* for each target, in the transaction of the move itself."""
    rows = [
        {
            "build_id": event.build_id,
            "seq": event.seq,
            "target": target,
            "urgent": urgent,
            "state": "waiting",
            "attempts": 0,
            "accepted": "[]",
            "next_try_at": event.at,
            "created_at": event.at,
        }
        for target in dict.fromkeys(targets)
    ]
    if rows:
        conn.execute(_INSERT, rows)
        touch(conn, "outbox")


def _ready() -> sa.ColumnElement[bool]:
    """Whether a row that waits may go now, as far as the others of its build and target say."""
    earlier = outbox.alias("earlier")
    same = sa.and_(
        earlier.c.build_id == outbox.c.build_id,
        earlier.c.target == outbox.c.target,
        earlier.c.state == "waiting",
    )
    blocked = sa.exists().where(
        same, earlier.c.seq < outbox.c.seq, earlier.c.urgent >= outbox.c.urgent
    )
    on_its_way = sa.exists().where(
        same, earlier.c.id != outbox.c.id, earlier.c.claimed_by.is_not(None)
    )
    return sa.and_(
        outbox.c.state == "waiting", outbox.c.claimed_by.is_(None), ~blocked, ~on_its_way
    )


def claim(
    conn: Connection, now: datetime, limit: int, who: str, busy: Collection[str] = ()
) -> list[Notice]:
    """
    The notices to send now, marked as *who*'s; none of the *busy* targets.

    Of each build and target only the oldest that waits; announcements first.
    What another sender claimed is left alone until `release`.
    """
    statement = (
        select(outbox)
        .where(_ready(), outbox.c.next_try_at <= now, outbox.c.target.not_in(sorted(busy)))
        .order_by(outbox.c.urgent.desc(), outbox.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = [notice_of(row) for row in conn.execute(statement)]
    # Two rows of one build and target may both be free to go (an announcement and an older
    # notice): one at a time, so that the target sees the announcement first.
    first: dict[tuple[int, str], Notice] = {}
    for notice in found:
        first.setdefault((notice.build_id, notice.target), notice)
    chosen = list(first.values())
    if chosen:
        ids = [notice.id for notice in chosen]
        conn.execute(update(outbox).where(outbox.c.id.in_(ids)).values(claimed_by=who))
    return chosen


def release(conn: Connection, who: str, but: Collection[int] = ()) -> None:
    """
    What *who* had claimed may be sent by anybody again: its process died.

    Or the claim was stored and its answer lost; then all *but* what is in hand.
    """
    conn.execute(
        update(outbox)
        .where(
            outbox.c.state == "waiting",
            outbox.c.claimed_by == who,
            outbox.c.id.not_in(sorted(but)),
        )
        .values(claimed_by=None)
    )


def hurry(conn: Connection, now: datetime) -> None:
    """The clock was set back: what was to be tried at a time still far off is tried now."""
    conn.execute(
        update(outbox)
        .where(outbox.c.state == "waiting", outbox.c.next_try_at > now)
        .values(next_try_at=now)
    )
    touch(conn, "outbox")


def get(conn: Connection, notice_id: int) -> Notice | None:
    """One notice."""
    row = conn.execute(select(outbox).where(outbox.c.id == notice_id)).first()
    return None if row is None else notice_of(row)


def accept(conn: Connection, notice_id: int, recipient: str, now: datetime) -> Notice | None:
    """
    Write down that *recipient* has the notice: it is never sent there again.

    If it announces the deploy that still waits, the deploy counts as heard.
    None: the row is gone (with its build).
    """
    # The build's row first: an acceptance comes before the build's last move or after it, so the
    # record of a build that is over never changes.
    version = conn.execute(
        select(builds.c.version)
        .where(
            builds.c.id
            == select(outbox.c.build_id).where(outbox.c.id == notice_id).scalar_subquery()
        )
        .with_for_update()
    ).scalar()
    statement = select(outbox).where(outbox.c.id == notice_id).with_for_update()
    row = conn.execute(statement).first()
    if row is None or version is None:
        return None
    notice = notice_of(row)
    if recipient not in notice.accepted:
        chronicle.add(
            conn, notice.build_id, version, Kind.accepted, recipient, now, number=notice.seq
        )
        accepted = json.dumps([*notice.accepted, recipient])
        conn.execute(update(outbox).where(outbox.c.id == notice_id).values(accepted=accepted))
    if notice.urgent:
        heard = (
            update(deploys)
            .where(
                deploys.c.build_id == notice.build_id,
                deploys.c.announced_seq == notice.seq,
                deploys.c.heard_at.is_(None),
                sa.exists().where(
                    builds.c.id == notice.build_id, builds.c.state == State.deploy_pending
                ),
            )
            .values(heard_at=now, heard_by=recipient)
        )
        if conn.execute(heard).rowcount:
            conn.execute(update(builds).where(builds.c.id == notice.build_id).values(due_at=now))
            touch(conn, "builds")
    return notice


def sent(conn: Connection, notice_id: int, now: datetime) -> None:
    """Every recipient has it."""
    _end(conn, notice_id, state="sent", sent_at=now)


def failed(conn: Connection, notice_id: int, error: str, next_try_at: datetime) -> None:
    """Not everybody has it: count the attempt, and try again then."""
    _end(
        conn,
        notice_id,
        attempts=outbox.c.attempts + 1,
        last_error=error,
        next_try_at=next_try_at,
    )


def dead(conn: Connection, notice_id: int, error: str) -> None:
    """It is given up, and stays visible as that."""
    _end(conn, notice_id, state="dead", attempts=outbox.c.attempts + 1, last_error=error)


def obsolete(conn: Connection, notice_id: int, why: str) -> None:
    """It is of no use: there is nobody to tell."""
    _end(conn, notice_id, state="obsolete", last_error=why)


def _end(conn: Connection, notice_id: int, **values: Any) -> None:
    """An attempt ended; what was dropped meanwhile stays dropped."""
    conn.execute(
        update(outbox)
        .where(outbox.c.id == notice_id, outbox.c.state == "waiting")
        .values(claimed_by=None, **values)
    )
    touch(conn, "outbox", "builds")


def next_due(conn: Connection) -> datetime | None:
    """When the next notice that may go is to be tried."""
    return conn.execute(select(func.min(outbox.c.next_try_at)).where(_ready())).scalar()


def announced_to(conn: Connection, build_id: int) -> list[str]:
    """The targets that were sent, or are being sent, an announcement of this build's deploys."""
    found = conn.execute(_ANNOUNCED, {"build": build_id}).scalars()
    return list(dict.fromkeys(found))


def drop_announcements(conn: Connection, build_id: int) -> None:
    """Announcements still on their way are of no use any more: the deploy no longer waits."""
    conn.execute(
        update(outbox)
        .where(
            outbox.c.build_id == build_id,
            outbox.c.urgent,
            outbox.c.state == "waiting",
        )
        .values(state="obsolete", claimed_by=None)
    )


def announcement_targets(conn: Connection, build_id: int, seq: int) -> int:
    """How many targets the announcement with that seq goes to; "author" without one is none."""
    statement = select(func.count()).where(
        outbox.c.build_id == build_id, outbox.c.seq == seq, outbox.c.state != "obsolete"
    )
    return int(conn.execute(statement).scalar_one())


def of(conn: Connection, build_id: int) -> list[tuple[Notice, State]]:
    """Every notice of a build, with the state it tells of."""
    statement = (
        select(outbox, events.c.to_state)
        .join(
            events,
            sa.and_(events.c.build_id == outbox.c.build_id, events.c.seq == outbox.c.seq),
        )
        .where(outbox.c.build_id == build_id)
        .order_by(outbox.c.id)
    )
    return [(notice_of(row), State(row.to_state)) for row in conn.execute(statement)]


def trouble(conn: Connection, limit: int = 20) -> list[Notice]:
    """The notices that were given up, and those that fail, newest first."""
    statement = (
        select(outbox)
        .where(
            sa.or_(
                outbox.c.state == "dead",
                sa.and_(outbox.c.state == "waiting", outbox.c.attempts > 0),
            )
        )
        .order_by(outbox.c.id.desc())
        .limit(limit)
    )
    return [notice_of(row) for row in conn.execute(statement)]


def counts(conn: Connection) -> dict[str, int]:
    """How many notices are in each state."""
    statement = select(outbox.c.state, func.count()).group_by(outbox.c.state)
    return dict(conn.execute(statement).all())
