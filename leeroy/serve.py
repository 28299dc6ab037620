"""
`leeroy serve`: web, scheduler, runner and sender put together, and taken apart again.

The order of the start matters: the runner's parent is executed before any
socket or database is open, so that nothing leaks into scripts; the web is
opened last, so that whoever gets an answer gets a true one.  SIGTERM stops
everything within seconds and leaves running scripts running.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import sqlalchemy as sa
import uvicorn

from leeroy import alarms, config, context, guard, letters, shelf, standby
from leeroy.catchup.loop import CatchUp
from leeroy.clock import Clock
from leeroy.config import Config
from leeroy.db import disk, schema
from leeroy.db.engine import Database
from leeroy.db.leftover import Damaged
from leeroy.db.remotes import REMOTES
from leeroy.errors import LeeroyError, Unavailable
from leeroy.footing import Footing, Gone
from leeroy.notify.sender import Sender
from leeroy.pipelines import Pipeline
from leeroy.reporting.reporter import Reporter
from leeroy.runner.runner import Runner
from leeroy.scheduler import Scheduler, Timetable
from leeroy.scheduler.loop import boot_id
from leeroy.web.app import application
from leeroy.web.state import Site

log = logging.getLogger("leeroy")

_SWITCH_S = 0.0005
"""A build's way leads over several threads: under load each would wait 5 ms for its turn."""

LOCK = "serve.lock"
LOOK_S = 0.5
"""How often the folder of pipelines is looked at, and whether that of the data is still there."""
_ALIVE_S = 20.0
_END_S = 10.0
"""So long a server that stops waits for a database that hangs."""
_PR_SET_DUMPABLE = 4


def serve(settings: Config, clock: Clock, on_ready: Callable[[str], None] = lambda _: None) -> int:
    """
    Serve until SIGTERM or SIGINT; returns the exit code.

    `on_ready(address)` is called once hooks are taken.

    Raises:
        Unavailable: The database or the address is not to be had, or another
            server runs on the same data, or on the same SQLite file.
    """
    _keep_to_ourselves()
    sys.setswitchinterval(_SWITCH_S)
    readable = partial(disk.trouble, settings.database)
    standby.wait(_written(settings), settings.host, settings.port, readable)
    with _alone(settings.data), _alone_on_database(settings):
        return _Server(settings, clock, on_ready).run()


def _written(settings: Config) -> list[Path]:
    """The folders that must be writable: the data, and where a SQLite file lies."""
    url = sa.make_url(settings.database)
    if url.get_backend_name() == "sqlite" and url.database:
        return [settings.data, Path(url.database).absolute().parent]
    return [settings.data]


def _keep_to_ourselves() -> None:
    """No other process of this user may read our memory and environment (secrets are there)."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextlib.contextmanager
def _alone(data: Path) -> Iterator[IO[str]]:
    """One server for each data folder: its runs, and a SQLite file, are its own."""
    with (data / LOCK).open("a+", encoding="ascii") as lock:
        _take(lock, str(data), "stop it first")
        yield lock


def _take(lock: IO[str], what: str, remedy: str) -> None:
    """Hold *lock* until it is closed; raises Unavailable, naming who holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        lock.seek(0)
        who = lock.read().strip()
        text = f"another `leeroy serve` (process {who}) runs on {what}; {remedy}"
        raise Unavailable(text) from exc
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


@contextlib.contextmanager
def _alone_on_database(settings: Config) -> Iterator[None]:
    """One server for each SQLite file, also where another one has another data folder."""
    url = sa.make_url(settings.database)
    if url.get_backend_name() != "sqlite" or not url.database:
        yield
        return
    file = Path(url.database).resolve()
    with file.with_name(f"{file.name}.serve").open("a+", encoding="ascii") as lock:
        _take(lock, f"the database {file}", "SQLite takes one server; PostgreSQL takes several")
        yield


