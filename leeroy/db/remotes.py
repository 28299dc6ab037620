"""The rows of `remotes`, `tips` and `missed`: what was seen in the pipelines' repositories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam, select, update

from leeroy.db import upserts
from leeroy.db.engine import touch
from leeroy.db.remote_tables import missed, remotes, tips

REMOTES = "remotes"
"""What `touch` is told when a pipeline's repository is to be asked at once."""

_MINUTE = timedelta(seconds=60)
_TIP = (tips.c.ref, tips.c.commit, tips.c.build, tips.c.version, tips.c.found_at)
# One statement that makes the row, or locks it as it is; either way it tells what it holds.
_LOCK = upserts.prepared(
    tips,
    lambda insert: insert.on_conflict_do_update(
        index_elements=["pipeline", "ref"], set_={"version": tips.c.version}
    ).returning(*_TIP),
)
_FRESH = select(remotes.c.pipeline).where(
    remotes.c.pipeline == bindparam("p"),
    remotes.c.delivered_at > bindparam("t"),
    remotes.c.delivered_by == bindparam("f"),
)
_SET = (
    update(tips)
    .where(tips.c.pipeline == bindparam("p"), tips.c.ref == bindparam("r"))
    .values(
        commit=bindparam("c"), build=bindparam("b"), at=bindparam("t"), version=tips.c.version + 1
    )
)


@dataclass(frozen=True)
class Remote:
    """
    What is known of a pipeline's repository.

    `repository` is the address whose branches and tags `tips` holds, since
    `first_at`; both None until it answered once.  `failed_at` is when it
    began not to answer, `trouble` why; None while it does.  `doubted` asks
    for a look at once.
    """

    pipeline: str
    repository: str | None = None
    first_at: datetime | None = None
    asked_at: datetime | None = None
    failed_at: datetime | None = None
    failures: int = 0
    trouble: str | None = None
    delivered_at: datetime | None = None
    delivered_by: str | None = None
    doubted: bool = False


@dataclass(frozen=True)
class Tip:
    """
    Where a branch or tag (`ref` is its full name) was last seen.

    `commit` is None when it is known to be gone; `build` is the build of that
    commit, None when there is none.  `version` 0: never seen.  `found_at` is
    when asking last found something there (then `missed` has it).
    """

    ref: str
    commit: str | None = None
    build: int | None = None
    version: int = 0
    found_at: datetime | None = None


@dataclass(frozen=True)
class Missed:
    """A commit that asking found; `head`: the ref's newest one then, not one it passed over."""

    pipeline: str
    ref: str
    commit: str
    build: int | None
    head: bool
    at: datetime
    told_at: datetime | None


# --- remotes


def every(conn: Connection) -> dict[str, Remote]:
    """What is known of each pipeline's repository, by pipeline."""
    return {row.pipeline: Remote(*row) for row in conn.execute(select(remotes))}


def change(conn: Connection, pipeline: str, **values: Any) -> None:
    """Set columns of a pipeline's row, which is made if there is none."""
    row = {"pipeline": pipeline, "failures": 0, "doubted": False}
    conn.execute(upserts.insert(conn, remotes).values(**row).on_conflict_do_nothing())
    conn.execute(update(remotes).where(remotes.c.pipeline == pipeline).values(**values))


def delivered(conn: Connection, pipeline: str, forge: str, now: datetime) -> None:
    """A delivery came; written down once a minute, so that a busy pipeline's do not queue."""
    fresh = {"p": pipeline, "f": forge, "t": now - _MINUTE}
    if conn.execute(_FRESH, fresh).first() is None:
        change(conn, pipeline, delivered_at=now, delivered_by=forge)


def doubt(conn: Connection, pipeline: str) -> None:
    """Have the pipeline's repository asked at once, after this commit."""
    change(conn, pipeline, doubted=True)
    touch(conn, REMOTES)


