"""
What a crash leaves beside a SQLite file, and the file that is put in its place.

After a crash the newest commits are in the log beside the file (`-wal`), and
SQLite takes whatever log lies there for the file's own: a copy that is put
over the file would be changed by it, into what was there before or into a
file that cannot be read.  So before anything opens the file, this looks
whether the two belong together.  Nothing here removes what a log holds.

Sources: sqlite.org/fileformat2.html (bytes 18 and 19 of a file are 2 where it
is used with a log, and 1 in a copy of its own; §4.1 the log's frames);
sqlite.org/wal.html (who has the file open holds a lock on byte 128 of `-shm`).
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

log = logging.getLogger(__name__)

_FLOCK = "hhqqi"
"""struct flock of Linux: type, whence, start, length, pid."""
_IN_USE_BYTE = 128
_HEAD = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


class Damaged(Exception):
    """A database whose file is not what SQLite wrote; the text says why, and what to do."""


def damage(error: BaseException | None) -> Damaged | None:
    """*error* as what it means, where it says that the file is damaged; else None."""
    orig = getattr(error, "orig", error)
    if str(getattr(orig, "sqlite_errorname", "")).startswith(_DAMAGED):
        return Damaged(_sentence(str(orig)))
    return None


def _sentence(why: str) -> str:
    return f"it is damaged ({why}); put a backup in its place: docs/operating.md, After a restore"


def doubt(file: Path, why: Damaged) -> None:
    """Have the next start look at the whole file; it was found damaged while it was used."""
    with contextlib.suppress(OSError):
        _marker(file).write_text(f"\n{why}\n")


def sort_out(file: Path) -> str | None:
    """
    Put a log aside that belongs to another file; why the file cannot be used, or None.

    Looked at as a whole (`PRAGMA quick_check`) is only a file that there is a
    reason to doubt.  While another process has it open nothing is done.  To be
    called before this process opens the file: it would lose its locks.
    """
    try:
        if not (_has_log(file) or _marker(file).exists()) or _in_use(file):
            return None
        with _alone(file.absolute().parent):
            # Once more: another process may have done it, and opened the file since.
            return None if _in_use(file) else _sort_out(file)
    except OSError as exc:
        return f"what lies beside {file} cannot be sorted out: {exc.strerror}; see to its disk"


def _sort_out(file: Path) -> str | None:
    doubtful = _marker(file).exists()
    if _has_log(file):
        belongs = _belongs(file)
        doubtful |= belongs is not True
        if belongs is None and _unsound(file) is not None and _unsound(file, alone=True) is None:
            belongs = False
        if belongs is False:
            aside = _put_aside(file)
            log.error(
                "%s is not the file that the log beside it was written for (it was put back from "
                "a copy, or removed): the log is not applied, and kept as %s",
                *(file, aside),
            )
    return _looked_at(file) if doubtful and file.exists() else None


# --- whether the log is the file's


def _belongs(file: Path) -> bool | None:
    """
    Whether the log beside *file* was written for it; None: it cannot be told.

    Each commit counts the mark of `lineage` up.  So the file, read without its
    log, has a mark that its log continues, or one that the log has and a
    checkpoint brought into the file.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(20)
    except FileNotFoundError:
        return False  # SQLite would make an empty one, and remove the log
    if head[18:20] == b"\x01\x01":
        return False  # it never had a log: SQLite sets these bytes before it makes one
    try:
        uri = f"{file.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as conn:
            (size,) = conn.execute("PRAGMA page_size").fetchone()
            root, sql = conn.execute(
                "SELECT rootpage, sql FROM sqlite_master WHERE type = 'table' AND name = 'lineage'"
            ).fetchone()
            own = conn.execute("SELECT era, mark FROM lineage").fetchone()
    except (sqlite3.Error, TypeError):  # half a checkpoint, or older than the table
        return None
    with Path(f"{file}-wal").open("rb") as opened:
        logged = list(_marks(opened.read(), root, size, sql))
    if not logged or own is None or None in logged:
        return None
    assert logged[0] is not None
    return own in logged or own[1] == logged[0][1] - 1


