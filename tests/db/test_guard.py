"""Several hosts and one database: who knows more than it, when a thaw lasts, and who is told."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from leeroy import config, guard
from leeroy.clock import Clock
from leeroy.context import Context, make
from leeroy.db import lineage
from leeroy.db.alarm_tables import alarms
from leeroy.db.engine import Database
from leeroy.operations import freezing
from leeroy.pipelines import Target
from tests.conftest import _make, _number

BOOT = "a boot"


@pytest.fixture
def shared(postgres: str) -> Iterator[Database]:
    """A database for several hosts: SQLite has one."""
    opened = Database(_make(postgres, f"guard{os.getpid()}_{next(_number)}"))
    yield opened
    opened.close()


def a_host(folder: Path, name: str) -> Context:
    """A host with a data folder of its own, and somebody in the house who is told."""
    data = folder / name
    data.mkdir()
    settings = config.load(None, {"LEEROY_DATA": str(data)})
    told = (Target(to="env:HOUSE", on=None), Target(to="author", on=None))
    clock = Clock(lambda: datetime.now(UTC), time.monotonic)
    return make(replace(settings, notify=told), clock, {}, new=True)


def arrive(database: Database, host: Context) -> str | None:
    """Why the host doubts the database when it starts."""
    return guard.arrive(database, host, BOOT)


def thaw(database: Database, host: Context) -> None:
    database.transact(lambda conn: freezing.thaw(conn, host, "ann", which="*"))


def knows_more(host: Context, by: int = 10) -> None:
    """The host has seen commits that the database has lost."""
    assert host.journal is not None
    kept = host.journal.read()
    assert kept is not None
    host.journal.adopt(replace(kept, mark=kept.mark + by))


def told(database: Database) -> list[str]:
    def work(conn: Connection) -> list[str]:
        return list(conn.execute(select(alarms.c.target).order_by(alarms.c.id)).scalars())

    return database.read(work)


def test_a_thaw_lasts_on_every_host_that_was_heard(shared: Database, tmp_path: Path) -> None:
    """One host froze everything; the others, in good standing, do not doubt the era that follows."""
    one, two, three = (a_host(tmp_path, name) for name in ("one", "two", "three"))
    for host in (one, two, three):
        assert arrive(shared, host) is None
        assert guard.beat(shared, host) is None  # its journal is of this era, and known to be
    knows_more(one)
    knows_more(three)
    assert "older than this host knows it" in (arrive(shared, one) or "")
    assert ["env:HOUSE"] == told(shared), "once, and nobody who is nobody here"
    thaw(shared, one)
    for host in (one, two, one, two):
        assert guard.beat(shared, host) is None
    # The third was not there when a person looked, and it knows of what is lost.
    assert "not the one" in (arrive(shared, three) or "")
    assert ["env:HOUSE"] * 2 == told(shared)
    thaw(shared, three)
    for host in (one, two, three) * 2:
        assert guard.beat(shared, host) is None
    assert ["env:HOUSE"] * 2 == told(shared)


def test_two_who_doubt_it_are_told_of_once(shared: Database, tmp_path: Path) -> None:
    """Everything is frozen already: the second doubt is kept, and nobody is woken again."""
    one, two = a_host(tmp_path, "one"), a_host(tmp_path, "two")
    for host in (one, two):
        assert arrive(shared, host) is None
    for host in (one, two):
        knows_more(host)
        assert arrive(shared, host) is not None
    assert ["env:HOUSE"] == told(shared)
    thaw(shared, two)
    for host in (one, two) * 2:
        assert guard.beat(shared, host) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1.2.A.9", "1.2.A.9", True),
        ("1.2.A.9", "1.2.B.9", False),
        ("1.2.A.9", "1.3.A.9", False),
        ("1.2.-.9", "1.2.B.9", True),
        ("1.2.A.9", "1.2.-.-", True),
        ("1.2.-.-", "1.3.-.-", False),
        (None, None, True),
        (None, "1.2.A.9", False),
        ("1.2.A.9", None, False),
    ],
)
def test_what_is_not_known_contradicts_nothing(
    one: str | None, other: str | None, same: bool
) -> None:
    """A role that may not ask for a cluster or a timeline is not an alarm."""
    assert same is lineage.same(one, other)