class _Server:
    def __init__(self, settings: Config, clock: Clock, on_ready: Callable[[str], None]) -> None:
        self._config = settings
        self._clock = clock
        self._on_ready = on_ready
        self._context = context.make(settings, clock, os.environ, new=True)
        self._pipelines: Mapping[str, Pipeline] = {}
        self._last_turn = clock.monotonic()
        self._footing = Footing(settings.data / LOCK, settings.data / "runs")
        self._failed: Exception | None = None
        self._closing = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sender: Sender | None = None
        self._alarms: Sender | None = None
        self._scheduler: Scheduler | None = None
        self._reporter: Reporter | None = None
        self._catch_up: CatchUp | None = None

    def run(self) -> int:
        runner = Runner(self._config.data, self._on_end)
        runner.start()
        self._footing.keep()
        try:
            listening = _listen(self._config.host, self._config.port)
            if self._config.port == 0 and self._config.url == config.ANY_PORT_URL:
                # Links must lead to the port that was found.
                self._config = replace(self._config, url=_address(listening))
                self._context = replace(self._context, config=self._config)
            try:
                return self._with_runner(runner, listening)
            finally:
                listening.close()
        finally:
            runner.close()

    def _with_runner(self, runner: Runner, listening: socket.socket) -> int:
        migrate = self._config.database.startswith("sqlite")
        if schema.ensure(self._config.database, migrate=migrate):
            log.info("the database has the schema of this version now")
        journal = self._context.journal
        database = Database(
            self._config.database, self._on_commit, self._on_broken, journal=journal
        )
        try:
            # Before anything is taken up: what an older database would do must not be done.
            guard.arrive(database, self._context, boot_id())
            database.listen()
            key = database.transact(letters.stop_key)
            self._look_at_pipelines(database)
            self._scheduler = Scheduler(database, runner, self._context, self._turned)
            timetable = Timetable(database, self._context)
            self._scheduler.start()
            self._reporter = Reporter(database, self._context)
            self._reporter.start()
            self._catch_up = CatchUp(database, self._context, lambda: self._pipelines)
            timetable.start()
            try:
                asyncio.run(self._online(database, listening, key))
            finally:
                self._closing.set()
                self._reporter.close()
                self._catch_up.close()
                timetable.close()
                self._scheduler.close()
        finally:
            database.close()
        if self._failed is not None:
            log.error("stopped, for %s: %s", _why(self._failed), self._failed)
            return 1
        return 0

    async def _online(self, database: Database, listening: socket.socket, key: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        if self._failed is not None:
            self._stop.set()
        outbox = letters.DatabaseOutbox(database, self._context, key)
        await outbox.release()
        self._sender = Sender(outbox, letters.resolver(self._context), self._clock)
        alarming = alarms.DatabaseAlarms(database, self._context)
        await alarming.release()
        self._alarms = Sender(alarming, letters.resolver(self._context), self._clock)
        site = Site(
            database=database,
            context=self._context,
            key=key,
            pipelines=lambda: self._pipelines,
            ready=self._not_ready,
            missed=self._missed,
        )
        web = uvicorn.Server(
            uvicorn.Config(
                application(site),
                lifespan="off",
                log_config=None,
                access_log=False,
                http="httptools",
                loop="asyncio",
                ws="none",
                server_header=False,
                proxy_headers=bool(self._config.trusted_proxies),
                forwarded_allow_ips=list(self._config.trusted_proxies),
                timeout_graceful_shutdown=1,
            )
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        sending = asyncio.create_task(self._sender.run())
        alarmed = asyncio.create_task(self._alarms.run())
        watching = threading.Thread(
            target=self._watch_folders, args=(database,), name="folders", daemon=True
        )
        watching.start()
        # without its own signal handlers: they would swallow ours
        web.config.load()
        web.lifespan = web.config.lifespan_class(web.config)
        await web.startup(sockets=[listening])
        serving = asyncio.create_task(_keep_date(web))
        address = _address(listening)
        self._on_ready(address)
        if self._catch_up is not None:
            self._catch_up.start()
        _tell_systemd("READY=1", f"STATUS=serves {address}")
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({stopping, serving, sending}, return_when=asyncio.FIRST_COMPLETED)
        log.info("stopping; scripts that run go on")
        _tell_systemd("STOPPING=1")
        threading.Thread(target=_end_anyway, name="last-resort", daemon=True).start()
        self._closing.set()
        web.should_exit = True
        sending.cancel()
        alarmed.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await asyncio.wait_for(asyncio.gather(sending, alarmed, return_exceptions=True), 2)
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(web.shutdown(sockets=None), 2)
        serving.cancel()
        stopping.cancel()
        await asyncio.gather(serving, stopping, return_exceptions=True)
        await self._sender.close()
        await self._alarms.close()
        site.close()

    # --- called from other threads

    def _on_end(self, run_id: str) -> None:
        if self._scheduler is not None:
            self._scheduler.ended(run_id)

    def _on_commit(self, touched: frozenset[str]) -> None:
        if "builds" in touched and self._scheduler is not None:
            self._scheduler.wake()
        # of what another process wrote only that something is new is known
        if touched & {"reports", "outbox"} and self._reporter is not None:
            self._reporter.wake()
        if REMOTES in touched and self._catch_up is not None:
            self._catch_up.doubt()
        for what, sender in (("outbox", self._sender), ("alarms", self._alarms)):
            if what in touched and self._loop is not None and sender is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: we stop
                    self._loop.call_soon_threadsafe(sender.wake)

    def _missed(self) -> None:
        if self._catch_up is not None:
            self._catch_up.returned()

    def _on_broken(self, error: Exception) -> None:
        self._failed = error
        log.error("nothing is taken any more, and the server stops: %s", error)
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)

    def _turned(self) -> None:
        self._last_turn = self._clock.monotonic()
        _tell_systemd("WATCHDOG=1")

    def _not_ready(self) -> str | None:
        still_s = self._clock.monotonic() - self._last_turn
        if still_s > _ALIVE_S:
            return f"the loop has not turned for {still_s:.0f} s"
        return None

    # --- pipelines

    def _look_at_pipelines(self, database: Database) -> None:
        found = shelf.look(self._config.pipelines)
        changes = database.transact(
            lambda conn: shelf.sync(conn, context=self._context, found=found)
        )
        for change in changes:
            log.warning("%s", change) if "broken" in change else log.info("%s", change)
        self._pipelines = database.read(shelf.current)
        if self._catch_up is not None:
            self._catch_up.wake()

    def _watch_folders(self, database: Database) -> None:
        seen = shelf.stamp(self._config.pipelines)
        while not self._closing.wait(LOOK_S):
            lost = self._footing.lost()
            if lost is not None:
                database.give_up(lost)
                return
            now = shelf.stamp(self._config.pipelines)
            if now == seen:
                continue
            try:
                self._look_at_pipelines(database)
                seen = now
            except LeeroyError as exc:
                log.warning("the pipelines cannot be read anew: %s", exc)
            except Exception:
                log.exception("the pipelines cannot be read anew")


def _end_anyway() -> None:
    """A thread that waits for a database's answer cannot be ended, but this process can."""
    threading.Event().wait(_END_S)
    log.error("what is asked of the database hangs; ended without it, as by kill -9")
    os._exit(1)


def _why(error: Exception) -> str:
    if isinstance(error, Gone):
        return "the data are gone"
    if isinstance(error, Damaged):
        return "the database is damaged"
    if isinstance(error, schema.Outgrown):
        return "the database was changed by another version"
    return "a write may or may not be on the disk"


async def _keep_date(web: uvicorn.Server) -> None:
    """What uvicorn's own loop does ten times a second: keep the Date header true."""
    while not await web.on_tick(0):  # noqa: ASYNC110 - a clock, not a condition
        await asyncio.sleep(1)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Said aloud: asyncio switches Nagle's algorithm off (40 ms for each answer) only for this.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as exc:
        listening.close()
        raise Unavailable(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
    listening.listen(1024)
    listening.set_inheritable(False)
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tell_systemd(*lines: str) -> None:
    """What systemd asks of a service with Type=notify (sd_notify(3)); nothing elsewhere."""
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return
    if where.startswith("@"):
        where = "\0" + where[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto("\n".join(lines).encode(), where)


def set_up_log(verbose: bool) -> None:
    """Say what happens on stderr; systemd adds the time by itself."""
    form = "%(message)s" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s %(message)s"
    logging.basicConfig(stream=sys.stderr, format=form, level=logging.INFO)
    if not verbose:
        for name in ("uvicorn", "alembic", "asyncio"):
            logging.getLogger(name).setLevel(logging.WARNING)
