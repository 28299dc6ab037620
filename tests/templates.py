"""Databases that have their schema already: to make it takes longer than most tests."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from leeroy.db import schema


def put(file: Path) -> None:
    """A SQLite database with the schema and nothing in it, where there is neither file nor folder."""
    if not file.exists() and not file.parent.exists():
        file.parent.mkdir(mode=0o700)
        shutil.copyfile(_sqlite(), file)


@functools.cache
def _sqlite() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="leeroy-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "leeroy.db"
    schema.ensure(f"sqlite:///{file}", migrate=True)
    return file
