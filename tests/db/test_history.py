"""The schema itself makes an illegal history impossible, on both databases."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from leeroy.db import builds
from leeroy.db.engine import Database
from leeroy.errors import IllegalMove, Overtaken, Unavailable
from leeroy.terms import Move, State
from tests.db import story


def refused(database: Database, statement: str) -> None:
    """Raw SQL, by somebody who knows the tables, does not get through."""
    with pytest.raises((DBAPIError, Unavailable)):
        database.transact(lambda conn: conn.execute(sa.text(statement)))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE builds SET state = 'deploying', environment = 'x', version = 2",
        "UPDATE builds SET state = 'deploying', environment = 'x'",
        "UPDATE builds SET version = 7",
        "UPDATE builds SET state = 'flying'",
        "UPDATE builds SET finished_at = 1",
        "UPDATE events SET actor = 'nobody'",
        "DELETE FROM events",
        "UPDATE legal_moves SET to_state = 'done' WHERE move = 'start'",
        "INSERT INTO legal_moves VALUES ('start', 'queued', 'deploying')",
        "DELETE FROM legal_moves",
        "INSERT INTO events VALUES (1, 2, 1, 'deploy', 'queued', 'deploying', NULL, 'x', NULL, 1)",
        "INSERT INTO events VALUES (1, 2, 1, 'start', 'passed', 'building', NULL, 'x', NULL, 1)",
        "INSERT INTO events VALUES (1, 3, 2, 'start', 'queued', 'building', NULL, 'x', NULL, 1)",
        "INSERT INTO events VALUES (1, 3, 1, 'start', 'queued', 'building', NULL, 'x', NULL, 1)",
    ],
)
def test_raw_sql_cannot_make_an_illegal_history(database: Database, statement: str) -> None:
    """No jump into a state, no event rewritten, forged or left out."""
    build = database.transact(story.push)
    assert 1 == build.id
    before = database.read(lambda conn: (builds.get(conn, 1), builds.history(conn, 1)))
    refused(database, statement)
    assert before == database.read(lambda conn: (builds.get(conn, 1), builds.history(conn, 1)))


def test_two_builds_never_hold_one_environment(database: Database) -> None:
    """Not even by two legal moves whose callers forgot to ask the gates."""
    database.transact(lambda conn: story.deploying(conn, story.push(conn, tag="1", branch=None)))
    other = database.transact(lambda c: story.pending(c, story.push(c, tag="2", branch=None)))
    assert State.deploy_pending is other.state
    with pytest.raises(DBAPIError):
        database.transact(lambda conn: story.make(conn, other, Move.deploy))
    assert other == database.read(lambda conn: builds.get(conn, other.id))


def test_a_deleted_build_takes_its_history_along(database: Database) -> None:
    """Retention removes a build as a whole; that is the only way an event goes."""
    build = database.transact(story.push)
    database.transact(lambda conn: builds.delete(conn, build.id))
    assert [] == database.read(lambda conn: builds.history(conn, build.id))


def test_a_move_the_table_does_not_have(database: Database) -> None:
    """It is refused with the moves that are possible, and nothing is written."""
    build = database.transact(story.push)
    with pytest.raises(IllegalMove, match="is queued, so it cannot deploy; it may: start"):
        database.transact(lambda conn: story.make(conn, build, Move.deploy, environment="x"))
    assert build == database.read(lambda conn: builds.get(conn, build.id))


def test_a_lost_race_changes_nothing(database: Database) -> None:
    """Whoever holds an old picture of the build is told so."""
    build = database.transact(story.push)
    database.transact(lambda conn: story.make(conn, build, Move.cancel))
    with pytest.raises(Overtaken):
        database.transact(lambda conn: story.make(conn, build, Move.start, changes={"slot": 1}))
    history = database.read(lambda conn: builds.history(conn, build.id))
    assert [Move.accept, Move.cancel] == [event.move for event in history]


class Died(Exception):
    """Stands for the process dying between two statements."""


MOVES: dict[str, tuple[Callable[[Connection], object], Move]] = {
    "start": (story.push, Move.start),
    "cancel": (lambda c: story.pending(c, story.push(c)), Move.cancel),
    "deploy": (lambda c: story.pending(c, story.push(c)), Move.deploy),
    "announce": (lambda c: story.deploying(c, story.push(c)), Move.announce),
    "finish": (lambda c: story.deploying(c, story.push(c)), Move.finish),
    "lose": (lambda c: story.deploying(c, story.push(c)), Move.lose),
    "hold": (lambda c: story.pending(c, story.push(c)), Move.hold),
}


@pytest.mark.parametrize("name", MOVES)
def test_dying_at_any_statement_leaves_the_old_build_or_the_new(
    database: Database, name: str
) -> None:
    """A move's row, event, notices and environment change together or not at all."""
    prepare, move = MOVES[name]
    build = database.transact(prepare)
    tables = ("builds", "events", "outbox", "deploys", "environments")

    def everything(conn: Connection) -> list[object]:
        return [
            sorted(map(repr, conn.execute(sa.text(f"SELECT * FROM {table}")).fetchall()))
            for table in tables
        ]

    before = database.read(everything)
    options = {"environment": "production"} if move is Move.announce else {}
    options |= {"changes": {"slot": 1}} if move is Move.start else {}
    survived = 0
    for at in range(1, 40):
        count = 0

        def die(conn: Connection, clause: object, *_: object, at: int = at) -> None:
            nonlocal count
            count += 1
            if count == at:
                raise Died

        def work(conn: Connection, die: Callable[..., None] = die) -> object:
            sa.event.listen(conn, "before_execute", die)
            try:
                return story.make(conn, build, move, **options)  # type: ignore[arg-type]
            finally:
                sa.event.remove(conn, "before_execute", die)

        try:
            database.transact(work)
        except Died:
            assert before == database.read(everything), f"a trace after statement {at}"
            continue
        survived = at
        break
    assert survived > 3, "the deaths were not before the end of the move"
    assert before != database.read(everything)


def test_a_number_is_never_given_twice(database: Database) -> None:
    """Not even when the newest build was removed: links and messages name it for ever."""
    build = database.transact(story.push)
    database.transact(lambda conn: builds.delete(conn, build.id))
    assert build.id < database.transact(story.push).id
