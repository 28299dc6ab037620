"""
The thread that asks the repositories: at the start, after an absence, and as `poll` says.

Each question is a process; the threads here only wait for one, so that a
server that hangs keeps nobody else waiting.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from leeroy.catchup import comparing, network, schedule
from leeroy.catchup.again import Redeliveries
from leeroy.catchup.asking import Asks, NoAnswer
from leeroy.catchup.schedule import Key, Schedule
from leeroy.context import Context
from leeroy.db import remotes
from leeroy.db.engine import Database
from leeroy.errors import Unavailable
from leeroy.pipelines import Pipeline

log = logging.getLogger(__name__)

AT_ONCE = 16
"""So many repositories may hang at a time before another has to wait."""
AFTER_READY_S = 0.5
LOOK_S = 10.0
"""How often it is looked whether the machine has slept."""
ASLEEP_S = 5.0
SETTLE_S = 2.0
"""A network that has just returned may not carry anything yet."""


class CatchUp:
    """
    Asks every pipeline's repository when it is due, from `start` to `close`.

    `pipelines` gives those in force.  Every other method may be called from
    any thread.
    """

    def __init__(
        self,
        database: Database,
        context: Context,
        pipelines: Callable[[], Mapping[str, Pipeline]],
    ) -> None:
        self._database = database
        self._context = context
        self._pipelines = pipelines
        self._schedule = Schedule()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._doubted = False
        self._absent_at: float | None = None
        self._asks = Asks(context)
        self._again = Redeliveries(database, context)
        self._made_up_for: set[Key] = set()
        """The repositories whose failed deliveries were asked for since the last absence."""
        self._askers = ThreadPoolExecutor(AT_ONCE, "ask")
        self._thread = threading.Thread(target=self._loop, name="catch-up", daemon=True)
        self._hearing = network.listen()
        self._asleep_s = _asleep()

    def start(self) -> None:
        """Begin, once the server is ready."""
        self._thread.start()
        if self._hearing is not None:
            hear = partial(network.hear, self._hearing, self.returned)
            threading.Thread(target=hear, name="routes", daemon=True).start()

    def close(self) -> None:
        """Stop; questions under way are ended, and asked again by the next start."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._hearing is not None:
            self._hearing.close()  # its thread ends at the next route, or with the process
        self._asks.close()
        self._again.close()
        self._askers.shutdown(wait=True, cancel_futures=True)

    def returned(self) -> None:
        """Deliveries may have been missed until now: every repository is asked once."""
        self._absent_at = self._context.clock.monotonic() + SETTLE_S
        self._wake.set()

    def doubt(self) -> None:
        """Some pipeline's repository is to be asked at once (its row says so)."""
        self._doubted = True
        self._wake.set()

    def wake(self) -> None:
        """The pipelines in force may have changed."""
        self._wake.set()

    # --- one turn

    def _loop(self) -> None:
        self._asks.clean()
        self._wake.wait(AFTER_READY_S)
        while not self._closing:
            self._wake.clear()
            try:
                pause = self.turn()
            except Unavailable as exc:
                log.debug("catch-up waits: %s", exc)
                pause = 1.0
            except Exception:
                log.exception("a turn of catch-up failed")
                pause = LOOK_S
            self._wake.wait(pause)

    def turn(self) -> float:
        """Begin all questions that are due; returns for how many seconds none will be."""
        now = self._context.clock.monotonic()
        by_key = self._groups()
        with self._lock:
            self._schedule.set([p for group in by_key.values() for p in group], now)
            self._see_absence(now)
        self._see_doubt(by_key, now)
        with self._lock:
            due = self._schedule.due(now)
            next_at = self._schedule.next_at()
        for key in due:
            self._askers.submit(self._ask, key, by_key[key])
        pause = LOOK_S if next_at is None else min(next_at - now, LOOK_S)
        if self._absent_at is not None:
            pause = min(pause, self._absent_at - now)
        return max(pause, 0.01)

    def _groups(self) -> dict[Key, list[Pipeline]]:
        found: dict[Key, list[Pipeline]] = {}
        for pipeline in self._pipelines().values():
            if pipeline.repository is not None:
                found.setdefault(schedule.key_of(pipeline), []).append(pipeline)
        return found

    def _see_absence(self, now: float) -> None:
        asleep = _asleep()
        if asleep - self._asleep_s > ASLEEP_S:
            self._absent_at = now + SETTLE_S
        self._asleep_s = asleep
        if self._absent_at is not None and self._absent_at <= now:
            self._absent_at = None
            self._made_up_for.clear()
            self._schedule.soon(now)

    def _see_doubt(self, by_key: Mapping[Key, Sequence[Pipeline]], now: float) -> None:
        if not self._doubted:
            return
        known = self._database.read(remotes.every)
        self._doubted = False
        keys = [
            key
            for key, group in by_key.items()
            if any((row := known.get(p.name)) is not None and row.doubted for p in group)
        ]
        with self._lock:
            self._schedule.soon(now, keys)

    def _ask(self, key: Key, pipelines: Sequence[Pipeline]) -> None:
        clock = self._context.clock
        began = clock.monotonic()
        well = more = False
        try:
            if not self._closing:
                more = comparing.look(self._database, self._context, self._asks, pipelines)
                well = True
        except (NoAnswer, Unavailable):
            pass  # written down, or tried again when the database is back
        except Exception:
            log.exception("the answer of %s could not be compared", pipelines[0].repository)
        with self._lock:
            self._schedule.done(key, began, clock.monotonic(), well=well, more=more)
            # After the look: what the repository tells itself is settled then.
            if well and key not in self._made_up_for:
                self._made_up_for.add(key)
                self._again.ask(pipelines)
        self._wake.set()


def _asleep() -> float:
    """For how long the machine has slept since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
