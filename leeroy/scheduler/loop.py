"""
The loop: gather what ended and what is due, decide in transactions, then act.

It is a thread of its own, so that no page and no hook waits for it.  Nothing
it holds in memory matters after a crash: ends are told again by the run
directories, and everything else is in rows.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from secrets import token_hex

from sqlalchemy import Connection

from leeroy import guard
from leeroy.context import Context
from leeroy.db import house, schema
from leeroy.db.engine import Database
from leeroy.errors import LeeroyError, NotFound, Overtaken, Unavailable
from leeroy.model import Build
from leeroy.runner.runner import Run, Runner
from leeroy.scheduler import ending, keeping, recovering, starting, waiting
from leeroy.scheduler.acts import Act, End, Launch, Stop
from leeroy.scheduler.doing import Doer
from leeroy.scheduler.finding import Finder, later
from leeroy.scheduler.following import Follower

log = logging.getLogger(__name__)

BEAT_S = 5.0
AWAY_S = 10.0
"""So long without a look, and a watch counts as interrupted."""
_SLACK_S = 1.0
"""A turn may come so much later than meant; what is beyond it is not counted as watched."""
_CLOCK_SET_S = 2.0
"""A wall clock that moves so much against the monotonic one was set."""
_AFTER_ERROR_S = 1.0
_FAILOVER_S = 0.2  # no failover is faster
_CLEAR_AGAIN_S = 1.0
_LONGEST_S = 30.0


class Scheduler:
    """
    Advances every build until `close`.

    `start` takes up what an earlier server left.  `ended` and `wake` may be
    called from any thread.  `on_beat` is called by every turn of the loop: as
    long as it is, the loop is alive.
    """

    def __init__(
        self,
        database: Database,
        runner: Runner,
        context: Context,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._runner = runner
        self._context = context
        self._on_beat = on_beat
        self._follower = Follower(database, runner)
        self._side = ThreadPoolExecutor(4, "side")
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)
        self._ended: deque[str] = deque()
        self._ends: deque[End] = deque()
        self._name = self._new_name()
        self._away_s = 0.0
        self._doer = Doer(runner, context, self._follower, self._side, self._add)
        self._finder = Finder(
            database,
            runner,
            context,
            self._follower,
            self._doer.launches,
            self._side,
            self._add,
            self.ended,
        )
        self._sick: dict[int, float] = {}
        self._next_beat = 0.0
        self._next_round = 0.0
        self._last_turn = self._seen = self._context.clock.monotonic()
        self._meant_s = 0.0
        self._blind = False
        self._pending = 0
        self._asleep_s = _asleep()
        self._offset_s = self._offset()

    # --- the server's life

    def start(self) -> None:
        """Take up what is there, then begin to turn."""
        self._boot_id = boot_id()
        before = self._database.transact(
            partial(recovering.arrive, context=self._context, boot_id=self._boot_id)
        )
        if before is not None:
            away = (self._context.clock.now() - before).total_seconds()
            self._away_s = max(away, 0.0)
        self._recover()
        self._follower.start()
        self._thread.start()

    def close(self) -> None:
        """Stop turning; what runs goes on."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._follower.close()
        self._side.shutdown(wait=False, cancel_futures=True)
        context = self._context
        with contextlib.suppress(LeeroyError):  # without it the next start calls it a crash
            self._database.transact(
                lambda conn: house.stopped(conn, context.host_id, context.clock.now())
            )

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    def ended(self, run_id: str) -> None:
        """A run may have ended."""
        self._ended.append(run_id)
        self._wake.set()

    def _take_up(self) -> None:
        """
        Follow every step that the rows call running and this process does not know.

        At a start those are all of them.  Later they are what was committed
        and never answered: the decision is in the rows, and its acts are not done.
        """
        found = self._database.read(partial(recovering.running, context=self._context))
        for build, step, stored in found:
            assert step.run_id is not None
            if step.run_id in self._doer.launches:
                if build.stop_at is not None and not self._doer.stopping(step.run_id):
                    self._doer.stop(Stop(step.run_id, f"stopped by {build.stop_actor}"))
                continue
            self._doer.launches[step.run_id] = Launch(build, step)
            if self._runner.look(step.run_id) is Run.absent:
                self._ended.append(step.run_id)
                continue
            try:
                self._follower.follow(self._runner.spec(step.run_id), step.id, stored)
            except NotFound:  # forgotten since: whoever looks at its end sees what was recorded
                self._ended.append(step.run_id)
                continue
            except LeeroyError:
                log.exception("the log of run %s cannot be followed", step.run_id)
            if build.stop_at is not None:
                self._doer.stop(Stop(step.run_id, f"stopped by {build.stop_actor}"))
            self._runner.watch(step.run_id)

    def _recover(self) -> None:
        self._take_up()
        for build, step in self._database.read(partial(recovering.lost, context=self._context)):
            if step.run_id is not None and self._runner.look(step.run_id) is Run.ended:
                result = self._runner.result(step.run_id)
                self._database.transact(
                    partial(
                        recovering.late,
                        context=self._context,
                        build_id=build.id,
                        step=step,
                        result=result,
                    )
                )

    # --- one turn

    def _loop(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                pause = self.turn()
                self._say_what_was_announced()
                self._seen = self._context.clock.monotonic()
            except Unavailable as exc:
                log.warning("the loop waits: %s", exc)
                self._blind = True
                pause = _AFTER_ERROR_S
            except Exception:
                log.exception("a turn of the loop failed")
                pause = _AFTER_ERROR_S
            self._meant_s = pause
            if pause > 0:
                self._wake.wait(pause)

    def turn(self) -> float:
        """Do all that is due now; returns for how many seconds nothing more will be."""
        self._see_whether_asleep()
        self._beat()
        while self._ended:
            self._look_at_end(self._ended.popleft())
        ends = list(self._ends)
        jobs: list[Callable[[Connection], list[Act]]] = [
            partial(ending.record, context=self._context, end=end) for end in ends
        ]
        room = self._context.short_of_room()
        if room is None:
            jobs.append(partial(starting.pick, context=self._context))
        answers = self._decide(jobs)
        for end, answer in zip(ends, answers, strict=False):
            if isinstance(answer, Overtaken):
                continue  # once more, with the row as it is now
            self._ends.remove(end)
            if isinstance(answer, Exception):
                later(partial(self._add, end))
            else:
                self._doer.forget(end)
        self._doer.perform(answers)
        if self._ended:
            return 0.0
        now = self._context.clock.now()
        due, next_at = self._database.read(partial(waiting.due, now=now))
        if self._look_at(due, room) or self._ends or self._ended:
            return 0.0
        return self._pause(next_at)

    def _look_at_end(self, run_id: str) -> None:
        """Find out how a run ended; what cannot be found out now is asked again, never dropped."""
        try:
            self._finder.look(run_id)
        except Exception as exc:
            later(partial(self.ended, run_id))
            if isinstance(exc, Unavailable):
                raise
            log.exception("how run %s ended cannot be seen; looking again", run_id)

    def _look_at(self, due: list[Build], room: str | None) -> bool:
        """Decide about the builds that are due; False when there were none."""
        mono = self._context.clock.monotonic()
        due = [b for b in due if self._sick.get(b.id, 0.0) <= mono]
        if not due:
            return False
        self._finder.clear_lost([b.id for b in due if b.id not in self._finder.cleared])
        watching = waiting.Watching(
            name=self._name,
            away_s=self._away_s,
            watched={key: mono - since for key, since in self._doer.watches.items()},
            room=room,
            cleared=frozenset(self._finder.cleared),
        )
        answers = self._decide(
            [
                partial(waiting.look, context=self._context, build_id=b.id, watching=watching)
                for b in due
            ]
        )
        for build, answer in zip(due, answers, strict=True):
            if isinstance(answer, Exception) and not isinstance(answer, Overtaken):
                self._sick[build.id] = mono + 5 * _AFTER_ERROR_S
            else:
                self._sick.pop(build.id, None)
        self._doer.perform(answers)
        return True

    def _decide(
        self, jobs: Sequence[Callable[[Connection], list[Act]]]
    ) -> list[list[Act] | Exception]:
        """Each job in a transaction (or savepoint) of its own; one's trouble is its alone."""
        futures = self._database.submit_all(jobs)
        answers: list[list[Act] | Exception] = []
        unavailable: Unavailable | None = None
        for future in futures:
            try:
                answers.append(future.result())
            except Unavailable as exc:
                unavailable = exc
                answers.append(exc)
            except Overtaken as exc:
                answers.append(exc)
            except Exception as exc:
                log.exception("a decision failed")
                answers.append(exc)
        if unavailable is not None:
            # Those that were committed are acted on; the others are found due again.
            self._doer.perform(answers)
            raise unavailable
        return answers

    def _pause(self, due: datetime | None) -> float:
        mono = self._context.clock.monotonic()
        pause = min(self._next_beat - mono, _LONGEST_S)
        if due is not None:
            left = (due - self._context.clock.now()).total_seconds()
            pause = min(pause, left if left > 0 else 0.05 if self._sick else 0.0)
        return max(pause, 0.0)

    def _beat(self) -> None:
        self._on_beat()
        mono = self._context.clock.monotonic()
        if mono < self._next_beat:
            return
        self._next_beat = mono + BEAT_S
        self._take_up()
        context = self._context
        self._database.submit(
            lambda conn: house.beat(
                conn, context.host_id, context.host_name, self._boot_id, context.clock.now()
            )
        )
        self._side.submit(self._guard)
        if mono >= self._next_round:
            self._next_round = mono + keeping.ROUND_S
            self._side.submit(self._keep)

    def _guard(self) -> None:
        database = self._database
        try:
            database.read(partial(schema.still_ours, name=database.label))
            guard.beat(database, self._context)
        except schema.Outgrown as exc:
            database.give_up(exc)
        except LeeroyError as exc:
            log.warning("the database cannot be compared with this host's journal: %s", exc)
        except Exception:
            log.exception("the database cannot be compared with this host's journal")

    def _keep(self) -> None:
        try:
            keeping.round_(self._database, self._runner, self._context)
        except Exception:
            log.exception("old builds and folders could not be removed; trying again later")

    def _see_whether_asleep(self) -> None:
        """
        What interrupts a watch: a pause of the machine or of this process, or a lost database.

        While the database does not answer nobody can stop a deploy, so that
        time is no grace either.  A pause too short to be told of does not
        count as watched.  A wall clock that was set moves what it decides.
        """
        mono, asleep = self._context.clock.monotonic(), _asleep()
        late = mono - self._last_turn - self._meant_s
        slept = asleep - self._asleep_s
        if self._blind or self._database.met_anew(ask=mono - self._last_turn > _FAILOVER_S):
            # A failover may have lost commits: look before anything is decided by what is left.
            guard.beat(self._database, self._context)
        if self._blind or max(slept, mono - self._last_turn - AWAY_S) > 1.0:
            away = slept + mono - self._seen
            now = self._context.clock.now()
            self._pending = self._database.transact(partial(recovering.rouse, now=now))
            if self._blind:
                self._take_up()
            self._blind = False
            self._name = self._new_name()
            self._away_s = away
            self._doer.watches.clear()
        elif late > _SLACK_S:
            self._doer.watches = {key: at + late for key, at in self._doer.watches.items()}
        offset = self._offset()
        ahead = offset - self._offset_s
        if abs(ahead) > _CLOCK_SET_S:
            log.warning("the clock was set by %+.0f s", ahead)
            now = self._context.clock.now()
            self._database.transact(partial(recovering.clock_set, now=now, ahead_s=ahead))
        self._offset_s = offset
        self._last_turn, self._asleep_s = mono, asleep

    def _say_what_was_announced(self) -> None:
        """Once it is done: a disk that stays full would have it said with each attempt."""
        pending, self._pending = self._pending, 0
        if pending:
            log.warning("%s", recovering.announced(pending, self._away_s))

    def _offset(self) -> float:
        """How far the wall clock is ahead of the clock that counts sleep and is never set."""
        return self._context.clock.now().timestamp() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def _new_name(self) -> str:
        return f"{self._context.host_id}:{token_hex(4)}"

    # --- ends

    def _add(self, end: End) -> None:
        self._ends.append(end)
        self._wake.set()


def boot_id() -> str:
    """Which start of this machine it is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _asleep() -> float:
    """For how long the machine has slept since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
