"""INSERT … ON CONFLICT, for which each database has a statement of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection


def insert(conn: Connection, table: sa.Table) -> Any:
    """An INSERT of the connection's database that has `on_conflict_do_…`."""
    return _insert(conn.dialect.name, table)


def _insert(dialect: str, table: sa.Table) -> Any:
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert(table)
    from sqlalchemy.dialects.postgresql import insert as postgres_insert

    return postgres_insert(table)


def prepared(table: sa.Table, finish: Callable[[Any], Any]) -> Callable[[Connection], Any]:
    """
    The statement that *finish* makes of such an INSERT, put together once for each database.

    For what each push and each move executes: to put a statement together
    takes longer than to execute it.
    """

    @cache
    def made(dialect: str) -> Any:
        return finish(_insert(dialect, table))

    return lambda conn: made(conn.dialect.name)
