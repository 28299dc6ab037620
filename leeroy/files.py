"""
Plain files in a folder that somebody else has written to.

No link is ever followed, not even one that takes a folder's place while we
look: each part of a path is opened below the one before.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# not blocking: to open a pipe would wait for its other end
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotPlain(Exception):
    """There is a link, a pipe, a device or a socket where a file should be; the text says where."""


def walk(base: Path, start: str = "") -> Iterator[tuple[str, int]]:
    """
    Every file at or below *start*: its path below *base* and its size, in the order of names.

    Raises:
        NotPlain: Something is neither a file nor a folder.
        OSError: A folder cannot be read.
    """
    waiting = [start]
    while waiting:
        path = waiting.pop()
        seen = (base / path).lstat()
        if stat.S_ISREG(seen.st_mode):
            yield path, seen.st_size
        elif stat.S_ISDIR(seen.st_mode):
            names = sorted((entry.name for entry in (base / path).iterdir()), reverse=True)
            waiting += [f"{path}/{name}" if path else name for name in names]
        else:
            raise NotPlain(f"{path or base.name} is {kind(seen.st_mode)}")


def kind(mode: int) -> str:
    """What is no file and no folder, in words."""
    return "a link" if stat.S_ISLNK(mode) else "no plain file"


def open_(base: Path, path: str) -> int:
    """
    A descriptor of the file at *path* below *base*, for reading.

    Raises:
        NotPlain: It is no file, or a part of its path is a link or leads elsewhere.
        OSError: It is not there, or cannot be read.
    """
    *folders, name = path.split("/")
    if any(part in ("", ".", "..") for part in (*folders, name)):
        raise NotPlain(f"{path!r} leads elsewhere")
    at = -1
    try:
        at = os.open(base, _FOLDER)
        for folder in folders:
            inner = os.open(folder, _FOLDER, dir_fd=at)
            os.close(at)
            at = inner
        found = os.open(name, _FILE, dir_fd=at)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotPlain(f"{path} is a link, or below one") from exc
        if exc.errno == errno.ENXIO:  # a socket
            raise NotPlain(f"{path} is no plain file") from exc
        raise
    finally:
        if at >= 0:
            os.close(at)
    mode = os.fstat(found).st_mode
    if not stat.S_ISREG(mode):
        os.close(found)
        raise NotPlain(f"{path} is no plain file")
    return found
