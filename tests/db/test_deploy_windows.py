"""A deploy waits for its window: announced when it opens, with the whole grace period."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from leeroy import config, context, gates, letters, onward
from leeroy.clock import Clock
from leeroy.context import Context
from leeroy.db import builds, deploys, outbox
from leeroy.db.engine import Database
from leeroy.model import Build
from leeroy.operations import freezing, stopping
from leeroy.scheduler import waiting
from leeroy.scheduler.acts import Act, Launch, StartWatch, WatchKey
from leeroy.terms import Move, State
from tests.db.story import HOUSE, SHOP, START, make, passed, push

WINDOW = SHOP.replace(
    'environment = "staging"',
    'environment = "staging"\nwindows = ["Fri 09:00-16:00 Europe/Berlin"]',
)
FRIDAY = datetime(2026, 1, 2, 8, tzinfo=UTC)  # START is a Thursday's noon; 09:00 in Berlin


class Watcher:
    """A server that looks at one build whenever it is told to, by a clock of our own."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.now, self.mono = START, 0.0
        (folder / "leeroy.toml").write_text("")
        loaded = config.load(str(folder / "leeroy.toml"), {})
        loaded.data.mkdir()
        self.context = context.make(
            loaded, Clock(lambda: self.now, lambda: self.mono), {}, new=True
        )
        self.watches: dict[WatchKey, float] = {}

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.mono += seconds

    def until(self, moment: datetime) -> None:
        self.wait((moment - self.now).total_seconds())

    def look(self, build: Build, name: str = "me", away_s: float = 0.0) -> tuple[Build, list[Act]]:
        """What one turn of the loop does with it, if it is due."""
        seen: Mapping[WatchKey, float] = {k: self.mono - at for k, at in self.watches.items()}
        watching = waiting.Watching(name, away_s, seen, None, frozenset())

        def work(conn: Connection) -> tuple[Build, list[Act]]:
            acts = waiting.look(conn, self.context, build.id, watching)
            found = builds.get(conn, build.id)
            assert found is not None
            return found, acts

        found, acts = self.database.transact(work)
        for act in acts:
            if isinstance(act, StartWatch):
                self.watches[act.key] = self.mono
        return found, acts

    def hear(self, build: Build) -> None:
        """Somebody was told of what is announced now."""

        def work(conn: Connection) -> None:
            for notice, _ in outbox.of(conn, build.id):
                if notice.urgent and notice.state == "waiting":
                    outbox.accept(conn, notice.id, "ops", self.now)

        self.database.transact(work)

    def why(self, build: Build) -> str:
        def work(conn: Connection) -> str:
            found = builds.get(conn, build.id)
            assert found is not None
            facts = gates.facts(conn, found, onward.plan_of(found), now=self.now)
            wait = gates.closed(facts)
            return "" if wait is None else wait.sentence

        return self.database.read(work)


@pytest.fixture
def watcher(database: Database, tmp_path: Path) -> Watcher:
    return Watcher(database, tmp_path)


def announced(conn: Connection, **columns: object) -> Build:
    """A build whose deploy waits for its window since Thursday noon."""
    build = passed(conn, push(conn, pipeline_text=WINDOW, **columns))
    return onward.onward(conn, build, now=START, actor="scheduler@here", house=HOUSE)


def moves(database: Database, build: Build) -> list[str]:
    found = database.read(lambda conn: builds.history(conn, build.id))
    return [str(event.move) for event in found]


def test_it_is_announced_again_when_its_window_opens(watcher: Watcher) -> None:
    """Told on Thursday, told again on Friday morning; then the grace period runs in full."""
    build = watcher.database.transact(announced)
    watcher.hear(build)
    build, acts = watcher.look(build)
    assert State.deploy_pending is build.state
    assert not any(isinstance(act, StartWatch | Launch) for act in acts)
    assert FRIDAY == build.due_at
    assert "its window opens Fri 2026-01-02 09:00 CET" == watcher.why(build)

    watcher.until(FRIDAY)
    build, _ = watcher.look(build)
    assert ["announce", "announce"] == moves(watcher.database, build)[-2:]
    watcher.hear(build)
    build, acts = watcher.look(build)
    assert any(isinstance(act, StartWatch) for act in acts)
    watcher.wait(29)
    assert State.deploy_pending is watcher.look(build)[0].state
    watcher.wait(1.1)
    build, acts = watcher.look(build)
    assert State.deploying is build.state
    assert any(isinstance(act, Launch) for act in acts)


def test_a_window_that_closes_in_the_grace_period_stays_closed(watcher: Watcher) -> None:
    """15:59:50 and thirty seconds are 16:00:20: too late, until next Friday."""
    watcher.until(FRIDAY + timedelta(hours=6, minutes=59, seconds=50))
    build = watcher.database.transact(
        lambda conn: onward.onward(
            conn,
            passed(conn, push(conn, pipeline_text=WINDOW)),
            now=watcher.now,
            actor="scheduler@here",
            house=HOUSE,
        )
    )
    watcher.hear(build)
    build, acts = watcher.look(build)
    assert not any(isinstance(act, StartWatch) for act in acts), "it would end too late"
    assert "closes before the grace period is over; its window opens Fri" in watcher.why(build)
    watcher.wait(31)
    build, _ = watcher.look(build)
    assert State.deploy_pending is build.state
    assert FRIDAY + timedelta(days=7) == build.due_at
    watcher.until(FRIDAY + timedelta(days=7))
    assert "announce" == moves(watcher.database, watcher.look(build)[0])[-1]
    assert State.deploy_pending is watcher.look(build)[0].state


