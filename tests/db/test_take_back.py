"""A thaw of the restore guard takes back what people had said before it froze everything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from leeroy.db import builds, chronicle, deploys
from leeroy.db.engine import Database
from leeroy.model import Deploy
from leeroy.operations import freezing, stopping
from leeroy.terms import State
from leeroy.verdict import gather, words
from tests.db.story import pending, push
from tests.db.test_guard import a_host, arrive, knows_more


def a_waiting_deploy(database: Database, tag: str) -> int:
    return database.transact(lambda conn: pending(conn, push(conn, branch=None, tag=tag))).id


def waiting(database: Database, build: int) -> Deploy:
    found = database.read(lambda conn: deploys.get(conn, build, "staging"))
    assert found is not None
    return found


def test_what_was_said_before_counts_no_more(database: Database, tmp_path: Path) -> None:
    """An approval and `--now` of the lost time; what is said after a look at it still counts."""
    host = a_host(tmp_path, "one")
    assert arrive(database, host) is None and arrive(database, host) is None
    before, after, hurried, ended = (
        a_waiting_deploy(database, tag) for tag in ("a", "b", "c", "d")
    )
    database.transact(lambda conn: builds.change(conn, hurried, without_grace=True))
    database.transact(lambda conn: builds.change(conn, ended, without_grace=True))
    database.transact(lambda conn: stopping.cancel(conn, host, "ann", id=ended))
    database.transact(lambda conn: stopping.approve(conn, host, "ann", id=before))
    knows_more(host)
    assert arrive(database, host) is not None
    database.transact(lambda conn: stopping.approve(conn, host, "bob", id=after))
    answer = database.transact(lambda conn: freezing.thaw(conn, host, "bob", which="*"))
    assert "2 that had been approved before, or asked for with --now" in answer["answer"]
    for build in (before, hurried):
        found = waiting(database, build)
        assert (found.approved_by, found.announced_at) == (None, None), "it is announced anew"
    assert waiting(database, after).approved_by == "bob"

    def hurry(build: int) -> bool | None:
        found = database.read(lambda conn: builds.get(conn, build))
        return found and found.without_grace

    assert hurry(hurried) is False
    assert hurry(ended) is True, "what is over stays as it was"
    said = [line.said or "" for line in database.read(lambda conn: chronicle.of(conn, before))]
    assert any("ann approved it before the database was put back" in line for line in said)
    build = database.read(lambda conn: builds.get(conn, before))
    assert build is not None and build.state is State.deploy_pending
    shown = words.text(database.read(lambda conn: gather.verdict(conn, build)))
    assert "waits (approval): ann approved it before the database was put back" in shown


def test_an_ordinary_thaw_takes_nothing_back(database: Database, tmp_path: Path) -> None:
    """The people who froze and approved are of the same time."""
    host = a_host(tmp_path, "one")
    assert arrive(database, host) is None
    build = a_waiting_deploy(database, "a")
    database.transact(lambda conn: stopping.approve(conn, host, "ann", id=build))
    database.transact(lambda conn: freezing.freeze(conn, host, "ann", which="*"))
    database.transact(lambda conn: freezing.thaw(conn, host, "ann", which="*"))
    found = waiting(database, build)
    assert found.approved_by == "ann" and found.announced_at is not None
    assert found.approved_at is not None and found.approved_at < datetime.now(UTC)
