"""Whether the folder of all runs is the one of the start before: it may not be mounted now."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex

_NAME = ".mark"


def replaced(folder: Path) -> bool:
    """
    Whether *folder* is another one than at the last start: not mounted, removed, put back.

    Its mark is kept a second time, beside it, and both are made anew when they
    differ; on the disk when this returns.  A crash in between can only make
    the next start more careful.
    """
    inside, beside = folder / _NAME, folder.with_name(f"{folder.name}{_NAME}")
    here, known = _read(inside), _read(beside)
    if here is not None and here == known:
        return False
    text = token_hex(8)
    for file in (inside, beside):
        _write(file, text)
    return known is not None


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def _write(file: Path, text: str) -> None:
    new = file.with_name(f".new-{file.name}")
    with new.open("w", encoding="ascii") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
