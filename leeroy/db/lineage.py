"""The row of `lineage`: who this database is, and how much was ever committed to it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection, select, update

from leeroy.db.tables import hosts, lineage

BUMP = (
    "UPDATE lineage SET mark = mark + 1 RETURNING era, mark,"
    " (SELECT CAST(value AS INTEGER) FROM settings WHERE key = 'last_build')"
)
"""SQLite: part of every commit that changed something."""


@dataclass(frozen=True)
class Lineage:
    """`era` None: no server has ever started on it.  `incarnation`: as it was asserted last."""

    era: str | None
    mark: int
    incarnation: str | None


@dataclass(frozen=True)
class Standing:
    """
    What the database says of a host's journal.

    `journal`: the era it has one of.  `doubted`: the entry for which everything is
    frozen.  `cleared`: the entry that a person has thawed, and with it every
    earlier one of its era.
    """

    journal: str | None = None
    doubted: str | None = None
    cleared: str | None = None


def get(conn: Connection) -> Lineage:
    """The row."""
    row = conn.execute(select(lineage)).one()
    return Lineage(row.era, row.mark, row.incarnation)


def change(conn: Connection, **values: object) -> None:
    """Set columns of it."""
    conn.execute(update(lineage).values(**values))


def bump(conn: Connection) -> int:
    """Count one more commit (PostgreSQL: with each beat)."""
    statement = update(lineage).values(mark=lineage.c.mark + 1).returning(lineage.c.mark)
    return int(conn.execute(statement).scalar_one())


_UNKNOWN = "-"
_TIMELINE = ("pg_walfile_name(pg_lsn)", "pg_current_wal_lsn()")
_CLUSTER = ("pg_control_system()",)


def incarnation(conn: Connection) -> str | None:
    """
    Which tables of which PostgreSQL these are; None on SQLite.

    A dump that is loaded makes other tables, a recovery to a point in time or
    a promoted standby starts another timeline (the first digits of a WAL
    file's name), another cluster has another identifier.  What a role may not
    ask stays unknown ("-"), and is compared with nothing; see `same`.
    """
    if conn.dialect.name == "sqlite":
        return None
    tables = (
        "SELECT (SELECT oid FROM pg_database WHERE datname = current_database()) || '.' ||"
        " 'builds'::regclass::oid"
    )
    parts = [str(conn.exec_driver_sql(tables).scalar_one())]
    for functions, sql in (
        (_TIMELINE, "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"),
        (_CLUSTER, "SELECT system_identifier FROM pg_control_system()"),
    ):
        # Asked first: a call that is refused would end the whole transaction.
        asked = conn.execute(_MAY, {"functions": list(functions)}).scalar_one()
        parts.append(str(conn.exec_driver_sql(sql).scalar_one()) if asked else _UNKNOWN)
    return ".".join(parts)


_MAY = sa.text(
    "SELECT bool_and(has_function_privilege(name, 'EXECUTE'))"
    " FROM unnest(CAST(:functions AS text[])) AS name"
)


def same(one: str | None, other: str | None) -> bool:
    """Whether two incarnations are the same, as far as both are known."""
    if one is None or other is None:
        return one == other
    pairs = list(zip(one.split("."), other.split("."), strict=False))
    return len(pairs) == 4 and all(_UNKNOWN in pair or pair[0] == pair[1] for pair in pairs)


def last_build(conn: Connection) -> int:
    """The highest number a build was given."""
    if conn.dialect.name == "sqlite":
        sql = "SELECT CAST(value AS INTEGER) FROM settings WHERE key = 'last_build'"
    else:
        sql = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM builds_id_seq"
    return int(conn.exec_driver_sql(sql).scalar() or 0)


def skip_builds(conn: Connection, last: int) -> None:
    """The next build gets a number after *last*."""
    if conn.dialect.name == "sqlite":
        sql = (
            "INSERT INTO settings (key, value) VALUES ('last_build', :last)"
            " ON CONFLICT (key) DO UPDATE SET value = :last"
        )
        conn.execute(sa.text(sql), {"last": str(last)})
    else:
        conn.execute(sa.text("SELECT setval('builds_id_seq', :last)"), {"last": last})


def standing(conn: Connection, host_id: str) -> Standing:
    """What is known of a host's journal."""
    columns = hosts.c.journal, hosts.c.doubted, hosts.c.cleared
    row = conn.execute(select(*columns).where(hosts.c.id == host_id)).first()
    return Standing() if row is None else Standing(*row)


def stand(conn: Connection, host_id: str, **values: str | None) -> None:
    """Note it; the host's row is there."""
    conn.execute(update(hosts).where(hosts.c.id == host_id).values(**values))


def has_journals(conn: Connection) -> bool:
    """Whether any host has a journal of this database."""
    statement = select(hosts.c.id).where(hosts.c.journal.is_not(None)).limit(1)
    return conn.execute(statement).first() is not None


def clear(conn: Connection) -> None:
    """
    A person has looked: every journal that was doubted counts no more.

    Hosts in good standing go along into the next era: their journals are of
    this one, and not ahead of it.  Any other host has yet to say what it knows;
    so has every one after a move to another incarnation, for none has seen it.
    """
    found = get(conn)
    # A SQLite file has no other hosts: whoever else it names knows the file it was copied from.
    if found.incarnation is not None and same(found.incarnation, incarnation(conn)):
        conn.execute(
            update(hosts)
            .where(hosts.c.doubted.is_(None), hosts.c.journal == found.era)
            .values(cleared=f"{found.era}@{found.mark}", journal=None)
        )
    conn.execute(
        update(hosts)
        .where(hosts.c.doubted.is_not(None))
        .values(cleared=hosts.c.doubted, doubted=None, journal=None)
    )
