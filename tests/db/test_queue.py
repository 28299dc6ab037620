"""Who gets a slot: whoever may start, however many wait before them who may not."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from leeroy import config, context
from leeroy.clock import Clock
from leeroy.db import builds
from leeroy.db.engine import Database
from leeroy.model import Build
from leeroy.scheduler import starting
from leeroy.terms import State
from tests.db.story import START, push

MANY = 120
SLOW = 'at_once = 1\n[[test]]\nname = "unit"\nrun = "sleep 9"\n'
OLD = "this is no pipeline of today"


@pytest.fixture
def here(tmp_path: Path) -> context.Context:
    environ = {"LEEROY_DATA": str(tmp_path), "LEEROY_MIN_FREE": "0B", "LEEROY_SLOTS": "3"}
    return context.make(config.load(None, environ), Clock(lambda: START, lambda: 0.0), {}, new=True)


def building(conn: Connection) -> list[int]:
    return [build.id for build in builds.in_state(conn, State.building)]


def last(conn: Connection, **columns: object) -> Build:
    """One that may start, behind many that may not."""
    for _ in range(MANY):
        push(conn, **columns)
    return push(conn)


def test_forks_that_nobody_approved_hold_up_nobody(
    database: Database, here: context.Context
) -> None:
    """Anybody can open pull requests."""
    build = database.transact(partial(last, fork=True, pull_request=1))
    database.transact(partial(starting.pick, context=here))
    assert [build.id] == database.read(building)


def test_a_pipeline_at_its_limit_holds_up_no_other(
    database: Database, here: context.Context
) -> None:
    slow = {"pipeline": "slow", "pipeline_text": SLOW, "repository": None, "branch": None}
    build = database.transact(partial(last, **slow))
    database.transact(partial(starting.pick, context=here))
    first = build.id - MANY
    assert [first, build.id] == database.read(building)
    database.transact(partial(starting.pick, context=here))
    assert [first, build.id] == database.read(building)


def test_texts_that_nobody_understands_any_more_hold_up_nobody(
    database: Database, here: context.Context
) -> None:
    build = database.transact(partial(last, pipeline="old", pipeline_text=OLD))
    database.transact(partial(starting.pick, context=here))
    assert [build.id] == database.read(building)


def test_the_oldest_go_first(database: Database, here: context.Context) -> None:
    made = [database.transact(push).id for _ in range(5)]
    database.transact(partial(starting.pick, context=here))
    assert made[:3] == database.read(building)
