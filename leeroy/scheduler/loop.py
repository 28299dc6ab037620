"""
The loop: gather what ended and what is due, decide in transactions, then act.

It is a thread of its own, so that no page and no hook waits for it.  Nothing
it holds in memory matters after a crash: ends are told again by the run
directories, and everything else is in rows.
"""

from __future__ import annotations

import logging
import os
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

from leeroy import onward
from leeroy.context import Context
from leeroy.db import builds, house
from leeroy.db.engine import Database
from leeroy.errors import LeeroyError, Overtaken, Unavailable
from leeroy.model import Build, Stage
from leeroy.runner.checkout import RESULT
from leeroy.runner.runner import Run, Runner
from leeroy.scheduler import artifacts, ending, keeping, recovering, specs, starting, waiting
from leeroy.scheduler.acts import (
    Act,
    DropWatch,
    End,
    Launch,
    StartWatch,
    Stop,
    Tidy,
    WatchKey,
)
from leeroy.scheduler.following import Follower

log = logging.getLogger(__name__)

BEAT_S = 5.0
AWAY_S = 10.0
"""So long without a look, and a watch counts as interrupted."""
_AFTER_ERROR_S = 1.0
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
        self._launches: dict[str, Launch] = {}
        self._stops: dict[str, Stop] = {}
        self._name = self._new_name()
        self._away_s = 0.0
        self._watches: dict[WatchKey, float] = {}
        self._cleared: set[int] = set()
        self._clearing: set[int] = set()
        self._sick: dict[int, float] = {}
        self._next_beat = 0.0
        self._next_round = 0.0
        self._last_turn = self._context.clock.monotonic()
        self._asleep_s = _asleep()

    # --- the server's life

    def start(self) -> None:
        """Take up what is there, then begin to turn."""
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        before = self._database.transact(
            partial(recovering.arrive, context=self._context, boot_id=boot_id)
        )
        if before is not None:
            away = (self._context.clock.now() - before).total_seconds()
            self._away_s = max(away, 0.0)
        self._boot_id = boot_id
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

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    def ended(self, run_id: str) -> None:
        """A run may have ended."""
        self._ended.append(run_id)
        self._wake.set()

    def _recover(self) -> None:
        found = self._database.read(partial(recovering.running, context=self._context))
        for build, step, stored in found:
            assert step.run_id is not None
            self._launches[step.run_id] = Launch(build, step)
            if self._runner.look(step.run_id) is Run.absent:
                self._ended.append(step.run_id)
                continue
            try:
                self._follower.follow(self._runner.spec(step.run_id), step.id, stored)
            except LeeroyError:
                log.exception("the log of run %s cannot be followed", step.run_id)
            if build.stop_at is not None:
                self._stop(Stop(step.run_id, f"stopped by {build.stop_actor}"))
            self._runner.watch(step.run_id)
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
            except Unavailable as exc:
                log.warning("the loop waits: %s", exc)
                pause = _AFTER_ERROR_S
            except Exception:
                log.exception("a turn of the loop failed")
                pause = _AFTER_ERROR_S
            if pause > 0:
                self._wake.wait(pause)

    def turn(self) -> float:
        """Do all that is due now; returns for how many seconds nothing more will be."""
        self._see_whether_asleep()
        self._beat()
        while self._ended:
            self._understand(self._ended.popleft())
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
                self._side_later(partial(self._ends.append, end))
            else:
                self._forget(end)
        self._perform(answers)
        if self._ended:
            return 0.0
        now = self._context.clock.now()
        due, later = self._database.read(partial(_due, now=now))
        if self._look_at(due, room) or self._ends or self._ended:
            return 0.0
        return self._pause(later)

    def _look_at(self, due: list[Build], room: str | None) -> bool:
        """Decide about the builds that are due; False when there were none."""
        mono = self._context.clock.monotonic()
        due = [b for b in due if self._sick.get(b.id, 0.0) <= mono]
        if not due:
            return False
        self._clear_lost([b.id for b in due if b.id not in self._cleared])
        watching = waiting.Watching(
            name=self._name,
            away_s=self._away_s,
            watched={key: mono - since for key, since in self._watches.items()},
            room=room,
            cleared=frozenset(self._cleared),
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
        self._perform(answers)
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
            self._perform(answers)
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
        context = self._context
        self._database.submit(
            lambda conn: house.beat(
                conn, context.host_id, context.host_name, self._boot_id, context.clock.now()
            )
        )
        if mono >= self._next_round:
            self._next_round = mono + keeping.ROUND_S
            self._side.submit(self._keep)

    def _keep(self) -> None:
        try:
            keeping.round_(self._database, self._runner, self._context)
        except Exception:
            log.exception("old builds and folders could not be removed; trying again later")

    def _see_whether_asleep(self) -> None:
        """A pause of the whole machine, or of this process, interrupts every watch."""
        mono, asleep = self._context.clock.monotonic(), _asleep()
        away = max(asleep - self._asleep_s, mono - self._last_turn - AWAY_S)
        if away > 1.0:
            log.warning("nothing was watched for %.0f s: pending deploys are announced again", away)
            self._name = self._new_name()
            self._away_s = away + (mono - self._last_turn)
            self._watches.clear()
            self._database.transact(lambda conn: builds.rouse(conn, self._context.clock.now()))
        self._last_turn, self._asleep_s = mono, asleep

    def _new_name(self) -> str:
        return f"{self._context.host_id}:{token_hex(4)}"

    # --- ends

    def _understand(self, run_id: str) -> None:
        """Find out how a run ended; what takes long is done beside the loop."""
        state = self._runner.look(run_id)
        if state is Run.running:
            return
        if state is Run.prepared:
            if self._runner.runs.locked(run_id):
                self._runner.watch(run_id)
                return
            state = Run.revoked if self._runner.revoke(run_id) else self._runner.look(run_id)
            if state is Run.running:
                self._runner.watch(run_id)
                return
        launch = self._launches.get(run_id)
        if state is Run.lost:
            if launch is not None and launch.step.stage is Stage.deploy:
                self._add(End(run_id, state, chunks=self._follower.rest(run_id)))
            else:
                self._side.submit(self._clear_then_add, run_id)
            return
        if state is not Run.ended:
            self._add(End(run_id, state))
            return
        patterns = _artifacts(launch)
        if patterns:
            self._side.submit(self._collect_then_add, run_id, patterns)
        else:
            self._add(self._end(run_id))

    def _end(self, run_id: str, trouble: str | None = None) -> End:
        launch = self._launches.get(run_id)
        found = None
        if launch is not None and launch.step.stage is Stage.checkout:
            found = specs.checked_out(self._runner.file(run_id, RESULT))
        return End(
            run_id,
            Run.ended,
            self._runner.result(run_id),
            trouble,
            found,
            self._follower.rest(run_id),
        )

    def _add(self, end: End) -> None:
        self._ends.append(end)
        self._wake.set()

    def _collect_then_add(self, run_id: str, patterns: Sequence[str]) -> None:
        launch = self._launches[run_id]
        trouble = None
        try:
            if self._runner.result(run_id).exit_code == 0:
                where = specs.folders(self._context, launch)
                assert where.artifacts is not None
                artifacts.collect(where.workspace, patterns, where.artifacts)
        except (artifacts.ArtifactError, OSError) as exc:
            trouble = str(exc)
        try:
            self._add(self._end(run_id, trouble))
        except Exception:
            log.exception("the end of run %s cannot be read; trying again", run_id)
            self._side_later(partial(self.ended, run_id))

    def _clear_then_add(self, run_id: str) -> None:
        try:
            if self._runner.clear(run_id):
                self._add(
                    End(run_id, self._runner.look(run_id), chunks=self._follower.rest(run_id))
                )
                return
        except Exception:
            log.exception("what is left of run %s cannot be ended", run_id)
        if not self._closing:
            self._side_later(partial(self.ended, run_id))

    def _side_later(self, what: Callable[[], None]) -> None:
        timer = threading.Timer(_CLEAR_AGAIN_S, what)
        timer.daemon = True
        timer.start()

    def _clear_lost(self, due: list[int]) -> None:
        """See to it that nothing of an interrupted deploy is alive, before anything follows."""
        for build, step in self._database.read(partial(recovering.lost, context=self._context)):
            if build.id in due and build.id not in self._clearing and step.run_id is not None:
                self._clearing.add(build.id)
                self._side.submit(self._clear_build, build.id, step.run_id)

    def _clear_build(self, build_id: int, run_id: str) -> None:
        try:
            if self._runner.clear(run_id):
                self._cleared.add(build_id)
                self._database.transact(
                    lambda conn: builds.change(conn, build_id, due_at=self._context.clock.now())
                )
                self._wake.set()
        except Exception:
            log.exception("what is left of run %s cannot be ended", run_id)
        finally:
            self._clearing.discard(build_id)

    def _forget(self, end: End) -> None:
        self._follower.forget(end.run_id)
        self._launches.pop(end.run_id, None)
        self._stops.pop(end.run_id, None)
        if end.run is not Run.lost:
            self._side.submit(self._forget_run, end.run_id)

    def _forget_run(self, run_id: str) -> None:
        try:
            self._runner.forget(run_id)
        except (LeeroyError, OSError) as exc:
            log.warning("the directory of run %s stays for now: %s", run_id, exc)

    # --- acts

    def _perform(self, answers: Sequence[list[Act] | Exception]) -> None:
        for answer in answers:
            if isinstance(answer, Exception):
                continue
            for act in answer:
                self._act(act)

    def _act(self, act: Act) -> None:
        if isinstance(act, Launch):
            assert act.step.run_id is not None
            self._launches[act.step.run_id] = act
            if act.step.stage is Stage.deploy:
                self._side.submit(self._launch, act)  # its artifacts may be large
            else:
                self._launch(act)
        elif isinstance(act, Stop):
            self._stop(act)
        elif isinstance(act, StartWatch):
            self._watches[act.key] = self._context.clock.monotonic()
        elif isinstance(act, DropWatch):
            for key in [key for key in self._watches if key[0] == act.build_id]:
                del self._watches[key]
        elif isinstance(act, Tidy):
            self._side.submit(self._tidy, act.workspace)

    def _tidy(self, workspace: str) -> None:
        for kind in ("workspaces", "tmp"):
            folder = self._context.config.data / kind / workspace
            try:
                try:
                    folder.rmdir()  # most are empty, at least of the small ones
                except OSError:
                    keeping.remove(folder)
            except OSError as exc:
                log.warning("%s stays for now: %s", folder, exc)

    def _stop(self, act: Stop) -> None:
        # Noted first: a launch on its way either leaves a directory in which the wish is put
        # down here, or looks at the note after it has made it.
        self._stops[act.run_id] = act
        try:
            self._runner.stop(act.run_id, act.reason)
        except LeeroyError:
            # It ended at this moment, or is not prepared yet.
            log.info("run %s is not there to be stopped", act.run_id)

    def _launch(self, launch: Launch) -> None:
        run_id = launch.step.run_id
        assert run_id is not None
        try:
            spec = specs.spec(self._context, launch)
            _folders(specs.folders(self._context, launch), launch)
            self._runner.prepare(spec)
            self._follower.follow(spec, launch.step.id)
            stop = self._stops.get(run_id)
            if stop is not None:
                self._runner.stop(run_id, stop.reason)
            self._runner.launch(run_id)
        except (LeeroyError, OSError, artifacts.ArtifactError) as exc:
            self._add(End(run_id, Run.ended, trouble=f"cannot start: {exc}"))
        except Exception as exc:
            log.exception("run %s cannot be started", run_id)
            self._add(End(run_id, Run.ended, trouble=f"cannot start: {exc!r}"))


def _due(conn: Connection, now: datetime) -> tuple[list[Build], datetime | None]:
    """What is due, and when the next one is, in one picture; most often nothing is."""
    later = builds.next_due(conn)
    if later is None or later > now:
        return [], later
    return builds.due(conn, now, waiting.LOOKED_AT), later


def _artifacts(launch: Launch | None) -> Sequence[str]:
    if launch is None or launch.step.stage is not Stage.build:
        return ()
    pipeline = onward.pipeline_of(launch.build)
    return next((s.artifacts for s in pipeline.builds if s.name == launch.step.name), ())


def _folders(where: specs.Folders, launch: Launch) -> None:
    """Make what a script expects to be there."""
    step = launch.step
    if step.stage is Stage.checkout:
        where.workspace.parent.mkdir(parents=True, exist_ok=True)
        return
    if launch.build.repository is None and launch.fresh:
        keeping.remove(where.workspace)
    for folder in (where.workspace, where.tmp, where.home, where.artifacts):
        if folder is not None and not os.path.isdir(folder):  # noqa: PTH112 - half the time
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if step.stage is Stage.deploy and where.artifacts is not None:
        artifacts.unpack(where.artifacts, where.workspace)


def _asleep() -> float:
    """For how long the machine has slept since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
