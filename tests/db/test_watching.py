"""Whose grace period it is: from the moment somebody was told, by no clock that can be set."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection

from leeroy import config, context, gates
from leeroy.clock import Clock
from leeroy.db import builds, chronicle, deploys, outbox
from leeroy.db.engine import Database
from leeroy.model import Build, Note
from leeroy.scheduler import recovering, waiting
from leeroy.scheduler.acts import Act, DropWatch, Launch, StartTrying, StartWatch
from leeroy.terms import Kind
from tests.db import story
from tests.db.story import START, at

UNHEARD = story.SHOP.replace('tags = ["*"]', 'tags = ["*"]\nunheard = "deploy"')


def look(
    database: Database,
    folder: Path,
    build: Build,
    seconds: float,
    watched: dict[waiting.WatchKey, float],
    tried: dict[waiting.TryKey, float] | None = None,
    name: str = "me",
    away_s: float = 0.0,
) -> list[Act]:
    """What a server decides that has watched so long, and for so long told nobody."""
    loaded = config.load(None, {"LEEROY_DATA": str(folder)})
    made = context.make(loaded, Clock(lambda: at(seconds), lambda: 0.0), {}, new=True)
    seen = waiting.Watching(name, away_s, watched, None, frozenset(), tried or {})

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


def announced(database: Database, unheard: str = "deploy") -> tuple[Build, waiting.TryKey]:
    """A deploy that nobody has been told of."""
    text = UNHEARD if unheard == "deploy" else story.SHOP
    build = database.transact(lambda c: story.pending(c, story.push(c, pipeline_text=text)))
    return build, (build.id, "staging", build.version)


def moves(database: Database, build: Build) -> list[str]:
    """What became of it."""
    return [str(event.move) for event in database.read(lambda c: builds.history(c, build.id))]


def opened(database: Database, build: Build) -> Note:
    """The note that every gate is open."""
    note = database.read(lambda c: chronicle.last(c, build.id, Kind.gate))
    assert note is not None and "open" == note.who
    return note


def test_told_in_the_middle_of_an_unheard_period(database: Database, tmp_path: Path) -> None:
    """`unheard = "deploy"` lets it go on; who is told a second before the end has the full period."""
    build, key = announced(database)
    late, tried = gates.UNHEARD_S + 1, {key: gates.UNHEARD_S + 1}
    [begun] = look(database, tmp_path, build, late, {}, tried)
    assert isinstance(begun, StartWatch)
    accept(database, late + 29)
    [anew] = look(database, tmp_path, build, late + 30, {begun.key: 30.0}, tried)
    assert isinstance(anew, StartWatch) and anew.key != begun.key
    acts = look(database, tmp_path, build, late + 60, {begun.key: 60.0, anew.key: 30.0}, tried)
    assert [True] == [isinstance(act, Launch) for act in acts][-1:]
    assert "watched to its end" in (opened(database, build).said or "")


@pytest.mark.parametrize("unheard", ["hold", "deploy"])
def test_it_is_really_tried_to_tell_somebody(
    database: Database, tmp_path: Path, unheard: str
) -> None:
    """Six minutes by the wall clock, all but a second of them away: nobody was tried in vain."""
    build, key = announced(database, unheard)
    assert StartTrying(key) in look(database, tmp_path, build, 0, {})
    # the server was down, the machine slept, or the database was away: all that was counted is gone
    acts = look(database, tmp_path, build, 360, {}, name="another", away_s=359.0)
    assert StartTrying(key) in acts
    assert not any(isinstance(act, Launch | StartWatch) for act in acts)
    # the process was stopped: its clock stood still
    acts = look(database, tmp_path, build, 720, {}, {key: 299.0}, name="another")
    assert [] == [act for act in acts if not isinstance(act, DropWatch)]
    assert ["announce"] == [
        m for m in moves(database, build) if m in ("announce", "hold", "deploy")
    ]
    acts = look(database, tmp_path, build, 722, {}, {key: 300.0}, name="another")
    if unheard == "hold":
        assert "hold" == moves(database, build)[-1]
        return
    [begun] = acts
    assert isinstance(begun, StartWatch)
    look(database, tmp_path, build, 760, {begun.key: 30.5}, {key: 338.0}, name="another")
    assert "deploy" == moves(database, build)[-1]
    note = opened(database, build)
    assert 30_500_000 == note.number
    assert "nobody could be told for 5 minutes" in (note.said or "")
    assert "watched to its end" not in (note.said or "")


@pytest.mark.parametrize("unheard", ["hold", "deploy"])
def test_what_nobody_heard_is_held_when_it_is_stale(
    database: Database, tmp_path: Path, unheard: str
) -> None:
    """Two hours without a server: nobody is surprised by what was announced to nobody then."""
    build, _ = announced(database, unheard)
    look(database, tmp_path, build, 0, {})
    look(database, tmp_path, build, 7200, {}, name="another", away_s=7200.0)
    assert "hold" == moves(database, build)[-1]
    held = database.read(lambda c: deploys.get(c, build.id, "staging"))
    assert held is not None and "stale" in (held.held_reason or "")


def test_people_are_shown_when_a_period_that_was_not_all_watched_ends(
    database: Database, tmp_path: Path
) -> None:
    """The server stood still for ten seconds of it: it ends ten seconds later, and says so."""
    build, _ = announced(database)
    accept(database, 1)
    [begun] = look(database, tmp_path, build, 1, {})
    assert isinstance(begun, StartWatch)
    assert [] == look(database, tmp_path, build, 31, {begun.key: 20.0})
    deploy = database.read(lambda c: deploys.get(c, build.id, "staging"))
    assert deploy is not None and at(41) == deploy.deploy_at


def test_a_clock_set_forward_shortens_no_grace_period(database: Database, tmp_path: Path) -> None:
    """An hour by the wall clock, a second by the one that is never set: that second counts."""
    build = database.transact(lambda c: story.pending(c, story.push(c)))
    accept(database, 1)
    [begun] = look(database, tmp_path, build, 1, {})
    assert isinstance(begun, StartWatch)
    assert [] == look(database, tmp_path, build, 3602, {begun.key: 1.0})
    acts = look(database, tmp_path, build, 3631, {begun.key: 30.0})
    assert [True] == [isinstance(act, Launch) for act in acts][-1:]


def test_a_clock_set_forward_makes_nobody_unheard(database: Database, tmp_path: Path) -> None:
    """Five minutes are five minutes, by a clock that nobody sets."""
    build, key = announced(database, "hold")
    look(database, tmp_path, build, 0, {})
    database.transact(lambda c: recovering.clock_set(c, at(3601)))
    look(database, tmp_path, build, 3601, {}, {key: 1.0})
    assert "announce" == moves(database, build)[-1]


def test_a_clock_set_back_delays_no_notice(database: Database) -> None:
    """What was to be tried an hour from now is tried at once."""
    database.transact(lambda c: story.push(c))
    assert [] == database.transact(lambda c: outbox.claim(c, at(-3600), 50, "me"))
    database.transact(lambda c: recovering.clock_set(c, at(-3600)))
    assert database.transact(lambda c: outbox.claim(c, at(-3600), 50, "me"))
