"""The list of what a build left, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from leeroy.db import artifacts, builds
from leeroy.db.artifacts import Artifact
from leeroy.db.engine import Database
from leeroy.model import Move
from tests.db import story

A, B, C = (Artifact(path, 3, path[0] * 64) for path in ("Z/one", "a/two", "é"))


def test_what_steps_left_is_listed_and_goes_with_the_build(database: Database) -> None:
    """A later step's file replaces an earlier one's; the order is the same everywhere."""

    def work(conn: Connection) -> None:
        build, other = story.push(conn), story.push(conn)
        artifacts.keep(conn, other.id, [A])
        artifacts.keep(conn, build.id, [B, A])
        newer = Artifact(B.path, 2**40, "f" * 64)
        artifacts.keep(conn, build.id, [newer, C])
        assert (A, newer, C) == artifacts.of(conn, build.id)
        assert newer == artifacts.get(conn, build.id, B.path)
        for path in ("b", "", "a/two\0"):
            assert artifacts.get(conn, build.id, path) is None
        artifacts.keep(conn, build.id, [])
        builds.delete(conn, build.id)
        assert () == artifacts.of(conn, build.id)
        assert (A,) == artifacts.of(conn, other.id)
        artifacts.forget(conn, other.id)
        assert () == artifacts.of(conn, other.id)

    database.transact(work)


def test_the_longest_path_is_stored(database: Database) -> None:
    """PostgreSQL's index takes what the copy lets through, also if it cannot be compressed."""
    letters = "".join(chr(0x4E00 + n * n * 31 % 20_000) for n in range(333))
    assert 999 == len(letters.encode())
    long = Artifact(letters, 0, "0" * 64)

    def work(conn: Connection) -> None:
        build = story.push(conn)
        artifacts.keep(conn, build.id, [long])
        assert (long,) == artifacts.of(conn, build.id)

    database.transact(work)


def test_there_is_no_list_without_its_build(database: Database) -> None:
    """The database itself refuses it."""
    with pytest.raises(IntegrityError):
        database.transact(lambda conn: artifacts.keep(conn, 4711, [A]))


def test_a_rollback_has_those_of_the_build_it_puts_back(database: Database) -> None:
    """Also one that puts back a rollback."""

    def work(conn: Connection) -> None:
        first = story.push(conn)
        story.make(conn, first, Move.cancel)
        back = story.push(conn, deploy_to="staging", source=first.id, trigger="deploy")
        again = story.push(conn, deploy_to="staging", source=back.id, trigger="deploy")
        retried = story.push(conn, source=first.id, trigger="retry")
        owners = [artifacts.owner(conn, build) for build in (first, back, again, retried)]
        assert [first.id, first.id, first.id, retried.id] == owners

    database.transact(work)
