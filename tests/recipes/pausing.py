"""Points at which programs of a target stand still, by files in a folder (standard library only)."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hold(folder: Path, point: str) -> None:
    (folder / f"hold-{point}").touch()


def there(folder: Path) -> bool:
    return any(folder.glob("held-*"))


def release(folder: Path) -> None:
    for file in folder.glob("hold-*"):
        file.unlink()


@contextmanager
def busy(folder: Path) -> Iterator[int]:
    """
    While a program of the target is at work; the descriptor is for children that are, too.

    A lock, so that one that is killed is no longer busy.
    """
    at = os.open(folder / "busy", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(at, fcntl.LOCK_SH)
        yield at
    finally:
        os.close(at)


def quiet(folder: Path) -> bool:
    """Whether none is at work."""
    at = os.open(folder / "busy", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(at)


def pause(folder: Path, point: str) -> None:
    """Where the program stands still while `hold` says so."""
    hold_ = folder / f"hold-{point}"
    if hold_.exists():
        (folder / f"held-{point}").touch()
        while hold_.exists():
            time.sleep(0.02)
