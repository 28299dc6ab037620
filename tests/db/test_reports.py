"""The rows of `reports`, on both databases: the newest wins, and nothing is told twice at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from leeroy.advance import accept, advance
from leeroy.db import builds, reports
from leeroy.db.engine import Database
from leeroy.model import Build, DeadToken
from leeroy.terms import Move

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEXT = """
repository = "https://github.com/acme/shop.git"
secret = "env:HOOK"
token = "env:TOKEN"
close_failing = true
[[test]]
name = "unit"
run = "true"
"""
SHA = "1" * 40


def a_build(database: Database, text: str = TEXT, **columns: object) -> Build:
    values = {"commit": SHA, "branch": "main"} | columns
    return database.transact(
        lambda conn: accept(
            conn, now=NOON, actor="test", house=(), pipeline="shop", pipeline_text=text,
            repository="https://github.com/acme/shop.git", trigger="push", **values,
        )
    )  # fmt: skip


def started(database: Database, build: Build) -> Build:
    return database.transact(
        lambda conn: advance(
            conn, build, Move.start, now=NOON, actor="test", house=(),
            changes={"slot": 1, "host": "h"},
        )
    )  # fmt: skip


def claim(database: Database, at: datetime = NOON, who: str = "me") -> list[reports.Report]:
    return database.transact(lambda conn: reports.claim(conn, at, who))


def test_a_move_and_its_report_are_one(database: Database) -> None:
    """One row per thing, which every move changes; without a token there is none."""
    build = a_build(database)
    started(database, build)
    [found] = database.read(lambda conn: reports.of(conn, build.id))
    assert ("status", SHA, "leeroy/shop", 2) == (
        found.kind,
        found.subject,
        found.context,
        found.seq,
    )
    bare = a_build(database, TEXT.replace('token = "env:TOKEN"\nclose_failing = true', ""))
    assert [] == database.read(lambda conn: reports.of(conn, bare.id))


def test_a_short_commit_is_told_later(database: Database) -> None:
    """Bitbucket tells 12 digits: no forge takes a status for those."""
    build = a_build(database, commit=SHA[:12], pull_request=7)
    found = database.read(lambda conn: reports.of(conn, build.id))
    assert ["comment"] == [report.kind for report in found]


def test_news_that_come_while_it_is_told_are_told_too(database: Database) -> None:
    """What was sent was true then; the row waits again at once."""
    build = a_build(database)
    [report] = claim(database)
    started(database, build)
    database.transact(lambda conn: reports.sent(conn, report, None, NOON))
    [again] = claim(database)
    assert (report.id, 2) == (again.id, again.seq)
    database.transact(lambda conn: reports.sent(conn, again, None, NOON))
    assert [] == claim(database)


def test_an_older_build_does_not_speak_for_a_commit(database: Database) -> None:
    """Two builds of one commit share a status; the newer one has the word."""
    old = a_build(database)
    new = a_build(database)
    started(database, old)
    [found] = database.read(lambda conn: reports.of(conn, new.id))
    assert 1 == found.seq
    assert [] == database.read(lambda conn: reports.of(conn, old.id))


def test_a_fork_never_speaks_for_a_commit_of_ours(database: Database) -> None:
    """A stranger may push our commit to a fork; what that build does is no news of ours."""
    ours = a_build(database)
    theirs = a_build(database, pull_request=7, fork=True)
    started(database, theirs)
    [found] = database.read(lambda conn: reports.of(conn, ours.id))
    assert ("leeroy/shop", 1) == (found.context, found.seq)
    assert ["comment"] == [
        one.kind for one in database.read(lambda conn: reports.of(conn, theirs.id))
    ]
    again = started(database, ours)
    [found] = database.read(lambda conn: reports.of(conn, ours.id))
    assert again.version == found.seq


def test_a_fork_speaks_for_its_own_commit_until_it_is_ours(database: Database) -> None:
    theirs = a_build(database, pull_request=7, fork=True)
    started(database, theirs)
    found = database.read(lambda conn: reports.of(conn, theirs.id))
    assert [("status", 2), ("comment", 2)] == [(one.kind, one.seq) for one in found]
    newer = a_build(database, pull_request=7, fork=True)
    assert 2 == len(database.read(lambda conn: reports.of(conn, newer.id)))
    ours = a_build(database)
    started(database, newer)
    [status] = database.read(lambda conn: reports.of(conn, ours.id))
    assert "status" == status.kind


def test_one_at_a_time_and_nobody_elses(database: Database) -> None:
    """A claimed row is nobody else's until its claim is old; one that died may have made it."""
    build = a_build(database, pull_request=7)
    [first] = claim(database, who="a")
    assert not first.look
    others = claim(database, who="b")
    assert first.id not in [report.id for report in others]
    later = NOON + timedelta(seconds=reports.CLAIM_S + 1)
    again = claim(database, later, "b")
    assert first.id == again[0].id and again[0].look
    database.transact(lambda conn: reports.release(conn, "b"))
    assert first.id == claim(database, later)[0].id
    assert build.id == first.build_id


def test_news_do_not_hurry_a_forge_that_is_down(database: Database) -> None:
    """The pause stays, and what it waits for is the newest."""
    build = a_build(database)
    [report] = claim(database)
    until = NOON + timedelta(minutes=5)
    database.transact(lambda conn: reports.failed(conn, report, "500", until))
    started(database, build)
    assert [] == claim(database)
    assert until == database.read(lambda conn: reports.next_due(conn, NOON))
    assert 2 == claim(database, until)[0].seq


def test_what_was_given_up_is_seen_until_there_are_news(database: Database) -> None:
    """Then it is tried again."""
    build = a_build(database)
    [report] = claim(database)
    database.transact(lambda conn: reports.dead(conn, report, "404"))
    assert ["dead"] == [r.state for r in database.read(reports.trouble)]
    assert [] == claim(database)
    started(database, build)
    assert [] == database.read(reports.trouble)
    assert 1 == len(claim(database))


def test_a_dead_token_is_buried_once(database: Database) -> None:
    """Whoever finds it first says so."""
    token = DeadToken(fingerprint="f", pipeline="shop", reference="env:T", said="401", at=NOON)
    assert [True, False] == [
        database.transact(lambda conn: reports.bury(conn, token)) for _ in range(2)
    ]
    assert [token] == database.read(reports.buried)
    database.transact(lambda conn: reports.unbury(conn, "shop"))
    assert [] == database.read(reports.buried)


def test_reports_go_with_their_build(database: Database) -> None:
    """Retention leaves nothing behind."""
    build = a_build(database)
    database.transact(
        lambda conn: advance(conn, build, Move.cancel, now=NOON, actor="test", house=())
    )
    database.transact(lambda conn: builds.delete(conn, build.id))
    assert {} == database.read(reports.counts)
