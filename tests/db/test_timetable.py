"""A build for each moment of a schedule, once: over restarts, hosts and clocks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from leeroy import config, context, shelf
from leeroy.clock import Clock
from leeroy.db import builds
from leeroy.db.engine import Database
from leeroy.scheduler import timetable

TEXT = """
repository = "/srv/shop.git"
secret = "env:HOOK"
schedule = ["30 2 * * * Europe/Berlin", "0 12 * * * UTC"]
[[test]]
name = "unit"
run = "true"
"""
START = datetime(2026, 3, 28, 20, tzinfo=UTC)  # the evening before the clock leaps


class Host:
    """One host with a clock of its own."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.now = database, START
        folder.mkdir()
        (folder / "leeroy.toml").write_text("")
        loaded = config.load(str(folder / "leeroy.toml"), {})
        loaded.data.mkdir()
        clock = Clock(lambda: self.now, lambda: self.now.timestamp())
        self.context = context.make(loaded, clock, {}, new=True)
        self.timetable = timetable.Timetable(database, self.context)

    def pipelines(self, **texts: str) -> None:
        found = [shelf.File(name, text, None) for name, text in texts.items()]
        self.database.transact(partial(shelf.sync, context=self.context, found=found))

    def count(self) -> int:
        return len(self.database.read(lambda conn: builds.latest(conn, limit=1000)))

    def until(self, moment: datetime) -> int:
        """How many builds there are then, looking whenever it asks to."""
        while self.now < moment:
            pause = self.timetable.look()
            assert 0 <= pause <= timetable.LOOK_S
            self.now = min(self.now + timedelta(minutes=10), moment)
        self.timetable.look()
        return self.count()


@pytest.fixture
def host(database: Database, tmp_path: Path) -> Host:
    made = Host(database, tmp_path / "one")
    made.pipelines(shop=TEXT)
    made.timetable.look()
    return made


def test_once_each_time_also_in_the_night_of_the_leap(host: Host) -> None:
    """02:30 does not exist: it comes at 03:00, and once; then noon."""
    assert 0 == host.count()
    assert 0 == host.until(datetime(2026, 3, 29, 0, 59, tzinfo=UTC))
    assert 1 == host.until(datetime(2026, 3, 29, 1, 0, tzinfo=UTC))
    assert 1 == host.until(datetime(2026, 3, 29, 11, 59, tzinfo=UTC))
    assert 2 == host.until(datetime(2026, 3, 29, 12, 0, tzinfo=UTC))
    found = host.database.read(lambda conn: builds.latest(conn))
    assert {"schedule"} == {build.trigger for build in found}
    event = host.database.read(lambda conn: builds.event(conn, found[-1].id, 1))
    assert event is not None
    assert ("schedule", "30 2 * * * Europe/Berlin: Sun 2026-03-29 03:00 CEST") == (
        event.actor, event.reason,
    )  # fmt: skip


def test_what_was_missed_is_made_up_for_once(host: Host) -> None:
    """Two days without a server: one build for each schedule, not two; a day is the limit."""
    host.now += timedelta(days=2)
    host.timetable.look()
    assert 2 == host.count()
    host.timetable.look()
    assert 2 == host.count()
    weekly = TEXT.replace('"30 2 * * * Europe/Berlin", "0 12 * * * UTC"', '"0 0 * * 1 UTC"')
    host.pipelines(shop=weekly)
    host.timetable.look()
    host.now += timedelta(days=13)  # a Sunday, the last Monday long ago
    host.timetable.look()
    assert 2 == host.count()


def test_a_clock_that_is_set_neither_doubles_nor_loses(host: Host) -> None:
    """Forward over the moment, back before it, and over it again: one build."""
    moment = datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert 1 == host.until(moment + timedelta(minutes=20))
    host.now = moment - timedelta(minutes=40)
    assert 1 == host.until(moment + timedelta(minutes=30))
    host.now = datetime(2036, 1, 1, tzinfo=UTC)  # years ahead, by mistake
    host.timetable.look()
    host.now = datetime(2026, 3, 30, 6, tzinfo=UTC)
    host.timetable.look()
    before = host.count()
    assert before + 1 == host.until(datetime(2026, 3, 30, 12, tzinfo=UTC))


def test_a_new_schedule_starts_with_its_next_moment(host: Host) -> None:
    """An edit brings nothing back; a pipeline without one is left alone."""
    host.now = datetime(2026, 3, 29, 12, 30, tzinfo=UTC)
    host.timetable.look()
    before = host.count()
    host.pipelines(shop=TEXT.replace("0 12", "15 12"))
    host.timetable.look()
    assert before == host.until(datetime(2026, 3, 29, 20, tzinfo=UTC))
    host.pipelines()
    assert before == host.until(datetime(2026, 3, 31, 20, tzinfo=UTC))


def test_two_hosts_make_one_build(host: Host, tmp_path: Path) -> None:
    """Both look at the same moment, again and again."""
    other = Host(host.database, tmp_path / "two")
    for day in range(10):
        host.now = other.now = datetime(2026, 4, 1 + day, 12, tzinfo=UTC)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda h: h.timetable.look(), [host, other] * 4))
    noon = [b for b in host.database.read(lambda c: builds.latest(c, limit=99)) if b.id]
    assert 20 == len(noon)
