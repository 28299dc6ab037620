"""
Which schema the database has, and how it gets the one this program needs.

Migrations live in the top-level `migrations/` (in the wheel: `leeroy/_migrations`).
Only one process migrates at a time; the others wait, then find the work done.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from leeroy.db import copying, leftover
from leeroy.db.engines import label, postgres_engine, sqlite_engine
from leeroy.errors import Unavailable

HEAD: Final = "0009"
"""The revision this program needs (a test compares it with `migrations/`)."""

_LOCK_KEY: Final = 0x1EE205  # any number, the same for every Leeroy


def migrations() -> Path:
    """The folder with the migrations: the wheel's copy, or the checkout's own."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "_migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def revision(conn: Connection) -> str | None:
    """The schema's revision; None for an empty database."""
    if not sa.inspect(conn).has_table("alembic_version"):
        return None
    return conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


class Outgrown(Unavailable):
    """The schema was changed under a server that runs, which cannot know what the new one asks."""


def still_ours(conn: Connection, name: str) -> None:
    """Raise Outgrown where the database *name* no longer has the schema this program needs."""
    found = conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    if found != HEAD:
        raise Outgrown(_differs(name, found))


def ensure(url: str, *, migrate: bool) -> bool:
    """
    See to it that the database has the schema this program needs.

    With *migrate* an older one is brought up to date (a SQLite file is copied
    first, to `<file>.before-<revision>`); an empty one is always filled when
    it is SQLite.  A crash in between leaves the old schema or the new one.
    A log beside the file that belongs to another is put aside first; so this
    process must not have the file open yet.

    Returns:
        Whether something was changed.

    Raises:
        Unavailable: It cannot be reached, is damaged, is newer than this program, or is
            older and *migrate* is false; the text says what to do.
    """
    parsed = sa.make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.database:
        why = leftover.sort_out(Path(parsed.database))
        if why is not None:
            raise Unavailable(why)
    engine = _engine(parsed, is_sqlite, migrate=migrate)
    try:
        with engine.connect() as conn:
            found = revision(conn)
        if found == HEAD:
            return False
        if not migrate:
            raise Unavailable(_differs(label(parsed), found))
        with _alone(engine, parsed, is_sqlite) as conn:
            found = revision(conn)
            if found == HEAD:
                return False
            conn.rollback()
            if is_sqlite and found is not None:
                before = Path(f"{parsed.database}.before-{HEAD}")
                copying.copy(Path(str(parsed.database)), before)
            _upgrade(conn, label(parsed), found, is_sqlite)
            return True
    except DBAPIError as exc:
        why = str(exc.orig).strip().splitlines()[0]
        raise Unavailable(f"the database {label(parsed)} does not answer: {why}") from exc
    finally:
        engine.dispose()


def _engine(url: sa.URL, is_sqlite: bool, *, migrate: bool) -> Engine:
    if not is_sqlite:
        return postgres_engine(url, 1)
    if not migrate:
        return sqlite_engine(url, "BEGIN", even_full=True)
    return sqlite_engine(url, "BEGIN IMMEDIATE")


def _differs(name: str, found: str | None) -> str:
    if found is None:
        return f"the database {name} is empty; `leeroy migrate` fills it"
    if found > HEAD:
        return (
            f"the database {name} has schema {found}, newer than this Leeroy's {HEAD}; "
            "run the newer Leeroy, or restore the copy made before the upgrade"
        )
    return f"the database {name} has schema {found}, this Leeroy needs {HEAD}; run `leeroy migrate`"


@contextmanager
def _alone(engine: Engine, url: sa.URL, is_sqlite: bool) -> Iterator[Connection]:
    """A connection on which nobody else migrates this database."""
    if is_sqlite:
        with Path(f"{url.database}.migrating").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with engine.connect() as conn:
                yield conn
        return
    with engine.connect() as conn:
        conn.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK_KEY})")
        conn.commit()
        try:
            yield conn
        finally:
            conn.rollback()
            conn.exec_driver_sql(f"SELECT pg_advisory_unlock({_LOCK_KEY})")
            conn.commit()


def _upgrade(conn: Connection, name: str, found: str | None, is_sqlite: bool) -> None:
    # alembic takes a quarter of a second to import, and most starts need none of it
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    config.attributes["connection"] = conn
    if is_sqlite:
        # Batch migrations rebuild tables: with foreign keys on, that would delete their children.
        conn.connection.dbapi_connection.execute("PRAGMA foreign_keys = OFF")  # type: ignore[union-attr]
    try:
        command.upgrade(config, "head")
    except CommandError as exc:
        raise Unavailable(_differs(name, found)) from exc
    if is_sqlite:
        wrong = conn.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if wrong:
            conn.rollback()
            raise Unavailable(
                f"the database {name} has {len(wrong)} broken references: {wrong[:3]}"
            )
    conn.commit()
