"""
The builds that nobody pushes: those whose schedule says that it is time.

What was seen to is a row, changed in the transaction that makes the build: so
a crash, a restart or a second host neither loses a moment nor doubles it, and
a clock that is set back brings none again.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from leeroy import schedules, shelf, zones
from leeroy.context import Context
from leeroy.db import schedules as rows
from leeroy.db.engine import Database
from leeroy.errors import Unavailable
from leeroy.operations.beginning import enter
from leeroy.pipelines import Pipeline

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""The longest pause: pipelines change, and clocks are set."""


class Timetable:
    """Looks at every schedule in force, in a thread of its own, until `close`."""

    def __init__(self, database: Database, context: Context) -> None:
        self._database = database
        self._context = context
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="timetable", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; what comes meanwhile is made up for at the next start."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            pause = LOOK_S
            try:
                pause = self.look()
            except Unavailable as exc:
                log.warning("the schedules wait: %s", exc)
            except Exception:
                log.exception("the schedules cannot be looked at; trying again")

    def look(self) -> float:
        """Start what is due; returns after how many seconds to look again."""
        now = self._context.clock.now()
        wrong, upcoming = self._database.read(partial(_read, now=now))
        if wrong:
            made = self._database.transact(partial(start_due, context=self._context))
            if made:
                log.info("started by schedule: build %s", ", ".join(map(str, made)))
        if upcoming is None:
            return LOOK_S
        left = (upcoming - self._context.clock.now()).total_seconds()
        return min(max(left, 0.0) + 0.01, LOOK_S)


def _wanted(conn: Connection) -> dict[tuple[str, str], tuple[Pipeline, schedules.Schedule]]:
    return {
        (pipeline.name, one.text): (pipeline, one)
        for pipeline in shelf.current(conn).values()
        for one in pipeline.schedules
    }


def _read(conn: Connection, now: datetime) -> tuple[bool, datetime | None]:
    """Whether a row has to be changed, and when the next moment comes."""
    wanted, known = _wanted(conn), rows.every(conn)
    if wanted.keys() != known.keys():
        return True, None
    moments = [schedules.upcoming(one, known[key]) for key, (_, one) in wanted.items()]
    next_at = min((at for at in moments if at is not None), default=None)
    ahead = any(seen_to > now + schedules.LATE for seen_to in known.values())
    if ahead or (next_at is not None and next_at <= now):
        return True, None
    return False, next_at


def start_due(conn: Connection, context: Context) -> list[int]:
    """
    A build for each schedule of which a moment came since it was last seen to; their numbers.

    However many came while nobody looked, it is one build, for the newest of
    them; one that is older than a day is forgotten.
    """
    now = context.clock.now()
    wanted, known = _wanted(conn), rows.every(conn)
    for gone, text in known.keys() - wanted.keys():
        rows.remove(conn, gone, text)
    made: list[int] = []
    for (name, text), (pipeline, schedule) in wanted.items():
        seen_to = known.get((name, text))
        if seen_to is None:
            rows.add(conn, name, text, now)
            continue
        if seen_to > now:
            if seen_to > now + schedules.LATE:
                rows.see_to(conn, name, text, seen_to, now)  # the clock was far ahead
            continue
        came = schedules.newest(schedule, max(seen_to, now - schedules.LATE), now)
        if came is None or not rows.see_to(conn, name, text, seen_to, now):
            continue
        when = zones.local(came, schedule.zone)
        build = enter(
            conn, context, pipeline, actor="schedule", trigger="schedule", reason=f"{text}: {when}"
        )
        made.append(build.id)
    return made
