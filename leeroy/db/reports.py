"""
The rows of `reports`: what each thing on a forge is to show, until it shows it or is given up.

One row is one status, comment or deployment, not one message: a newer move
(or a newer build of the same commit) changes the row, so what was not sent
yet is never sent any more.  Also the tokens that a forge does not know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from functools import partial
from secrets import token_hex
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, func, select, update

from leeroy.db import upserts
from leeroy.db.engine import touch
from leeroy.db.tables import builds, dead_tokens, reports
from leeroy.model import Build, DeadToken, Report

CLAIM_S = 300.0
"""A claim that old is of a process that died on a host that did not come back."""

Subject = tuple[str, str, str]
"""A report's kind, subject and context."""


def report_of(row: Row[Any]) -> Report:
    """The frozen picture of a row."""
    return Report(
        id=row.id,
        pipeline=row.pipeline,
        kind=row.kind,
        subject=row.subject,
        context=row.context,
        build_id=row.build_id,
        seq=row.seq,
        marker=row.marker,
        remote_id=row.remote_id,
        look=row.began and row.remote_id is None,
        state=row.state,
        attempts=row.attempts,
        wanted_at=row.wanted_at,
        next_try_at=row.next_try_at,
        last_error=row.last_error,
        sent_at=row.sent_at,
    )


def want(conn: Connection, build: Build, subjects: Iterable[Subject], now: datetime) -> None:
    """
    Each of *subjects* is to show *build* as it is after its last move.

    In the transaction of the move itself.  What already shows a newer build
    stays as it is, and so does what shows one of our own where *build* is a
    fork's: its push of our commit says nothing of ours.  What is being tried
    again keeps its time, so that news do not hurry a forge that is down.
    """
    statement = (_WANT_FORK if build.fork else _WANT)(conn)
    for kind, subject, context in subjects:
        conn.execute(
            statement,
            {
                "pipeline": build.pipeline,
                "kind": kind,
                "subject": subject,
                "context": context,
                "build_id": build.id,
                "seq": build.version,
                "marker": token_hex(8),
                "began": False,
                "state": "waiting",
                "attempts": 0,
                "wanted_at": now,
                "next_try_at": now,
            },
        )
        touch(conn, "reports")


_KEY = ("pipeline", "kind", "subject", "context")


def _want(statement: Any, *, fork: bool = False) -> Any:
    new, waits = statement.excluded, reports.c.state == "waiting"
    older = reports.c.build_id <= new.build_id
    return statement.on_conflict_do_update(
        index_elements=list(_KEY),
        set_={
            "build_id": new.build_id,
            "seq": new.seq,
            "wanted_at": new.wanted_at,
            "state": "waiting",
            "sent_at": None,
            "attempts": sa.case((waits, reports.c.attempts), else_=0),
            "next_try_at": sa.case((waits, reports.c.next_try_at), else_=new.next_try_at),
        },
        where=sa.and_(older, _of_a_fork()) if fork else older,
    )


def _of_a_fork() -> sa.ColumnElement[bool]:
    """Whether the row as it is shows a fork's build."""
    # As text: a column of the table inserted into would be drawn into the subquery's FROM.
    shown: sa.ColumnElement[int] = sa.literal_column("reports.build_id", sa.BigInteger)
    return select(builds.c.id).where(builds.c.id == shown, builds.c.fork).exists()


_WANT = upserts.prepared(reports, _want)
_WANT_FORK = upserts.prepared(reports, partial(_want, fork=True))


def _free(now: datetime) -> sa.ColumnElement[bool]:
    claimed = reports.c.claimed_until
    return sa.and_(reports.c.state == "waiting", sa.or_(claimed.is_(None), claimed <= now))


def claim(
    conn: Connection, now: datetime, who: str, busy: Collection[str] = (), limit: int = 8
) -> list[Report]:
    """
    The oldest due report of each pipeline that is not *busy*, marked as *who*'s.

    One at a time for each pipeline: forges ask for that (GitHub's secondary
    limits), and a forge that hangs delays its own reports only.
    """
    first = (
        select(func.min(reports.c.id))
        .where(_free(now), reports.c.next_try_at <= now, reports.c.pipeline.not_in(sorted(busy)))
        .group_by(reports.c.pipeline)
        .limit(limit)
    )
    statement = select(reports).where(reports.c.id.in_(first), _free(now))
    rows = list(conn.execute(statement.with_for_update(skip_locked=True)))
    if rows:
        values = {
            "claimed_by": who,
            "claimed_until": now + timedelta(seconds=CLAIM_S),
            "began": True,
        }
        ids = [row.id for row in rows]
        conn.execute(update(reports).where(reports.c.id.in_(ids)).values(values))
    return [report_of(row) for row in rows]


def release(conn: Connection, who: str) -> None:
    """What *who* had claimed may be sent by anybody again (its process died)."""
    _change(conn, reports.c.claimed_by == who, claimed_by=None, claimed_until=None)