def _marks(content: bytes, root: int, size: int, sql: str) -> Iterator[tuple[str, int] | None]:
    """Era and mark in each frame of page *root*; None for one that holds something else."""
    if len(content) < _HEAD.size:
        return
    _, _, page, _, *salt = _HEAD.unpack_from(content)[:6]
    if page != size:
        yield None
        return
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.execute(f"PRAGMA page_size = {int(size)}")
        conn.execute(sql)
        first = conn.serialize()[:size]
        for at in itertools.count(_HEAD.size, _FRAME.size + size):
            if at + _FRAME.size + size > len(content):
                return
            number, _, *salted = _FRAME.unpack_from(content, at)[:4]
            if salted != salt:  # of an earlier round of the log
                return
            if number == root:
                start = at + _FRAME.size
                conn.deserialize(first + content[start : start + size])
                yield _row(conn)


def _row(conn: sqlite3.Connection) -> tuple[str, int] | None:
    try:
        [(era, mark)] = conn.execute("SELECT era, mark FROM lineage").fetchall()
    except (sqlite3.Error, ValueError):
        return None
    return (era, mark) if isinstance(mark, int) else None


def _put_aside(file: Path) -> Path:
    for number in itertools.count(1):
        aside = file.with_name(f"{file.name}-wal.of-before-{number}")
        if not aside.exists():
            break
    Path(f"{file}-wal").rename(aside)
    return aside


# --- whether the file is sound


def _looked_at(file: Path) -> str | None:
    """Look at the whole file, once for each that lies there; what is damaged stays noted."""
    marker, which = _marker(file), _which(file)
    with contextlib.suppress(FileNotFoundError):
        noted, _, known = marker.read_text().partition("\n")
        if noted == which:
            return known.strip()
    found = _unsound(file)
    if found is None:
        marker.unlink(missing_ok=True)
        return None
    said = f"{file}: {_sentence(found)}"
    marker.write_text(f"{which}\n{said}\n")
    return said


def _unsound(file: Path, *, alone: bool = False) -> str | None:
    """What is wrong with the file together with its log, or *alone*; None when it is sound."""
    # Read-only: closed, it leaves the log as it is, and does not write it into the file.
    how = "&immutable=1" if alone or not _has_log(file) else ""
    if file.stat().st_size == 0:
        return "it is empty"
    check = "integrity_check(1)" if _marker(file).exists() else "quick_check(1)"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro{how}", uri=True)) as conn:
            (found,) = conn.execute(f"PRAGMA {check}").fetchone()
    except sqlite3.Error as exc:
        # What else is wrong is for whoever opens it in earnest to say.
        return str(exc) if damage(exc) is not None else None
    return None if found == "ok" else str(found).strip().splitlines()[-1]


def _which(file: Path) -> str:
    parts = []
    for path in (file, Path(f"{file}-wal")):
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            parts += [found.st_ino, found.st_size, found.st_mtime_ns]
    return " ".join(map(str, parts))


def _marker(file: Path) -> Path:
    return file.with_name(f"{file.name}.damaged")


# --- who else is there


def _has_log(file: Path) -> bool:
    try:
        return Path(f"{file}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _in_use(file: Path) -> bool:
    """Whether another process has the file open, with its log; nothing is locked to find out."""
    try:
        with Path(f"{file}-shm").open("rb") as index:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _IN_USE_BYTE, 1, 0)
            told = fcntl.fcntl(index, fcntl.F_GETLK, asked)
    except FileNotFoundError:
        return False
    return bool(struct.unpack(_FLOCK, told)[0] != fcntl.F_UNLCK)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of all who look, one at a time; a folder's own lock needs no room on a full disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
