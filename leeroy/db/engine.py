"""
The database: who may write when, and what a commit promises.

SQLite has one writer thread; it commits what has gathered in one transaction
(group commit), and nobody is answered before that commit is on the disk.
PostgreSQL has a small pool and a transaction for each piece of work.  A piece
of work is a function of an open connection; it may be run a second time after
a rollback, so it must not touch anything but the database.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from leeroy.db.lineage import BUMP
from leeroy.errors import Unavailable
from leeroy.journal import Journal

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[Connection], T]
Job = tuple[Work[Any], "Future[Any]"]

GATHER = 64
"""At most so many pieces of work share one commit."""

POLL_S = 0.5
"""How often an idle SQLite writer looks whether another process wrote."""


def touch(conn: Connection, *what: str) -> None:
    """Note what this transaction makes due ("builds", "outbox"); told to `on_commit`."""
    conn.info.setdefault("touched", set()).update(what)


def _answer(future: Future[Any], value: Any) -> None:
    # Whoever asked may have given up meanwhile (a server that stops); the commit stands.
    with contextlib.suppress(InvalidStateError):
        future.set_result(value)


def _refuse(future: Future[Any], error: BaseException) -> None:
    with contextlib.suppress(InvalidStateError):
        future.set_exception(error)


class Database:
    """
    A database that is open.

    `on_commit(touched)` is called from a database thread after each commit
    that made something due, and with {"builds", "outbox"} when another process
    wrote.  `on_broken(error)` is called once when a write may or may not have
    reached the disk: the process must stop then, and read the rows anew.
    `journal` is told of each commit to SQLite before anybody is answered.

    Raises (from every method):
        Unavailable: The database does not answer, or cannot store; nothing was promised.
    """

    def __init__(
        self,
        url: str,
        on_commit: Callable[[frozenset[str]], None] | None = None,
        on_broken: Callable[[Exception], None] | None = None,
        writers: int = 4,
        journal: Journal | None = None,
    ) -> None:
        self.journal = journal
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.label = label(self.url)
        self.on_commit = on_commit
        self.on_broken = on_broken
        self.broken: Exception | None = None
        self.trouble: Exception | None = None
        """Why the last piece of work could not be stored; None when it was."""
        self._closing = False
        if self.is_sqlite:
            self._reading = sqlite_engine(self.url, "BEGIN")
            self._writer: _SqliteWriter | None = _SqliteWriter(self)
            self._pool: ThreadPoolExecutor | None = None
        else:
            self._reading = postgres_engine(self.url, writers + 2)
            self._writer = None
            self._pool = ThreadPoolExecutor(writers, "leeroy-db")
            self._listener: _Listener | None = None

    def submit(self, work: Work[T]) -> Future[T]:
        """Run *work* in a writing transaction; the future is done after the commit."""
        return self.submit_all([work])[0]

    def submit_all(self, works: Sequence[Work[T]]) -> list[Future[T]]:
        """Run each in a writing transaction (SQLite: savepoints in one)."""
        jobs: list[tuple[Work[T], Future[T]]] = [(work, Future()) for work in works]
        if self.broken or self._closing:
            for _, future in jobs:
                _refuse(future, self._unavailable(self.broken))
        elif self._writer is not None:
            self._writer.put(jobs)
        else:
            assert self._pool is not None
            for work, future in jobs:
                self._pool.submit(self._run_postgres, work, future)
        return [future for _, future in jobs]

    def transact(self, work: Work[T]) -> T:
        """Run *work* in a writing transaction and wait for its commit."""
        return self.submit(work).result()

    def read(self, work: Work[T]) -> T:
        """Run *work* on one consistent picture, in the caller's thread, beside any writer."""
        try:
            with self._reading.connect() as conn, conn.begin():
                return work(conn)
        except (DBAPIError, NoConnection) as exc:
            raise self._unavailable(exc) from exc

    def listen(self) -> None:
        """Also tell `on_commit` of what other processes commit."""
        if self._writer is not None:
            self._writer.listening = True
        else:
            self._listener = _Listener(self)

    def close(self) -> None:
        """Commit what was submitted, then let go of every connection."""
        self._closing = True
        if self._writer is not None:
            self._writer.stop()
        else:
            assert self._pool is not None
            if self._listener is not None:
                self._listener.stop()
            self._pool.shutdown()
        self._reading.dispose()

    def _run_postgres(self, work: Work[T], future: Future[T]) -> None:
        for attempt in (1, 2, 3):
            try:
                with self._reading.connect() as conn:
                    conn.info.pop("touched", None)
                    with conn.begin():
                        value = work(conn)
                        touched = frozenset(conn.info.pop("touched", ()))
                        if touched:
                            conn.exec_driver_sql(f"NOTIFY leeroy, '{' '.join(sorted(touched))}'")
                break
            except DBAPIError as exc:
                # A deadlock's victim was rolled back whole, so it may simply try again; and where
                # somebody else wrote the same key first, the work decides anew with that row.
                if attempt < 3 and getattr(exc.orig, "sqlstate", "") in _AGAIN:
                    continue
                fail = exc if isinstance(exc, IntegrityError) else self._unavailable(exc)
                if fail is not exc:
                    self.trouble = exc
                _refuse(future, fail)
                return
            except NoConnection as exc:
                self.trouble = exc
                _refuse(future, self._unavailable(exc))
                return
            except BaseException as exc:
                _refuse(future, exc)
                return
        self.trouble = None
        _answer(future, value)
        self.tell(touched)

    def tell(self, touched: frozenset[str]) -> None:
        """Call `on_commit` for *touched*."""
        if touched and self.on_commit is not None:
            self.on_commit(touched)

    def _unavailable(self, cause: Exception | None) -> Unavailable:
        why = str(getattr(cause, "orig", None) or cause or "it is being closed").strip()
        return Unavailable(f"the database {self.label} does not answer: {why.splitlines()[0]}")


