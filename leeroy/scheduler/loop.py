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
from leeroy.db import deploys, house, schema
from leeroy.db.engine import Database
from leeroy.errors import LeeroyError, NotFound, Overtaken, Unavailable
from leeroy.model import Build
from leeroy.runner.runner import Run, Runner
from leeroy.scheduler import ending, keeping, recovering, starting, waiting
from leeroy.scheduler.acts import Act, End, Launch, Stop
from leeroy.scheduler.attention import TICK_S, Attention
from leeroy.scheduler.doing import Doer
from leeroy.scheduler.finding import Finder, later
from leeroy.scheduler.following import Follower
from leeroy.terms import State

log = logging.getLogger(__name__)

BEAT_S = 5.0
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
        self._attention = Attention(context.clock)
        self._doer = Doer(runner, context, self._follower, self._side, self._add, self._attention)
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
        self._blind = False
        self._met_at = context.clock.monotonic()
        self._pending = 0
        self._offset_s = self._offset()

    # --- the server's life

    def start(self) -> None:
        """Take up what is there, then begin to turn."""
        self._boot_id = boot_id()
        before = self._database.transact(
            partial(recovering.arrive, context=self._context, boot_id=self._boot_id)
        )
        away_s = 0.0
        if before is not None:
            away_s = max((self._context.clock.now() - before).total_seconds(), 0.0)
        self._recover()
        self._attention.begin(away_s)
        self._follower.start()
        self._thread.start()

    def close(self) -> None:
        """Stop turning; what runs goes on."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._follower.close()
        self._finder.close()
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
            self._finder.take_late(build, step)

    # --- one turn

    def _loop(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                pause = self.turn()
                self._say_what_was_announced()
                self._attention.complete()
            except Unavailable as exc:
                log.warning("the loop waits: %s", exc)
                self._blind = True
                pause = _AFTER_ERROR_S
            except Exception:
                log.exception("a turn of the loop failed")
                pause = _AFTER_ERROR_S
            self._wait(pause)

    def _wait(self, pause: float) -> None:
        """Until something may be due; while something is watched, with looks at the clock."""
        monotonic = self._context.clock.monotonic
        until = monotonic() + pause
        self._attention.worked()
        while not self._wake.is_set() and (left := until - monotonic()) > 0:
            meant = min(left, TICK_S) if self._doer.watching() else left
            self._wake.wait(meant)
            self._attention.waited(meant)
            if self._attention.interrupted():
                return

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
        self._finder.clear_lost([b.id for b in due if b.state is State.interrupted])
        counted = self._attention.worked()
        watching = waiting.Watching(
            name=self._name,
            away_s=self._attention.away_s,
            watched={key: counted - since for key, since in self._doer.watches.items()},
            tried={key: counted - since for key, since in self._doer.tries.items()},
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
            self._attention.worked()
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
        if self._doer.watches or self._doer.tries:
            self._doer.watch_only(self._database.read(deploys.pending))
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
        time is no grace either.  After a wall clock was set all is looked at.
        """
        mono = self._context.clock.monotonic()
        ask, self._met_at = mono - self._met_at > _FAILOVER_S, mono
        if self._blind or self._database.met_anew(ask=ask):
            # A failover may have lost commits: look before anything is decided by what is left.
            guard.beat(self._database, self._context)
        if self._blind or self._attention.interrupted():
            now = self._context.clock.now()
            self._pending = self._database.transact(partial(recovering.rouse, now=now))
            if self._blind:
                self._take_up()
            self._blind = False
            self._name = self._new_name()
            self._attention.resumed()
            self._doer.watch_nothing()
        offset = self._offset()
        ahead = offset - self._offset_s
        if abs(ahead) > _CLOCK_SET_S:
            log.warning("the clock was set by %+.0f s", ahead)
            now = self._context.clock.now()
            self._database.transact(partial(recovering.clock_set, now=now))
        self._offset_s = offset

    def _say_what_was_announced(self) -> None:
        """Once it is done: a disk that stays full would have it said with each attempt."""
        pending, self._pending = self._pending, 0
        if pending:
            log.warning("%s", recovering.announced(pending, self._attention.away_s))

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
