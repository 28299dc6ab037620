"""
What a server stands on: files that must stay where they were when it began.

A folder can be emptied or replaced under a running server, and a mount can
vanish.  Its open files then go on taking what is written, and lose it with
their last descriptor: no error says so.  A path that leads elsewhere does.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENOTCONN)


class Gone(Exception):
    """A file was removed or replaced under the process that works with it; the text says which."""


class Footing:
    """
    The files and folders at *paths*; `keep` remembers which ones they are.

    Every method may be called from any thread; a look costs a stat(2) of each path.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        self._paths = tuple(Path(path).absolute() for path in paths)
        self._kept: tuple[tuple[Path, int, int], ...] = ()

    def keep(self) -> None:
        """Remember what is there now; what is not there is not missed later."""
        found = ((path, _stat(path)) for path in self._paths)
        self._kept = tuple((path, f.st_dev, f.st_ino) for path, f in found if f is not None)

    @property
    def kept(self) -> bool:
        """Whether every path was there when it was remembered."""
        return len(self._kept) == len(self._paths)

    def lost(self) -> Gone | None:
        """
        Which path no longer leads to what was remembered; None when all do, or nothing was.

        What cannot be looked at (an I/O error, a right that was taken) does
        not count: the file may be there, and a write to it will tell.
        """
        for path, device, inode in self._kept:
            try:
                found = path.stat()
            except OSError as exc:
                if exc.errno in _GONE:
                    return Gone(f"{path} was removed, or its disk is no longer mounted")
                continue
            if found.st_ino != inode or found.st_dev != device:
                return Gone(f"{path} was replaced by another")
        return None


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
