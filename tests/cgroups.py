"""A control group of a test's own, with a limit: memory or processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts import missing

_ROOT = Path("/sys/fs/cgroup")
_FILES = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "pids": ("pids.max", "pids.max"),
}


class Group:
    """The group's folder; `wrap` is put before a command that is to live in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        enter = f'echo $$ > "{folder}/cgroup.procs" && exec "$@"'
        self.wrap = ["sh", "-c", enter, "sh"]

    def pids(self) -> list[int]:
        """Who is in it now."""
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]

    def peak(self) -> int:
        """The most of it that was in use at once (pids; memory in bytes)."""
        for name in ("pids.peak", "memory.max_usage_in_bytes", "memory.peak"):
            if (self.folder / name).exists():
                return int((self.folder / name).read_text())
        return 0


@contextmanager
def a_group(what: str, limit: int) -> Iterator[Group]:
    """A group whose *what* ("memory" in bytes, "pids") is limited; whoever is left in it is killed."""
    old, new = _FILES[what]
    first = (_ROOT / what).is_dir()
    parent = _ROOT / what if first else _ROOT
    folder = parent / f"leeroy-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / (old if first else new)).write_text(str(limit))
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        missing(f"the right to make a control group for {what}")
    group = Group(folder)
    try:
        yield group
    finally:
        _empty(group)
        folder.rmdir()


def _empty(group: Group) -> None:
    from tests.waiting import until

    def gone() -> bool:
        for pid in group.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        return not group.pids()

    until(gone, 20, "nobody is left in the control group")