def made(conn: Connection, report: Report, remote_id: str) -> None:
    """The forge gave it that id; what it shows is still to be told."""
    _change(conn, reports.c.id == report.id, remote_id=remote_id)


def sent(conn: Connection, report: Report, remote_id: str | None, now: datetime) -> None:
    """The forge shows it; unless there were news meanwhile, nothing is left to tell."""
    _end(conn, report, {"state": "sent", "sent_at": now}, remote_id=remote_id, attempts=0)


def failed(conn: Connection, report: Report, error: str, next_try_at: datetime) -> None:
    """No answer: count the attempt, and try again then."""
    _change(
        conn,
        sa.and_(reports.c.id == report.id, reports.c.state == "waiting"),
        attempts=reports.c.attempts + 1,
        last_error=error,
        next_try_at=next_try_at,
        claimed_by=None,
        claimed_until=None,
    )


def dead(conn: Connection, report: Report, error: str) -> None:
    """It is given up, and stays visible as that until there are news."""
    _end(conn, report, {"state": "dead"}, attempts=reports.c.attempts + 1, last_error=error)


def obsolete(conn: Connection, report: Report, why: str) -> None:
    """There is nothing to tell (any more)."""
    _end(conn, report, {"state": "obsolete"}, last_error=why)


def _end(conn: Connection, report: Report, ending: dict[str, Any], **values: Any) -> None:
    """An attempt ended; *ending* is true only of what was attempted."""
    values |= {"claimed_by": None, "claimed_until": None}
    if values.get("remote_id", "") is None:
        del values["remote_id"]
    if "sent_at" in ending:
        values["last_error"] = None
    same = sa.and_(
        reports.c.id == report.id,
        reports.c.build_id == report.build_id,
        reports.c.seq == report.seq,
        reports.c.state == "waiting",
    )
    if not _change(conn, same, **values, **ending):
        _change(conn, reports.c.id == report.id, **values)


def postpone(conn: Connection, pipeline: str, until: datetime) -> None:
    """The forge had enough: nothing of *pipeline* is told before then."""
    _change(
        conn,
        sa.and_(
            reports.c.pipeline == pipeline,
            reports.c.state == "waiting",
            reports.c.next_try_at < until,
        ),
        next_try_at=until,
    )


def _change(conn: Connection, where: sa.ColumnElement[bool], **values: Any) -> int:
    touch(conn, "reports")
    return conn.execute(update(reports).where(where).values(**values)).rowcount


def next_due(conn: Connection, now: datetime, busy: Collection[str] = ()) -> datetime | None:
    """When the next report of a pipeline that is not *busy* is to be tried."""
    statement = select(func.min(reports.c.next_try_at)).where(
        _free(now), reports.c.pipeline.not_in(sorted(busy))
    )
    return conn.execute(statement).scalar()


def waiting(conn: Connection) -> dict[str, int]:
    """How many reports of each pipeline wait."""
    statement = (
        select(reports.c.pipeline, func.count())
        .where(reports.c.state == "waiting")
        .group_by(reports.c.pipeline)
    )
    return dict(conn.execute(statement).all())


def of(conn: Connection, build_id: int) -> list[Report]:
    """What is told of a build."""
    statement = select(reports).where(reports.c.build_id == build_id).order_by(reports.c.id)
    return [report_of(row) for row in conn.execute(statement)]


def trouble(conn: Connection, limit: int = 20) -> list[Report]:
    """The reports that were given up, and those that fail, newest first."""
    failing = sa.and_(reports.c.state == "waiting", reports.c.attempts > 0)
    statement = (
        select(reports)
        .where(sa.or_(reports.c.state == "dead", failing))
        .order_by(reports.c.id.desc())
        .limit(limit)
    )
    return [report_of(row) for row in conn.execute(statement)]


def counts(conn: Connection) -> dict[str, int]:
    """How many reports are in each state."""
    statement = select(reports.c.state, func.count()).group_by(reports.c.state)
    return dict(conn.execute(statement).all())


def bury(conn: Connection, token: DeadToken) -> bool:
    """Write down that a forge does not know a token; False: that was known."""
    known = select(dead_tokens.c.at).where(dead_tokens.c.fingerprint == token.fingerprint)
    if conn.execute(known).first() is not None:
        return False
    conn.execute(
        dead_tokens.insert(),
        {
            "fingerprint": token.fingerprint,
            "pipeline": token.pipeline,
            "reference": token.reference,
            "said": token.said,
            "at": token.at,
        },
    )
    touch(conn, "reports")
    return True


def unbury(conn: Connection, pipeline: str) -> None:
    """The pipeline has a token that its forge knows: what was wrong before is of no interest."""
    conn.execute(sa.delete(dead_tokens).where(dead_tokens.c.pipeline == pipeline))


def buried(conn: Connection) -> list[DeadToken]:
    """Every token that a forge does not know, the oldest first."""
    statement = select(dead_tokens).order_by(dead_tokens.c.at)
    return [DeadToken(**row._mapping) for row in conn.execute(statement)]
