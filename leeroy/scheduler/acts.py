"""What follows a decision, once it is committed; plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from secrets import token_hex

from leeroy.db.artifacts import Artifact
from leeroy.model import Build, Step
from leeroy.runner.rundir import Result
from leeroy.runner.runner import Run


@dataclass(frozen=True)
class Launch:
    """
    Run the script of a step whose row says that it is running.

    `fresh`: it is the first one in its workspace.  `artifacts_of` is the build
    whose artifacts count: its own, or that of the build it deploys again.
    `manifest` are those, for a deploy script; None where nobody noted them.
    """

    build: Build
    step: Step
    fresh: bool = False
    artifacts_of: int | None = None
    manifest: tuple[Artifact, ...] | None = None


@dataclass(frozen=True)
class Stop:
    """End the processes of a run."""

    run_id: str
    reason: str


@dataclass(frozen=True)
class Tidy:
    """A workspace is of no use any more."""

    workspace: str


@dataclass(frozen=True)
class StartWatch:
    """The grace period of an announced deploy is to be watched from now on."""

    key: WatchKey


@dataclass(frozen=True)
class StartTrying:
    """From now on it is counted for how long nobody could be told of an announced deploy."""

    key: TryKey


@dataclass(frozen=True)
class DropWatch:
    """A gate closed: what was watched counts for nothing."""

    build_id: int


Act = Launch | Stop | Tidy | StartWatch | StartTrying | DropWatch
WatchKey = tuple[int, str, int, bool]
"""
Build, environment, the seq of the announcement, and whether somebody had been told.

With `unheard = "deploy"` a period may begin with nobody told; whoever is told
in the middle of it still gets a full one, so that is another watch.
"""
TryKey = tuple[int, str, int]
"""Build, environment, and the seq of the announcement that nobody has heard yet."""


@dataclass(frozen=True)
class Packed:
    """A stretch of a step's masked output as it is stored; offsets count raw bytes."""

    start: int
    stop: int
    data: bytes


@dataclass(frozen=True)
class End:
    """
    How a run was found: ended (with a result), or without one.

    `trouble` says what went wrong besides the script (it could not be
    started, its artifacts are not there).  `checkout` is what a checkout
    resolved.  `chunks` is the end of its log.  `kept` are the artifacts it
    left, copied and on the disk.
    """

    run_id: str
    run: Run
    result: Result | None = None
    trouble: str | None = None
    checkout: dict[str, str | None] | None = None
    chunks: tuple[Packed, ...] = ()
    kept: tuple[Artifact, ...] = ()

    def __post_init__(self) -> None:
        # Names of files and commits may hold bytes that are no text: no database stores those,
        # and an end that cannot be recorded would keep its build running for ever.
        if self.trouble is not None:
            object.__setattr__(self, "trouble", storable(self.trouble))
        if self.result is not None and self.result.reason is not None:
            told = replace(self.result, reason=storable(self.result.reason))
            object.__setattr__(self, "result", told)
        if self.checkout is not None:
            found = {k: None if v is None else storable(v) for k, v in self.checkout.items()}
            object.__setattr__(self, "checkout", found)


def storable(text: str) -> str:
    """The text as a database can store it: valid, and without NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


def run_id(build_id: int, step_id: int) -> str:
    """A name for a run directory that nobody has had before, not even another database."""
    return f"{build_id}-{step_id}-{token_hex(4)}"
