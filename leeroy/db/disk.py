"""Whether a SQLite file can be used at all."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from leeroy.db import leftover
from leeroy.db.engines import sqlite_engine

_BROKEN = ("SQLITE_IOERR", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN")


def trouble(url: str) -> str | None:
    """
    Why a SQLite file that is there cannot be used: its disk, or what it holds; None when it can.

    Before it is opened, a log that belongs to another file is put aside.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    file = Path(parsed.database)
    why = leftover.sort_out(file)
    if why is not None or not file.is_file():
        return why
    engine = sqlite_engine(parsed, "BEGIN")
    try:
        with engine.connect() as conn:
            conn.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
    except DBAPIError as exc:
        damaged = leftover.damage(exc)
        if damaged is not None:
            return f"{file}: {damaged}"
        if str(getattr(exc.orig, "sqlite_errorname", "")).startswith(_BROKEN):
            return f"{file} cannot be read: {exc.orig}; see to its disk"
    finally:
        engine.dispose()
    return None
