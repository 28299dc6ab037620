"""
The database: who may write when, and what a commit promises.

SQLite has one writer thread; it commits what has gathered in one transaction
(group commit), and nobody is answered before that commit is on the disk.
PostgreSQL has a small pool and a transaction for each piece of work.  A piece
of work is a function of an open connection; it may be run a second time after
a rollback, so it must not touch anything but the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoConnection

from leeroy.db import leftover
from leeroy.db.engines import label, postgres_engine, sqlite_engine
from leeroy.db.listener import Listener
from leeroy.db.replies import Job, Reply, T, Work, settle
from leeroy.db.writer import SqliteWriter
from leeroy.errors import Unavailable
from leeroy.journal import Journal

_AGAIN = ("40P01", "40001", "23505")


def touch(conn: Connection, *what: str) -> None:
    """Note what this transaction makes due ("builds", "outbox"); told to `on_commit`."""
    conn.info.setdefault("touched", set()).update(what)


class Database:
    """
    A database that is open.

    `on_commit(touched)` is called from a database thread after each commit
    that made something due, and with {"builds", "outbox"} when another process
    wrote.  `on_broken(error)` is called once when a write may or may not have
    reached the disk, or when the file is gone (`Gone`) or damaged (`Damaged`): the
    process must stop then, and read the rows anew.
    `journal` is told of each commit to SQLite before anybody is answered.
    `even_full`: a SQLite file is read also where its disk has no room (see `sqlite_engine`).

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
        even_full: bool = False,
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
        self._bytes = leftover.Bytes(Path(str(self.url.database))) if self.is_sqlite else None
        self._new = False
        self._closing = False
        self._asked: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        if self.is_sqlite:
            self._reading = sqlite_engine(self.url, "BEGIN", even_full=even_full)
            self._writer: SqliteWriter | None = SqliteWriter(self)
            self._pool: ThreadPoolExecutor | None = None
        else:
            self._reading = postgres_engine(self.url, writers + 2)
            sa.event.listen(self._reading, "connect", self._connected)
            self._writer = None
            self._pool = ThreadPoolExecutor(writers, "leeroy-db")
            self._listener: Listener | None = None

    def _connected(self, *_: object) -> None:
        self._new = True

    def met_anew(self, *, ask: bool) -> bool:
        """
        Whether PostgreSQL had to be connected to since the last call: it may be another one.

        With *ask* it is asked something, so that one that was away meanwhile is noticed.
        """
        if ask and not self.is_sqlite:
            self.read(lambda conn: conn.exec_driver_sql("SELECT 1"))
        new, self._new = self._new, False
        return new

    def submit(self, work: Work[T]) -> Future[T]:
        """Run *work* in a writing transaction; the future is done after the commit."""
        return self.submit_all([work])[0]

    def submit_all(self, works: Sequence[Work[T]]) -> list[Future[T]]:
        """Run each in a writing transaction (SQLite: savepoints in one)."""
        jobs: list[tuple[Work[T], Future[T]]] = [(work, Future()) for work in works]
        self._put(jobs)
        return [future for _, future in jobs]

    def ask(self, work: Work[T]) -> asyncio.Future[T]:
        """
        What `submit` does, for a coroutine.

        All that is asked in one turn of the event loop is submitted together,
        so that it shares a commit, and is answered together.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        asked = self._asked.get(loop)
        if asked is None:
            asked = self._asked[loop] = []
            loop.call_soon(self._put_asked, loop)
        asked.append((work, future))
        return future

    def _put_asked(self, loop: asyncio.AbstractEventLoop) -> None:
        self._put(self._asked.pop(loop))

    def _put(self, jobs: Sequence[Job]) -> None:
        if self.broken or self._closing:
            error = self.unavailable(self.broken)
            settle([(reply, None, error) for _, reply in jobs])
        elif self._writer is not None:
            self._writer.put(jobs)
        else:
            assert self._pool is not None
            for work, reply in jobs:
                self._pool.submit(self._run_postgres, work, reply)

    def transact(self, work: Work[T]) -> T:
        """Run *work* in a writing transaction and wait for its commit."""
        return self.submit(work).result()

    def read(self, work: Work[T]) -> T:
        """Run *work* on one consistent picture, in the caller's thread, beside any writer."""
        if self.broken:
            raise self.unavailable(self.broken)
        try:
            with self._reading.connect() as conn, conn.begin():
                return work(conn)
        except (DBAPIError, NoConnection) as exc:
            damaged = self.damaged(exc)
            if damaged is not None:
                self.give_up(damaged)
            raise self.unavailable(damaged or exc) from exc

    def damaged(self, error: Exception) -> leftover.Damaged | None:
        """*error* as what it means, where it says that the file is damaged and its disk is well."""
        found = leftover.damage(error)
        if found is None or self._bytes is None or self._bytes.unreadable() is not None:
            return None
        return found

    def listen(self) -> None:
        """Also tell `on_commit` of what other processes commit."""
        if self._writer is not None:
            self._writer.listening = True
        else:
            self._listener = Listener(self)

    def give_up(self, error: Exception) -> None:
        """From now on nothing is read or stored; `on_broken` is told why, once."""
        if self.broken is None:
            self.broken = error
            if isinstance(error, leftover.Damaged):
                leftover.doubt(Path(str(self.url.database)), error)
            if self.on_broken is not None:
                self.on_broken(error)

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

    def _run_postgres(self, work: Work[Any], reply: Reply) -> None:
        if reply.done():
            return  # whoever asked was answered 503 before it was begun
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
                fail = exc if isinstance(exc, IntegrityError) else self.unavailable(exc)
                if fail is not exc:
                    self.trouble = exc
                settle([(reply, None, fail)])
                return
            except NoConnection as exc:
                self.trouble = exc
                settle([(reply, None, self.unavailable(exc))])
                return
            except BaseException as exc:
                settle([(reply, None, exc)])
                return
        self.trouble = None
        settle([(reply, value, None)])
        self.tell(touched)

    def tell(self, touched: frozenset[str]) -> None:
        """Call `on_commit` for *touched*."""
        if touched and self.on_commit is not None:
            self.on_commit(touched)

    def unavailable(self, cause: Exception | None) -> Unavailable:
        """What whoever asked is told when the database cannot do it."""
        why = str(getattr(cause, "orig", None) or cause or "it is being closed").strip()
        said = "cannot be used" if isinstance(cause, leftover.Damaged) else "does not answer"
        return Unavailable(f"the database {self.label} {said}: {why.splitlines()[0]}")
