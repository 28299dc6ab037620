"""
How a run ended, found out: from its directory, with the rest of its log and its artifacts.

What takes long (clearing what is left of a lost run, copying artifacts) is
done beside the loop; whatever is found becomes an `End` that the loop records.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from leeroy import ends, onward
from leeroy.context import Context
from leeroy.db import artifacts as manifests
from leeroy.db import builds
from leeroy.db.engine import Database
from leeroy.model import Build, Step
from leeroy.runner.checkout import RESULT
from leeroy.runner.runner import Run, Runner
from leeroy.scheduler import artifacts, recovering, specs
from leeroy.scheduler.acts import End, Launch
from leeroy.scheduler.following import Follower
from leeroy.terms import Stage, State

log = logging.getLogger(__name__)

AGAIN_S = 1.0
OUTSIDE_S = 2.0
"""After so long a server that still lives was not shut down together with the run."""


class Finder:
    """
    Finds out how runs ended; `found(end)` is called from any thread, once for each look.

    `launches` are the runs this process launched or took up; `again(run_id)`
    asks for another look later.  `cleared` are the lost deploys' runs of which
    provably nothing is left: each loss has a run of its own.
    """

    def __init__(
        self,
        database: Database,
        runner: Runner,
        context: Context,
        follower: Follower,
        launches: Mapping[str, Launch],
        side: ThreadPoolExecutor,
        found: Callable[[End], None],
        again: Callable[[str], None],
    ) -> None:
        self._database = database
        self._runner = runner
        self._context = context
        self._follower = follower
        self._launches = launches
        self._side = side
        self._found = found
        self._again = again
        # Of its own: artifacts that are copied for minutes must not keep a loss from being told.
        self._clearers = ThreadPoolExecutor(4, "clearing")
        self.cleared: set[str] = set()
        self._clearing: set[str] = set()
        self._collecting: set[str] = set()
        self._outside: dict[str, float] = {}  # ended from outside, and when that was seen

    def close(self) -> None:
        """Begin nothing more."""
        self._clearers.shutdown(wait=False, cancel_futures=True)

    def look(self, run_id: str) -> None:
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
            if run_id not in self._clearing:
                self._clearing.add(run_id)
                self._clearers.submit(self._clear_then_find, run_id, _deploys(launch))
            return
        if state is Run.absent and _deploys(launch) and self._runner.vanished(run_id):
            # It may have begun, and even ended: what said so is gone.
            self._found(End(run_id, Run.lost, trouble=ends.GONE))
            return
        if state is not Run.ended:
            self._found(End(run_id, state))
            return
        if self._ended_from_outside(run_id, launch):
            return
        patterns = _artifacts(launch)
        if patterns:
            if run_id in self._collecting:
                return  # two at a time would be in each other's way
            self._collecting.add(run_id)
            self._side.submit(self._collect_then_find, run_id, patterns)
        else:
            self._found(self._end(run_id))

    def _ended_from_outside(self, run_id: str, launch: Launch | None) -> bool:
        """
        Judge a run that a SIGTERM ended which Leeroy did not send; False: it ended like any other.

        With the host went what could say how far a script came, so it is lost.
        Else it is known that a deploy script did not exit 0; any other was cut
        short whatever it says, and may run again.
        """
        result = self._runner.result(run_id)
        elsewhere = self._runner.elsewhere(run_id)
        killed = result.reason is None and result.signal == signal.SIGTERM and elsewhere
        if not killed and result.reason != ends.OUTSIDE:
            return False
        if _deploys(launch) and result.exit_code == 0:
            return False
        if not elsewhere:
            # The machine may be on its way down, and this process with it: who comes next can tell.
            now = self._context.clock.monotonic()
            if now - self._outside.setdefault(run_id, now) < OUTSIDE_S:
                later(partial(self._again, run_id))
                return True
            self._outside.pop(run_id)
            if _deploys(launch):
                return False
        why = ends.SHUT_DOWN if elsewhere else ends.OUTSIDE
        self._found(End(run_id, Run.lost, trouble=why, chunks=self._follower.rest(run_id)))
        return True

    def _end(
        self,
        run_id: str,
        trouble: str | None = None,
        kept: tuple[manifests.Artifact, ...] = (),
    ) -> End:
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
            kept,
        )

    def _collect_then_find(self, run_id: str, patterns: Sequence[str]) -> None:
        trouble: str | None = None
        kept: tuple[manifests.Artifact, ...] = ()
        try:
            try:
                kept = self._collect(run_id, patterns)
            except (artifacts.ArtifactError, OSError) as exc:
                trouble = str(exc)
            self._found(self._end(run_id, trouble, kept))
        except Exception:
            log.exception("the end of run %s cannot be read; trying again", run_id)
            later(partial(self._again, run_id))
        finally:
            self._collecting.discard(run_id)

    def _collect(self, run_id: str, patterns: Sequence[str]) -> tuple[manifests.Artifact, ...]:
        launch = self._launches[run_id]
        if self._runner.result(run_id).exit_code != 0:
            return ()
        where = specs.folders(self._context, launch)
        assert where.artifacts is not None
        earlier = self._database.read(partial(manifests.of, build_id=launch.build.id))
        limit = self._context.config.max_artifacts
        return artifacts.collect(where.workspace, patterns, where.artifacts, earlier, limit)

    def _clear_then_find(self, run_id: str, deploys: bool) -> None:
        """
        A test is lost only once nothing of it is alive: then it is run again.

        People hear of a lost deploy in any case, but first what is left of it
        is ended: whatever they answer, it does not run beside the next one.
        """
        clear = False
        try:
            clear = self._runner.clear(run_id)
            state = self._runner.look(run_id)
            if state is Run.lost and (clear or deploys):
                if clear and deploys:
                    self.cleared.add(run_id)
                self._found(End(run_id, state, chunks=self._follower.rest(run_id)))
                return
        except Exception:
            log.exception("what is left of run %s cannot be ended", run_id)
        finally:
            self._clearing.discard(run_id)
        later(partial(self._again, run_id))

    def clear_lost(self, due: list[int]) -> None:
        """See to it that nothing of an interrupted deploy is alive, before anything follows."""
        if not due:
            return
        lost = self._database.read(partial(recovering.lost, context=self._context))
        self.cleared.intersection_update([step.run_id for _, step in lost])
        for build, step in lost:
            run_id = step.run_id
            if build.id not in due or run_id is None:
                continue
            if run_id not in self._clearing and run_id not in self.cleared:
                self._clearing.add(run_id)
                self._clearers.submit(self._clear_build, build, step)

    def _clear_build(self, build: Build, step: Step) -> None:
        run_id = step.run_id
        assert run_id is not None
        try:
            if self.take_late(build, step):
                return
            if self._runner.clear(run_id):
                self.cleared.add(run_id)
                now = self._context.clock.now()
                self._database.transact(partial(_due_now, build_id=build.id, now=now))
        except Exception:
            log.exception("what is left of run %s cannot be ended", run_id)
        finally:
            self._clearing.discard(run_id)

    def take_late(self, build: Build, step: Step) -> bool:
        """Whether the end of an interrupted deploy is known after all; then it is recorded."""
        if step.run_id is None or self._runner.look(step.run_id) is not Run.ended:
            return False
        late = partial(
            recovering.late,
            context=self._context,
            build_id=build.id,
            step=step,
            result=self._runner.result(step.run_id),
        )
        self._database.transact(late)
        return True


def later(what: Callable[[], None]) -> None:
    """Do it in a second, beside everything."""
    timer = threading.Timer(AGAIN_S, what)
    timer.daemon = True
    timer.start()


def _due_now(conn: Connection, build_id: int, now: datetime) -> None:
    build = builds.get(conn, build_id, lock=True)
    if build is not None and build.state is State.interrupted:
        builds.change(conn, build_id, due_at=now)
        builds.wake(conn)


def _deploys(launch: Launch | None) -> bool:
    return launch is not None and launch.step.stage is Stage.deploy


def _artifacts(launch: Launch | None) -> Sequence[str]:
    if launch is None or launch.step.stage is not Stage.build:
        return ()
    pipeline = onward.pipeline_of(launch.build)
    return next((s.artifacts for s in pipeline.builds if s.name == launch.step.name), ())