def test_only_the_newest_goes_when_it_opens(watcher: Watcher) -> None:
    """Whoever waited through the night gives way to the build that came last."""
    older = watcher.database.transact(announced)
    newer = watcher.database.transact(announced)
    watcher.until(FRIDAY)
    found = watcher.database.read(lambda conn: builds.get(conn, older.id))
    assert found is not None and State.superseded is found.state
    assert State.deploy_pending is watcher.look(newer)[0].state


def test_tags_go_one_after_the_other_when_it_opens(watcher: Watcher) -> None:
    """No tag takes another's place: the second waits for the first, not for the window."""
    first = watcher.database.transact(lambda conn: announced(conn, branch=None, tag="v1"))
    second = watcher.database.transact(lambda conn: announced(conn, branch=None, tag="v2"))
    watcher.until(FRIDAY)
    for build in (first, second):
        watcher.look(build)
        watcher.hear(build)
    assert f"the older tag build {first.id} goes first" == watcher.why(second)
    watcher.look(first)
    watcher.wait(30.1)
    assert State.deploying is watcher.look(first)[0].state
    assert State.deploy_pending is watcher.look(second)[0].state


def test_approval_lifts_no_window_but_a_rollback_needs_none(watcher: Watcher) -> None:
    """Approve lifts grace and hold; what a person deploys by hand cannot wait for Friday."""
    build = watcher.database.transact(announced)

    def approve(conn: Connection) -> str:
        told = stopping.approve(conn, watcher.context, "ada", id=build.id, environment="staging")
        return str(told["answer"])

    assert watcher.database.transact(approve) == (
        f"the deploy of build {build.id} to staging is approved, and still waits: "
        "its window opens Fri 2026-01-02 09:00 CET"
    )
    assert State.deploy_pending is watcher.look(build)[0].state
    assert "window opens" in watcher.why(build)

    def by_hand(conn: Connection) -> Build:
        made = push(conn, pipeline_text=WINDOW, deploy_to="staging", without_grace=True)
        return onward.onward(conn, passed(conn, made), now=watcher.now, actor="ada", house=HOUSE)

    rollback = watcher.database.transact(by_hand)
    assert State.deploying is watcher.look(rollback)[0].state


def test_the_gate_is_asked_inside_the_move(watcher: Watcher) -> None:
    """A freeze and the window are both asked again in the transaction of the deploy."""
    watcher.until(FRIDAY)
    build = watcher.database.transact(announced)
    watcher.look(build)
    watcher.hear(build)
    watcher.look(build)
    watcher.wait(31)
    context_: Context = watcher.context
    watcher.database.transact(
        lambda conn: freezing.freeze(conn, context_, "ada", which="shop/staging")
    )
    assert State.deploy_pending is watcher.look(build)[0].state


def test_the_message_says_when_it_opens(watcher: Watcher) -> None:
    """Not "not before now and thirty seconds", when it opens tomorrow."""
    build = watcher.database.transact(announced)
    box = letters.DatabaseOutbox(watcher.database, watcher.context, b"k" * 32)

    def work(conn: Connection) -> None:
        notice = next(n for n, _ in outbox.of(conn, build.id) if n.urgent)
        news = box._news(conn, notice)
        assert FRIDAY == news.opens_at
        assert "its window opens Fri 2026-01-02 09:00 CET" == news.waiting_for

    watcher.database.read(work)


def test_a_hold_stays_a_hold_when_the_window_opens(watcher: Watcher) -> None:
    """Opening lifts nothing that a person said."""
    build = watcher.database.transact(announced)
    watcher.database.transact(lambda conn: make(conn, build, Move.hold, actor="ada"))
    watcher.until(FRIDAY)
    assert "hold" == moves(watcher.database, watcher.look(build)[0])[-1]
    found = watcher.database.read(lambda conn: deploys.get(conn, build.id, "staging"))
    assert found is not None and found.held_at is not None


def test_a_restart_outside_the_window_holds_nothing(watcher: Watcher) -> None:
    """Nothing is watched then, so however long nobody watched, it is told once: when it opens."""
    build = watcher.database.transact(announced)
    watcher.hear(build)
    watcher.look(build)
    watcher.wait(7200)
    watcher.database.transact(lambda conn: builds.rouse(conn, watcher.now))
    watcher.look(build, "another process", away_s=7200.0)
    told = moves(watcher.database, build)
    assert ("hold" not in told, 1) == (True, told.count("announce"))
    watcher.until(FRIDAY)
    build, _ = watcher.look(build, "another process", away_s=7200.0)
    assert ("announce", State.deploy_pending) == (moves(watcher.database, build)[-1], build.state)


def test_a_gate_that_closes_takes_the_time_of_the_start_with_it(watcher: Watcher) -> None:
    """Nobody reads of a moment that has passed: a freeze in the grace period takes it away."""
    watcher.until(FRIDAY)
    build = watcher.database.transact(announced)
    watcher.look(build)
    watcher.hear(build)
    watcher.look(build)
    found = watcher.database.read(lambda conn: deploys.get(conn, build.id, "staging"))
    assert found is not None and found.deploy_at is not None
    watcher.database.transact(
        lambda conn: freezing.freeze(conn, watcher.context, "ada", which="staging")
    )
    watcher.look(build)
    found = watcher.database.read(lambda conn: deploys.get(conn, build.id, "staging"))
    assert found is not None and found.deploy_at is None
