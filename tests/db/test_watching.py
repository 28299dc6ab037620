"""Whose grace period it is: from the moment somebody was told, by no clock that can be set."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from leeroy import config, context, gates
from leeroy.clock import Clock
from leeroy.db import builds, deploys, outbox
from leeroy.db.engine import Database
from leeroy.model import Build
from leeroy.scheduler import recovering, waiting
from leeroy.scheduler.acts import Act, Launch, StartWatch
from tests.db import story
from tests.db.story import START, at

UNHEARD = story.SHOP.replace('tags = ["*"]', 'tags = ["*"]\nunheard = "deploy"')


def look(
    database: Database,
    folder: Path,
    build: Build,
    seconds: float,
    watched: dict[waiting.WatchKey, float],
) -> list[Act]:
    """What a server decides that has watched so long."""
    loaded = config.load(None, {"LEEROY_DATA": str(folder)})
    made = context.make(loaded, Clock(lambda: at(seconds), lambda: 0.0), {}, new=True)
    seen = waiting.Watching("me", 0.0, watched, None, frozenset())

    def work(conn: Connection) -> list[Act]:
        builds.change(conn, build.id, due_at=START)
        return waiting.look(conn, made, build.id, seen)

    return database.transact(work)


def accept(database: Database, seconds: float) -> None:
    """Every target has the announcement."""

    def work(conn: Connection) -> None:
        for notice in outbox.claim(conn, at(seconds), 50, "me"):
            outbox.accept(conn, notice.id, "ops", at(seconds))

    database.transact(work)


def test_told_in_the_middle_of_an_unheard_period(database: Database, tmp_path: Path) -> None:
    """`unheard = "deploy"` lets it go on; who is told a second before the end has the full period."""
    build = database.transact(lambda c: story.pending(c, story.push(c, pipeline_text=UNHEARD)))
    late = gates.UNHEARD_S + 1
    [begun] = look(database, tmp_path, build, late, {})
    assert isinstance(begun, StartWatch)
    accept(database, late + 29)
    [anew] = look(database, tmp_path, build, late + 30, {begun.key: 30.0})
    assert isinstance(anew, StartWatch) and anew.key != begun.key
    acts = look(database, tmp_path, build, late + 60, {begun.key: 60.0, anew.key: 30.0})
    assert [True] == [isinstance(act, Launch) for act in acts][-1:]


def test_a_clock_set_forward_shortens_no_grace_period(database: Database, tmp_path: Path) -> None:
    """An hour by the wall clock, a second by the one that is never set: that second counts."""
    build = database.transact(lambda c: story.pending(c, story.push(c)))
    accept(database, 1)
    [begun] = look(database, tmp_path, build, 1, {})
    assert isinstance(begun, StartWatch)
    assert [] == look(database, tmp_path, build, 3602, {begun.key: 1.0})
    acts = look(database, tmp_path, build, 3631, {begun.key: 30.0})
    assert [True] == [isinstance(act, Launch) for act in acts][-1:]


def test_a_clock_set_forward_makes_nobody_unheard(database: Database) -> None:
    """Five minutes are five minutes: what was announced moves along with the clock."""
    build = database.transact(lambda c: story.pending(c, story.push(c)))
    database.transact(lambda c: recovering.clock_set(c, at(3601), 3600.0))
    moved = database.read(lambda c: deploys.get(c, build.id, "staging"))
    assert moved is not None and at(3600) == moved.announced_at


def test_a_clock_set_back_delays_no_notice(database: Database) -> None:
    """What was to be tried an hour from now is tried at once."""
    database.transact(lambda c: story.push(c))
    assert [] == database.transact(lambda c: outbox.claim(c, at(-3600), 50, "me"))
    database.transact(lambda c: recovering.clock_set(c, at(-3600), -3600.0))
    assert database.transact(lambda c: outbox.claim(c, at(-3600), 50, "me"))
