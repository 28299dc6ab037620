"""
What is done after a decision is committed: scripts launched and stopped, folders made and removed.

A crash before, in or after any of it is found at the next start: the rows say
what was meant, the run directories what came of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from leeroy import gates
from leeroy.context import Context
from leeroy.errors import LeeroyError
from leeroy.runner.runner import Run, Runner
from leeroy.scheduler import artifacts, keeping, specs
from leeroy.scheduler.acts import (
    Act,
    DropWatch,
    End,
    Launch,
    StartTrying,
    StartWatch,
    Stop,
    Tidy,
    TryKey,
    WatchKey,
)
from leeroy.scheduler.attention import Attention
from leeroy.scheduler.following import Follower
from leeroy.terms import Stage

log = logging.getLogger(__name__)


class Doer:
    """
    Does what was decided; `failed(end)` is told of a script that cannot be started.

    `launches` are the runs under way, `watches` says since when each announced
    deploy is watched, `tries` since when nobody could be told of it; both by
    the clock of `attention`.
    """

    def __init__(
        self,
        runner: Runner,
        context: Context,
        follower: Follower,
        side: ThreadPoolExecutor,
        failed: Callable[[End], None],
        attention: Attention,
    ) -> None:
        self._runner = runner
        self._context = context
        self._follower = follower
        self._side = side
        self._failed = failed
        self._attention = attention
        self.launches: dict[str, Launch] = {}
        self.watches: dict[WatchKey, float] = {}
        self.tries: dict[TryKey, float] = {}
        self._stops: dict[str, Stop] = {}

    def perform(self, answers: Sequence[list[Act] | Exception]) -> None:
        """Do what each decision asks for; a decision that failed asks for nothing."""
        for answer in answers:
            if isinstance(answer, Exception):
                continue
            for act in answer:
                self._act(act)

    def _act(self, act: Act) -> None:
        if isinstance(act, Launch):
            assert act.step.run_id is not None
            self.launches[act.step.run_id] = act
            if act.step.stage is Stage.deploy:
                self._side.submit(self._launch, act)  # its artifacts may be large
            else:
                self._launch(act)
        elif isinstance(act, Stop):
            self.stop(act)
        elif isinstance(act, StartWatch):
            self.watches[act.key] = self._attention.worked()
        elif isinstance(act, StartTrying):
            self.tries = {key: at for key, at in self.tries.items() if key[0] != act.key[0]}
            self.tries[act.key] = self._attention.worked()
        elif isinstance(act, DropWatch):
            for key in [key for key in self.watches if key[0] == act.build_id]:
                del self.watches[key]
        elif isinstance(act, Tidy):
            self._side.submit(self._tidy, act.workspace)

    def watching(self) -> bool:
        """Whether anything depends on how long this process is really there."""
        if self.watches:
            return True
        enough = self._attention.worked() - gates.UNHEARD_S
        return any(since > enough for since in self.tries.values())

    def watch_only(self, pending: Collection[int]) -> None:
        """All but the builds *pending* wait no more."""
        self.watches = {key: at for key, at in self.watches.items() if key[0] in pending}
        self.tries = {key: at for key, at in self.tries.items() if key[0] in pending}

    def watch_nothing(self) -> None:
        """What was watched was interrupted, and counts for nothing."""
        self.watch_only(())

    def forget(self, end: End) -> None:
        """The end is recorded: nothing of the run is needed any more, unless it is lost."""
        self._follower.forget(end.run_id)
        self.launches.pop(end.run_id, None)
        self._stops.pop(end.run_id, None)
        if end.run is not Run.lost:
            self._side.submit(self._forget_run, end.run_id)

    def _forget_run(self, run_id: str) -> None:
        try:
            self._runner.forget(run_id)
        except (LeeroyError, OSError) as exc:
            log.warning("the directory of run %s stays for now: %s", run_id, exc)

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

    def stop(self, act: Stop) -> None:
        """End a run's processes, also those of a run that is just being launched."""
        # Noted first: a launch on its way either leaves a directory in which the wish is put
        # down here, or looks at the note after it has made it.
        self._stops[act.run_id] = act
        try:
            self._runner.stop(act.run_id, act.reason)
        except LeeroyError:
            # It ended at this moment, or is not prepared yet.
            log.info("run %s is not there to be stopped", act.run_id)
        except OSError as exc:
            # Not passed on, so that the next look at what runs does it again.
            self._stops.pop(act.run_id, None)
            log.warning("run %s cannot be stopped yet: %s", act.run_id, exc)

    def stopping(self, run_id: str) -> bool:
        """Whether the wish to stop this run was passed on."""
        return run_id in self._stops

    def _launch(self, launch: Launch) -> None:
        run_id = launch.step.run_id
        assert run_id is not None
        try:
            spec = specs.spec(self._context, launch)
            _folders(specs.folders(self._context, launch), launch)
            if launch.step.stage is Stage.deploy and self._context.journal is not None:
                self._context.journal.sync()  # no copy of the database makes us forget it
            self._runner.prepare(spec)
            self._follower.follow(spec, launch.step.id)
            stop = self._stops.get(run_id)
            if stop is not None:
                self._runner.stop(run_id, stop.reason)
            self._runner.launch(run_id)
        except (LeeroyError, OSError, artifacts.ArtifactError) as exc:
            self._failed(End(run_id, Run.ended, trouble=f"cannot start: {exc}"))
        except Exception as exc:
            log.exception("run %s cannot be started", run_id)
            self._failed(End(run_id, Run.ended, trouble=f"cannot start: {exc!r}"))


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
        artifacts.unpack(where.artifacts, launch.manifest, where.workspace)