def forget(conn: Connection, pipeline: str) -> None:
    """What was seen counts for nothing any more: the next sight is a first one."""
    for table in (tips, missed):
        conn.execute(sa.delete(table).where(table.c.pipeline == pipeline))
    conn.execute(sa.delete(remotes).where(remotes.c.pipeline == pipeline))


# --- tips


def tips_of(conn: Connection, pipeline: str) -> dict[str, Tip]:
    """Where each branch and tag was last seen, by full name; also those known to be gone."""
    rows = conn.execute(select(*_TIP).where(tips.c.pipeline == pipeline))
    return {row.ref: Tip(*row) for row in rows}


def locked(conn: Connection, pipeline: str, ref: str, now: datetime) -> Tip:
    """A ref's tip; nobody else may change it before this transaction ends."""
    new = {"pipeline": pipeline, "ref": ref, "version": 0, "at": now}
    return Tip(*conn.execute(_LOCK(conn), new).one())


def see(
    conn: Connection, pipeline: str, ref: str, commit: str | None, build: int | None, now: datetime
) -> None:
    """Set a ref's tip, whose row is *locked*."""
    conn.execute(_SET, {"p": pipeline, "r": ref, "c": commit, "b": build, "t": now})


def first_sight(conn: Connection, pipeline: str, refs: Mapping[str, str], now: datetime) -> None:
    """Write down where branches and tags are; what a delivery told of before stays."""
    rows = [
        {"pipeline": pipeline, "ref": ref, "commit": commit, "version": 1, "at": now}
        for ref, commit in sorted(refs.items())
    ]
    if rows:
        conn.execute(upserts.insert(conn, tips).on_conflict_do_nothing(), rows)


# --- missed


def found(
    conn: Connection,
    pipeline: str,
    ref: str,
    head: str,
    passed_over: Sequence[str],
    build: int | None,
    now: datetime,
) -> None:
    """Write down what asking found on a *locked* ref: its newest commit, and those on the way."""
    conn.execute(
        update(tips).where(tips.c.pipeline == pipeline, tips.c.ref == ref).values(found_at=now)
    )
    rows = [
        {
            "pipeline": pipeline,
            "ref": ref,
            "commit": commit,
            "build": build,
            "head": commit == head,
            "at": now,
            "told_at": None,
        }
        for commit in dict.fromkeys((head, *passed_over))
    ]
    keys = ["pipeline", "ref", "commit"]
    statement = upserts.insert(conn, missed)
    values = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    conn.execute(statement.on_conflict_do_update(index_elements=keys, set_=values), rows)


def missed_one(conn: Connection, pipeline: str, ref: str, commit: str) -> Missed | None:
    """What asking found of that commit; None when it did not."""
    statement = select(missed).where(
        missed.c.pipeline == pipeline, missed.c.ref == ref, missed.c.commit == commit
    )
    row = conn.execute(statement).first()
    return None if row is None else Missed(*row)


def told(conn: Connection, pipeline: str, ref: str, commit: str, now: datetime) -> None:
    """A delivery told of a missed commit after all."""
    statement = update(missed).where(
        missed.c.pipeline == pipeline, missed.c.ref == ref, missed.c.commit == commit
    )
    conn.execute(statement.values(told_at=now))


def untold(conn: Connection, before: datetime) -> list[Missed]:
    """The heads that asking found and built before then, and that no delivery told of."""
    statement = select(missed).where(
        missed.c.head,
        missed.c.build.is_not(None),
        missed.c.told_at.is_(None),
        missed.c.at < before,
    )
    return [Missed(*row) for row in conn.execute(statement.order_by(missed.c.at.desc()))]


def tidy(conn: Connection, before: datetime, present: Iterable[str]) -> None:
    """Forget what no late delivery will be about, and refs that are gone since before then."""
    conn.execute(sa.delete(missed).where(missed.c.at < before))
    conn.execute(sa.delete(tips).where(tips.c.commit.is_(None), tips.c.at < before))
    for pipeline in set(conn.execute(select(remotes.c.pipeline)).scalars()) - set(present):
        forget(conn, pipeline)