def label(url: sa.URL) -> str:
    """The database as messages name it, without its password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.render_as_string(hide_password=True)


def sqlite_engine(url: sa.URL, begin: str) -> Engine:
    """An engine whose transactions start with *begin*, set up to survive a power cut."""
    engine = sa.create_engine(url, connect_args={"check_same_thread": False, "timeout": 10.0})

    @event.listens_for(engine, "connect")
    def connect(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None  # the driver's own BEGIN would be a deferred one
        cursor = dbapi.cursor()
        # auto_vacuum has an effect only on an empty file and before WAL.
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged rows in a power cut
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(conn: Connection) -> None:
        try:
            _driver(conn).execute(begin)
        except sqlite3.Error as exc:
            raise OperationalError(begin, None, exc) from exc

    return engine


def _driver(conn: Connection) -> Any:
    """SQLite's own connection, for the statements that stand around each piece of work."""
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
            " -c idle_in_transaction_session_timeout=60000 -c synchronous_commit=on",
        },
    )


_AGAIN = ("40P01", "40001", "23505")
_AMBIGUOUS = ("SQLITE_IOERR",)
"""Of a COMMIT: it may or may not have landed.  Before it, nothing was stored or promised."""
_FATAL = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


class _SqliteWriter:
    """The one thread that writes; what waits shares a commit, each behind its own savepoint."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: queue.SimpleQueue[Sequence[Job] | None] = queue.SimpleQueue()
        self._engine = sqlite_engine(database.url, "BEGIN IMMEDIATE")
        self._conn: Connection | None = None
        self._version: int | None = None
        self._noted: Any = None
        self._committing = False
        self.listening = False
        self._thread = threading.Thread(target=self._loop, name="leeroy-writer", daemon=True)
        self._thread.start()

    def put(self, jobs: Sequence[Job]) -> None:
        self._queue.put(jobs)

    def stop(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while True:
            try:
                first = self._queue.get(timeout=POLL_S if self.listening else None)
            except queue.Empty:
                self._look()
                continue
            jobs: list[Job] = []
            stopping = first is None
            if first is not None:
                jobs += first
            while len(jobs) < GATHER:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    stopping = True
                else:
                    jobs += more
            if jobs:
                self._write(jobs)
            if stopping:
                if self._conn is not None:
                    self._conn.close()
                self._engine.dispose()
                return

    def _look(self) -> None:
        """Whether another process committed since the last look (`PRAGMA data_version`)."""
        try:
            conn = self._open()
            version = _driver(conn).execute("PRAGMA data_version").fetchone()[0]
        except Exception:
            self._drop()
            return
        seen, self._version = self._version, version
        if seen is not None and seen != version:
            self._database.tell(frozenset({"builds", "outbox"}))

    def _open(self) -> Connection:
        if self._conn is None:
            self._conn = self._engine.connect()
        return self._conn

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        self._version = None
        if conn is not None:
            with contextlib.suppress(Exception):
                conn.invalidate()
                conn.close()

    def _write(self, jobs: list[Job]) -> None:
        if self._database.broken is not None:
            self._fail(jobs, self._database.broken)
            return
        try:
            touched, answers = self._commit(jobs)
        except IntegrityError as exc:
            # A constraint that only the COMMIT checks: find out whose it was.
            if len(jobs) == 1:
                _refuse(jobs[0][1], exc)
                return
            for job in jobs:
                self._write([job])
            return
        except Exception as exc:
            self._drop()
            orig = getattr(exc, "orig", exc)
            why = str(getattr(orig, "sqlite_errorname", ""))
            if why.startswith(_FATAL) or (self._committing and why.startswith(_AMBIGUOUS)):
                # Only a fresh start, which reads what the disk has, can tell.
                self._database.broken = exc
                if self._database.on_broken is not None:
                    self._database.on_broken(exc)
            self._database.trouble = exc
            self._fail(jobs, exc)
            return
        self._database.trouble = None
        self._journal()
        for (_, future), (value, error) in zip(jobs, answers, strict=True):
            if error is not None:
                _refuse(future, error)
            else:
                _answer(future, value)
        self._database.tell(touched)

    def _journal(self) -> None:
        """Note the commit before anybody is answered: what was promised is known to this host."""
        noted, self._noted = self._noted, None
        journal = self._database.journal
        if noted is None or journal is None:
            return
        try:
            journal.note(noted[0], noted[1], noted[2] or 0)
        except OSError:
            log.exception("the journal cannot be written; a restored database may go unnoticed")

    def _fail(self, jobs: list[Job], cause: Exception) -> None:
        for _, future in jobs:
            _refuse(future, self._database._unavailable(cause))

    def _commit(self, jobs: list[Job]) -> tuple[frozenset[str], list[tuple[Any, Exception | None]]]:
        self._committing = False
        conn = self._open()
        conn.info.pop("touched", None)
        answers: list[tuple[Any, Exception | None]] = []
        transaction = conn.begin()
        raw = _driver(conn)
        before = raw.total_changes
        try:
            if len(jobs) == 1:
                answers.append((jobs[0][0](conn), None))
            else:
                for work, _ in jobs:
                    answers.append(self._behind_savepoint(conn, work))
            if raw.total_changes != before:
                # Most looks of the loop decide nothing: they cost no write to the disk.
                self._noted = raw.execute(BUMP).fetchall()[0]
            self._committing = True
            transaction.commit()
        except BaseException as exc:
            transaction.rollback()
            self._noted = None
            database = isinstance(exc, DBAPIError | sqlite3.Error)
            if len(jobs) == 1 and isinstance(exc, Exception) and not database:
                return frozenset(), [(None, exc)]
            raise
        return frozenset(conn.info.pop("touched", ())), answers

    @staticmethod
    def _behind_savepoint(conn: Connection, work: Work[Any]) -> tuple[Any, Exception | None]:
        execute = _driver(conn).execute
        execute("SAVEPOINT work")
        try:
            value = work(conn)
        except DBAPIError as exc:
            if not isinstance(exc, IntegrityError):
                raise
            execute("ROLLBACK TO work")
            return None, exc
        except Exception as exc:
            execute("ROLLBACK TO work")
            return None, exc
        execute("RELEASE work")
        return value, None


class _Listener:
    """Follows PostgreSQL's NOTIFY on a connection of its own; connects again when it is lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="leeroy-listen", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=3)

    def _loop(self) -> None:
        import psycopg

        url = self._database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while not self._stopped.is_set():
            try:
                with psycopg.connect(
                    url,
                    autocommit=True,
                    connect_timeout=3,
                    keepalives_idle=2,
                    keepalives_interval=1,
                    keepalives_count=3,
                    tcp_user_timeout=4000,
                ) as conn:
                    conn.execute("LISTEN leeroy")
                    # look as well: a NOTIFY sent while we connected is lost
                    self._database.tell(frozenset({"builds", "outbox"}))
                    while not self._stopped.is_set():
                        for notify in conn.notifies(timeout=1.0):
                            self._database.tell(frozenset(notify.payload.split()))
            except psycopg.Error:
                self._stopped.wait(1.0)
