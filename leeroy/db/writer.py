"""SQLite's one writer: what waits shares a commit, and is answered after it."""

from __future__ import annotations

import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from leeroy.db import leftover
from leeroy.db.engines import driver, sqlite_engine
from leeroy.db.lineage import BUMP
from leeroy.db.replies import Job, Work, settle
from leeroy.footing import Footing, Gone

if TYPE_CHECKING:
    from leeroy.db.engine import Database

log = logging.getLogger(__name__)

GATHER = 64
"""At most so many pieces of work share one commit."""

POLL_S = 0.5
"""How often an idle SQLite writer looks whether another process wrote."""
_AMBIGUOUS = ("SQLITE_IOERR",)
"""Of a COMMIT: it may or may not have landed.  Before it, nothing was stored or promised."""


class SqliteWriter:
    """The one thread that writes; what waits shares a commit, each behind its own savepoint."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: queue.SimpleQueue[Sequence[Job] | None] = queue.SimpleQueue()
        self._engine = sqlite_engine(database.url, "BEGIN IMMEDIATE")
        self._conn: Connection | None = None
        self._file = Footing(str(database.url.database))
        self._wal = Footing(f"{database.url.database}-wal")
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
            # Who was answered 503 before it was begun waits no more.
            jobs = [job for job in jobs if not job[1].done()]
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
            self._stand()
            conn = self._open()
            version = driver(conn).execute("PRAGMA data_version").fetchone()[0]
        except Gone as exc:
            self._database.give_up(exc)
            return
        except Exception:
            # Only a look: the next piece of work opens it anew, and tells what is wrong.
            self._drop()
            return
        seen, self._version = self._version, version
        if seen is not None and seen != version:
            self._database.tell(frozenset({"builds", "outbox"}))

    def _open(self) -> Connection:
        if self._conn is None:
            self._stand()  # SQLite would make an empty file where there is none
            self._conn = self._engine.connect()
            if not self._file.kept:
                self._file.keep()
            self._wal.keep()
        return self._conn

    def _stand(self) -> None:
        """Raise Gone where the database's file, or its log, is no longer the one that is open."""
        lost = self._lost()
        if lost is not None:
            raise lost

    def _lost(self) -> Gone | None:
        lost = self._file.lost()
        if lost is None and self._conn is not None:
            # SQLite removes its log with the last connection only, and ours is open.
            lost = self._wal.lost()
            if not self._wal.kept:
                self._wal.keep()
        return lost

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        self._version = None
        if conn is not None:
            with contextlib.suppress(Exception):
                conn.invalidate()
                conn.close()

    def _write(self, jobs: list[Job]) -> None:
        if self._database.broken is not None:
            self._refuse(jobs, self._database.broken)
            return
        try:
            touched, answers = self._commit(jobs)
            self._stand()
        except IntegrityError as exc:
            # A constraint that only the COMMIT checks: find out whose it was.
            if len(jobs) == 1:
                self._fail(jobs, exc)
                return
            for job in jobs:
                self._write([job])
            return
        except Exception as exc:
            lost = self._lost()
            self._drop()
            if lost is not None:
                # What was committed went into a file that nobody will find again.
                self._noted = None
                self._database.give_up(lost)
                self._refuse(jobs, lost)
                return
            damaged = leftover.damage(exc)
            if damaged is not None:
                self._database.give_up(damaged)
                self._refuse(jobs, damaged)
                return
            orig = getattr(exc, "orig", exc)
            why = str(getattr(orig, "sqlite_errorname", ""))
            if self._committing and why.startswith(_AMBIGUOUS):
                # Only a fresh start, which reads what the disk has, can tell.
                self._database.give_up(exc)
            self._database.trouble = exc
            self._refuse(jobs, exc)
            return
        self._database.trouble = None
        self._journal()
        settle([(reply, *found) for (_, reply), found in zip(jobs, answers, strict=True)])
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

    def _refuse(self, jobs: list[Job], cause: Exception) -> None:
        self._fail(jobs, self._database.unavailable(cause))

    @staticmethod
    def _fail(jobs: list[Job], error: Exception) -> None:
        settle([(reply, None, error) for _, reply in jobs])

    def _commit(self, jobs: list[Job]) -> tuple[frozenset[str], list[tuple[Any, Exception | None]]]:
        self._committing = False
        conn = self._open()
        conn.info.pop("touched", None)
        answers: list[tuple[Any, Exception | None]] = []
        transaction = conn.begin()
        raw = driver(conn)
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
        execute = driver(conn).execute
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
