"""A database that the first schema filled comes through every migration as it was."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from leeroy.db import builds, house, logs, schema, steps
from leeroy.db.engine import Database
from leeroy.db.engines import postgres_engine, sqlite_engine
from leeroy.db.house import Taken
from leeroy.terms import Move, Stage, State
from tests.db import story

Rows = dict[str, list[tuple[Any, ...]]]
CHILDREN_LAST = ("builds", "events", "steps", "log_chunks", "deploys", "outbox")


def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite_engine(parsed, "BEGIN IMMEDIATE")
    return postgres_engine(parsed, 1)


def _life(conn: sa.Connection) -> None:
    """Builds in several states, with everything that hangs on them."""
    deploying = story.deploying(conn, story.push(conn, message="naïve\n'quoted'"))
    number = steps.add(conn, deploying.id, Stage.test, "unit", run_id="r1", host="h")
    steps.change(conn, number, state="passed", exit_code=0, raw_bytes=3)
    logs.add(conn, number, 0, 3, logs.pack(b"ok\n"))
    story.make(conn, story.push(conn, branch="work"), Move.cancel, actor="ada", reason="no")
    story.push(conn, tag="v1", branch=None)
    taken = Taken([deploying.id], None, {"shop": [deploying.id]})
    house.add_delivery(conn, "github", "d-1", story.START, taken)
    taken = Taken([], "nothing was pushed", {})
    house.add_delivery(conn, "gitlab", "d-2", story.START, taken)
    house.add_token(conn, "ada", "operator", "5" * 64, story.START)
    house.set_setting(conn, "stop_key", "00ff")
    house.note(conn, story.START, "ada", "freeze", "shop/production", None)
    house.beat(conn, "h", "web-1", "boot", story.START)
    house.shelve(conn, "shop", story.START, text=story.SHOP, mistakes=None)


def _reflected(conn: sa.Connection) -> sa.MetaData:
    found = sa.MetaData()
    found.reflect(conn)
    return found


def _rows(conn: sa.Connection, columns: dict[str, list[str]]) -> Rows:
    tables = _reflected(conn).tables
    return {
        name: sorted(
            (tuple(row) for row in conn.execute(sa.select(*(tables[name].c[k] for k in keys)))),
            key=repr,
        )
        for name, keys in columns.items()
    }


def _shape(conn: sa.Connection) -> set[tuple[Any, ...]]:
    """Triggers and foreign keys, as the database itself tells of them."""
    if conn.dialect.name == "sqlite":
        statement = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'"
    else:
        statement = "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
    found: set[tuple[Any, ...]] = {("trigger", *row) for row in conn.exec_driver_sql(statement)}
    inspector = sa.inspect(conn)
    for table in inspector.get_table_names():
        for key in inspector.get_foreign_keys(table):
            ways = sorted((str(k), str(v)) for k, v in key["options"].items())
            whom = (key["referred_table"], tuple(key["referred_columns"]))
            found.add(("foreign key", table, tuple(key["constrained_columns"]), *whom, *ways))
    return found


def _first_schema(engine: sa.Engine, source: sa.Engine) -> dict[str, list[str]]:
    """Make the first schema, filled with the life of *source* as far as it knew of it."""
    config = Config()
    config.set_main_option("script_location", str(schema.migrations()))
    with engine.connect() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0001")
        conn.commit()
        old = _reflected(conn)
        columns = {
            name: [column.name for column in table.c]
            for name, table in old.tables.items()
            if name != "alembic_version"
        }
        with source.connect() as life:
            rows = _rows(life, columns)
        others = [name for name in columns if name not in (*CHILDREN_LAST, "legal_moves")]
        for name in (*others, *CHILDREN_LAST):
            keys, table = columns[name], old.tables[name]
            listed = [dict(zip(keys, row, strict=True)) for row in rows[name]]
            for row in sorted(listed, key=lambda one: (one.get("seq") or 0, str(one))):
                conn.execute(table.insert(), row)
            if conn.dialect.name != "sqlite" and name in ("builds", "steps", "outbox", "audit"):
                where = (
                    f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}"
                )
                conn.exec_driver_sql(where)
        conn.commit()
        return columns


def test_a_filled_database_is_brought_up_to_date(empty: str, tmp_path: Path) -> None:
    """Rows, triggers and foreign keys are kept, and a build that waited goes on."""
    newest = f"sqlite:///{tmp_path}/life.db"
    schema.ensure(newest, migrate=True)
    source = Database(newest)
    source.transact(_life)
    source.close()
    filled, shown = _engine(empty), _engine(newest)
    columns = _first_schema(filled, shown)
    shown.dispose()
    with filled.connect() as conn:
        before, shape = _rows(conn, columns), _shape(conn)
    assert all(before.values()), [name for name, rows in before.items() if not rows]

    assert schema.ensure(empty, migrate=True)
    with filled.connect() as conn:
        assert before == _rows(conn, columns)
        assert shape <= _shape(conn), shape - _shape(conn)
    for statement in (
        "UPDATE events SET actor = 'nobody'",
        "DELETE FROM events",
        "DELETE FROM legal_moves",
        "INSERT INTO deploys (build_id, environment, key, withdrawals) VALUES (99, 'x', 'k', 0)",
        "UPDATE builds SET version = 77",
    ):
        with pytest.raises(DBAPIError), filled.connect() as conn:
            conn.exec_driver_sql(statement)
            conn.commit()
    filled.dispose()
    database = Database(empty)
    try:
        waiting = database.read(lambda conn: builds.get(conn, 3))
        assert waiting is not None and waiting.state is State.queued
        database.transact(lambda conn: story.make(conn, waiting, Move.start, changes={"slot": 1}))
        assert 4 == database.transact(story.push).id
        database.transact(partial(builds.delete, build_id=1))
        assert [] == database.read(lambda conn: steps.of(conn, 1))
        assert [] == database.read(lambda conn: builds.history(conn, 1))
    finally:
        database.close()
