"""A copy of a SQLite database that is in use: one moment of it, whole, and on the disk."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from leeroy.errors import Unavailable


def copy(source: Path, file: Path) -> None:
    """
    Copy a database to *file*, beside any writer; readable for its owner only.

    All pages are read in one step on one picture (WAL), so a busy server
    neither delays nor spoils it.  After a crash *file* is there whole or not at all.

    Raises:
        Unavailable: It cannot be read or written, or the copy is not sound.
    """
    new = file.with_name(f".{file.name}.new")
    try:
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(new)) as made,
        ):
            old.backup(made)
            # A file of its own: without this it would want its -wal and -shm beside it.
            made.execute("PRAGMA journal_mode = DELETE")
            (sound,) = made.execute("PRAGMA quick_check").fetchone()
        if sound != "ok":
            raise Unavailable(f"the copy of {source} is not sound: {sound}")
        _sync(new, os.O_RDONLY)
        new.replace(file)
        _sync(file.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    except (OSError, sqlite3.Error) as exc:
        raise Unavailable(f"{source} cannot be copied to {file}: {exc}") from exc
    finally:
        new.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
