"""How a connection to each kind of database is set up."""

from __future__ import annotations

import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from leeroy.errors import Unavailable

_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR_SHM")
"""What SQLite says where the disk has no room for the index of its log (`-shm`)."""


def label(url: sa.URL) -> str:
    """The database as messages name it, without its password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.render_as_string(hide_password=True)


def sqlite_engine(url: sa.URL, begin: str, *, even_full: bool = False) -> Engine:
    """
    An engine whose transactions start with *begin*, set up to survive a power cut.

    With *even_full* it also reads where the disk has no room left and nobody
    else has the database open: alone then, with the log's index in memory.
    Such a connection changes nothing and is closed after each use, for as long
    as it is open no server can start.
    """
    asked = {"check_same_thread": False, "timeout": 10.0}
    pool: dict[str, Any] = {"poolclass": NullPool} if even_full else {}
    engine = sa.create_engine(url, connect_args=asked, **pool)

    if even_full:

        @event.listens_for(engine, "do_connect")
        def open_somehow(dialect: Any, _record: Any, given: Any, named: Any) -> Any:
            made = dialect.connect(*given, **named)
            try:
                _set_up(made, new=False)
            except sqlite3.OperationalError as exc:
                made.close()
                if not exc.sqlite_errorname.startswith(_NO_ROOM):
                    raise
                made = dialect.connect(*given, **named)
                _set_up_alone(made)
            return made

    else:

        @event.listens_for(engine, "connect")
        def connect(dbapi: Any, _record: Any) -> None:
            try:
                _set_up(dbapi)
            except sqlite3.Error:
                dbapi.close()  # it may hold a lock, and nobody else knows of it
                raise

    @event.listens_for(engine, "begin")
    def start(conn: Connection) -> None:
        try:
            driver(conn).execute(begin)
        except sqlite3.Error as exc:
            raise OperationalError(begin, None, exc) from exc

    return engine


def _set_up(dbapi: Any, *, new: bool = True) -> None:
    dbapi.isolation_level = None  # the driver's own BEGIN would be a deferred one
    cursor = dbapi.cursor()
    if new:
        # It has an effect only on an empty file and before WAL, and writes to any.
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged rows in a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _set_up_alone(dbapi: Any) -> None:
    dbapi.isolation_level = None
    cursor = dbapi.cursor()
    # Before the first look: only then does SQLite keep the log's index in memory.
    cursor.execute("PRAGMA locking_mode = EXCLUSIVE")
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()


def driver(conn: Connection) -> Any:
    """SQLite's own connection: what stands around a piece of work takes no detour."""
    return conn.connection.driver_connection


def postgres_engine(url: sa.URL, size: int) -> Engine:
    """A small pool whose connections notice a dead peer within seconds."""
    try:
        import psycopg  # noqa: F401
    except ImportError as exc:
        raise Unavailable(
            "PostgreSQL needs the extra leeroy[postgres]: `pip install 'leeroy[postgres]'`"
        ) from exc
    return sa.create_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 3,
            "keepalives_idle": 2,
            "keepalives_interval": 1,
            "keepalives_count": 3,
            "tcp_user_timeout": 4000,
            "options": "-c statement_timeout=30000 -c lock_timeout=10000"
            " -c idle_in_transaction_session_timeout=60000 -c synchronous_commit=on"
            # The other end, too: a session that lost its way to us must not keep its locks.
            " -c tcp_keepalives_idle=3 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
            " -c tcp_user_timeout=8000",
        },
    )
