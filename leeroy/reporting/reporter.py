"""
The threads that tell forges what `reports` wants told.

One thread looks for what is due; each attempt has a short-lived thread of its
own, one at a time for each pipeline, so a forge that hangs delays nobody
else's reports and never a build.  What matters is in the rows: a crash loses
no report, and one that may have arrived is looked for before it is made again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection

from leeroy.context import Context
from leeroy.db import reports
from leeroy.db.engine import Database
from leeroy.errors import ConfigError, LeeroyError, Unavailable
from leeroy.forges import FORGES
from leeroy.forges.talk import DeadToken, Later, converse
from leeroy.forges.wire import TIMEOUT_S, Wire
from leeroy.model import DeadToken as Buried
from leeroy.model import Report
from leeroy.reporting.facts import Errand, errand, fingerprint

T = TypeVar("T")

log = logging.getLogger(__name__)

PAUSES_S = (2.0, 5.0, 15.0, 60.0, 300.0, 900.0)
"""How long to wait after each failure; the last one repeats."""
GIVES_UP_S = 86_400.0
AT_ONCE = 8
"""So many pipelines are told about at the same time."""
_LOOK_S = 10.0
"""The longest pause: a mended token, or a row nobody told of, waits no longer."""
_AGAIN_S = 900.0
"""How often a dead token is tried all the same: the forge may have been wrong."""
_BAD_DAY_S = 5.0


class Reporter:
    """Tells until `close`; the trouble of one report is that report's alone."""

    def __init__(self, database: Database, context: Context, timeout_s: float = TIMEOUT_S) -> None:
        self._database = database
        self._context = context
        self._timeout_s = timeout_s
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._in_hand: set[str] = set()
        self._dead: dict[str, tuple[Errand, str, datetime]] = {}
        """Pipelines whose token is dead: an errand of theirs, its fingerprint, the next try."""
        self._buried: set[str] = set()
        self._later: dict[str, datetime] = {}
        """Pipelines whose forge wants less haste: until when, also for reports made since."""

    def start(self) -> None:
        """Begin; what this host had claimed when it died may be told again."""
        self._database.transact(lambda conn: reports.release(conn, self._context.host_id))
        self._buried = {token.pipeline for token in self._database.read(reports.buried)}
        threading.Thread(target=self._loop, name="reporter", daemon=True).start()

    def wake(self) -> None:
        """There are news; from any thread, after their commit."""
        self._awake.set()

    def close(self) -> None:
        """Begin nothing more; what is on its way is left claimed, and looked for after a start."""
        self._closing.set()
        self._awake.set()

    def _loop(self) -> None:
        while not self._closing.is_set():
            self._awake.clear()
            try:
                pause_s = self._round()
            except Unavailable as exc:
                log.warning("the reports cannot be read: %s", exc)
                pause_s = _BAD_DAY_S
            except Exception:
                log.exception("the reports cannot be read; trying again")
                pause_s = _BAD_DAY_S
            self._awake.wait(pause_s)

    def _round(self) -> float:
        """Begin to tell what is due; how many seconds until there may be more."""
        now = self._context.clock.now()
        busy = self._busy(now)
        with self._lock:
            room = AT_ONCE - len(self._in_hand)
        if room <= 0:
            return _LOOK_S  # the end of an attempt wakes us

        due = self._database.read(lambda conn: reports.next_due(conn, now, busy))
        if due is None or due > now:
            with self._lock:
                known = [*self._later.values(), *([] if due is None else [due])]
            pauses_s = [(at - now).total_seconds() for at in known]
            return max(min([*pauses_s, _LOOK_S]), 0.0)
        who = self._context.host_id
        found = self._database.transact(lambda conn: reports.claim(conn, now, who, busy, room))
        for report in found:
            with self._lock:
                self._in_hand.add(report.pipeline)
            threading.Thread(
                target=self._attend, args=(report,), name="report", daemon=True
            ).start()
        return 0.0 if found else _LOOK_S

    def _busy(self, now: datetime) -> set[str]:
        """The pipelines that are not to be told about now."""
        with self._lock:
            self._later = {name: at for name, at in self._later.items() if now < at}
            busy, dead = {*self._in_hand, *self._later}, dict(self._dead)
        for pipeline, (job, mark, again) in dead.items():
            if now < again and self._mark(pipeline, job) == mark:
                busy.add(pipeline)
            else:
                with self._lock:
                    self._dead.pop(pipeline, None)
        return busy

    def _mark(self, pipeline: str, job: Errand) -> str | None:
        try:
            return fingerprint(job.where, self._token(job))
        except ConfigError:
            return None

    def _token(self, job: Errand) -> str:
        return self._context.secrets.get(job.token).strip()

    def _attend(self, report: Report) -> None:
        try:
            self._attempt(report)
        except Unavailable as exc:
            # Only the database is left: the claim ends by itself, or with the next start.
            log.warning("report %s: %s", report.id, exc)
        except Exception as exc:
            log.exception("a report could not be told", extra={"report": report.id})
            self._fail(report, f"{type(exc).__name__}: see the server's log")
        finally:
            with self._lock:
                self._in_hand.discard(report.pipeline)
            self._awake.set()

    def _attempt(self, report: Report) -> None:
        job: Errand | str
        try:
            job = self._database.read(lambda conn: errand(conn, self._context, report))
            if isinstance(job, str):
                why = job
                self._write(lambda conn: reports.obsolete(conn, report, why))
                return
            token = self._token(job)
        except ConfigError as exc:
            self._fail(report, str(exc))
            return
        forge = FORGES[job.where.forge]
        wire = Wire(forge.headers(token), self._context.clock.now, self._timeout_s)
        try:
            remote_id = self._tell(job, report, wire)
        except DeadToken as exc:
            self._bury(report, job, token, str(exc))
        except Later as exc:
            self._fail(report, veiled(str(exc), token), exc.after)
        except LeeroyError as exc:
            error = veiled(str(exc), token)
            log.warning(
                "build %s: a report is given up (%s %s): %s",
                report.build_id,
                report.kind,
                report.context or report.subject,
                error,
            )
            self._write(lambda conn: reports.dead(conn, report, error))
        else:
            now = self._context.clock.now()
            self._write(lambda conn: reports.sent(conn, report, remote_id, now))
            if report.pipeline in self._buried:
                self._buried.discard(report.pipeline)
                self._write(lambda conn: reports.unbury(conn, report.pipeline))
                log.info("pipeline %s has a token that works again", report.pipeline)

    def _tell(self, job: Errand, report: Report, wire: Wire) -> str | None:
        making = job.making()
        remote_id = report.remote_id
        if making is not None:
            remote_id = made = converse(making, wire)
            if made != report.remote_id:
                self._write(lambda conn: reports.made(conn, report, made))
        told = converse(job.telling(remote_id), wire)
        return told if report.kind == "comment" else remote_id

    def _fail(self, report: Report, error: str, after: datetime | None = None) -> None:
        now = self._context.clock.now()
        if (now - report.wanted_at).total_seconds() >= GIVES_UP_S:
            log.warning("build %s: a report is given up: %s", report.build_id, error)
            self._write(lambda conn: reports.dead(conn, report, error))
            return
        pause_s = PAUSES_S[min(report.attempts, len(PAUSES_S) - 1)]
        until = after or now + timedelta(seconds=pause_s)
        if after is not None:
            with self._lock:
                self._later[report.pipeline] = after

        def work(conn: Connection) -> None:
            reports.failed(conn, report, error, until)
            if after is not None:
                reports.postpone(conn, report.pipeline, after)

        self._write(work)

    def _bury(self, report: Report, job: Errand, token: str, said: str) -> None:
        """The forge does not know the token: said once; its reports wait for another one."""
        now = self._context.clock.now()
        error = veiled(said, token)
        mark = fingerprint(job.where, token)
        again = now + timedelta(seconds=_AGAIN_S)
        grave = Buried(
            fingerprint=mark,
            pipeline=report.pipeline,
            reference=job.token,
            said=error,
            at=now,
        )

        def work(conn: Connection) -> bool:
            # Due at once: while the token is dead the whole pipeline is left out.
            reports.failed(conn, report, error, now)
            return reports.bury(conn, grave)

        with self._lock:
            self._dead[report.pipeline] = (job, mark, again)
        self._buried.add(report.pipeline)
        if self._write(work):
            log.error(
                "the token %s of pipeline %s is dead: %s; make a new one and put it there, "
                "what waits is told then",
                job.token,
                report.pipeline,
                error,
            )

    def _write(self, work: Callable[[Connection], T]) -> T:
        """Write it down, however long the database is away: what was told is not told again."""
        pause_s = 0.5
        while True:
            try:
                return self._database.transact(work)
            except Unavailable as exc:
                if self._closing.wait(pause_s):
                    raise
                log.warning("the reports cannot be written: %s", exc)
                pause_s = min(pause_s * 2, 15.0)


def veiled(text: str, token: str) -> str:
    """The text without the token, should a forge have quoted it."""
    return text.replace(token, "***") if token else text
