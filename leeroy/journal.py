"""
What a host knows to be committed, kept in its data folder beside the database.

A database that was put back from a copy cannot tell that by itself; this file
can, for it goes with the host and not with the database.  Two slots are
written in turn, each with its own checksum, so that a write torn by a power
cut leaves the other one; a write for each commit is in the page cache at once
(it survives this process), and on the disk after `sync`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

NAME = "journal"
_SLOT = 512


@dataclass(frozen=True)
class Entry:
    """
    The database as this host last saw it.

    `era` is who it is, `mark` counts its commits, `incarnation` says which
    tables of which PostgreSQL it is in (None: SQLite), `build` is the highest
    number a build was given.
    """

    era: str
    mark: int
    incarnation: str | None
    build: int

    @property
    def text(self) -> str:
        """The entry as the database notes which one it doubts, or was cleared of."""
        return f"{self.era}@{self.mark}"


class Journal:
    """The file `journal` of a data folder; every method may be called from any thread."""

    def __init__(self, data: Path) -> None:
        self._path = data / NAME
        self.doubted = True
        """
        While true nothing is noted: the entry is the evidence.  So it is until the
        database was compared with it.
        """

    def read(self) -> Entry | None:
        """The newest whole entry; None when there is none."""
        try:
            with self._path.open("rb") as file:
                found = self._entries(file.read(2 * _SLOT))
        except FileNotFoundError:
            return None
        return max(found)[2] if found else None

    def note(self, era: str | None, mark: int, build: int) -> None:
        """A commit: the mark only grows, and only for the era the journal is of."""
        if self.doubted or era is None:
            return
        with contextlib.suppress(FileNotFoundError), self._path.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            found = self._entries(file.read(2 * _SLOT))
            if not found:
                return
            number, _, entry = max(found)
            if entry.era == era and entry.mark < mark:
                self._put(file.fileno(), number + 1, Entry(era, mark, entry.incarnation, build))

    def adopt(self, entry: Entry) -> None:
        """From now on the database is this one; on the disk when this returns."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            found = self._entries(os.pread(fd, 2 * _SLOT, 0))
            number = max(found)[0] if found else 0
            self._put(fd, number + 1, entry)
            os.fsync(fd)
        finally:
            os.close(fd)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def sync(self) -> None:
        """What was noted is on the disk when this returns."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            os.fdatasync(file.fileno())

    @staticmethod
    def _put(fd: int, number: int, entry: Entry) -> None:
        body = json.dumps([number, vars(entry)])
        check = hashlib.sha256(body.encode()).hexdigest()[:16]
        slot = f"{check} {body}".encode().ljust(_SLOT - 1) + b"\n"
        assert len(slot) == _SLOT, "an entry of the journal is longer than its slot"
        os.pwrite(fd, slot, number % 2 * _SLOT)

    @staticmethod
    def _entries(content: bytes) -> list[tuple[int, str, Entry]]:
        slots = (_whole(content[at : at + _SLOT]) for at in (0, _SLOT))
        return [slot for slot in slots if slot is not None]


@lru_cache(maxsize=4)
def _whole(slot: bytes) -> tuple[int, str, Entry] | None:
    """What a slot holds; None when it is torn.  Of two slots one is as it was the last time."""
    check, _, body = slot.strip().partition(b" ")
    if not check or check.decode("ascii", "replace") != hashlib.sha256(body).hexdigest()[:16]:
        return None
    number, entry = json.loads(body)
    return int(number), check.decode(), Entry(**entry)
