"""Whether a SQLite file can be read at all."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from leeroy.db.engines import sqlite_engine

_BROKEN = ("SQLITE_IOERR", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN")


def trouble(url: str) -> str | None:
    """Why a SQLite file that is there cannot be read for its disk's sake; None when it can."""
    parsed = sa.make_url(url)
    file = Path(parsed.database or "")
    if parsed.get_backend_name() != "sqlite" or not file.is_file():
        return None
    engine = sqlite_engine(parsed, "BEGIN")
    try:
        with engine.connect() as conn:
            conn.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
    except DBAPIError as exc:
        if str(getattr(exc.orig, "sqlite_errorname", "")).startswith(_BROKEN):
            return f"{file} cannot be read: {exc.orig}; see to its disk"
    finally:
        engine.dispose()
    return None
