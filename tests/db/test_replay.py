"""Rows are what the events make of them; an edit of either is found.  A record is for ever."""

from __future__ import annotations

from functools import partial

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from leeroy import onward, replay
from leeroy.db import builds, chronicle, outbox
from leeroy.db.engine import Database
from leeroy.db.tables import deploys as deploy_rows
from leeroy.db.tables import environments
from leeroy.db.tables import outbox as outbox_rows
from leeroy.model import Build
from leeroy.terms import Kind, Move
from leeroy.verdict import gather
from tests.db.story import HOUSE, START, at, deploying, make, pending, push

WHAT_RUNS = ["runs_build", "runs_place", "runs_commit", "runs_at"]


def done(conn: Connection) -> Build:
    """Deployed to staging and production."""
    staging = deploying(conn, push(conn))
    second = onward.onward(conn, staging, now=START, actor="s", house=HOUSE)
    return onward.onward(conn, make(conn, second, Move.deploy), now=at(5), actor="s", house=HOUSE)


def test_every_ending_replays_to_its_rows(database: Database) -> None:
    """done, failed, lost and resolved, superseded, cancelled, one that runs and one that waits."""

    def story(conn: Connection) -> None:
        done(conn)
        make(conn, deploying(conn, push(conn)), Move.fail)
        lost = make(conn, deploying(conn, push(conn)), Move.lose)
        make(conn, lost, Move.resolve_failed)
        pending(conn, push(conn))
        make(conn, pending(conn, push(conn)), Move.cancel)
        deploying(conn, push(conn))
        pending(conn, push(conn))

    database.transact(story)
    assert [] == database.read(partial(replay.part, after=0))["differences"]
    assert [] == database.read(replay.environments)


@pytest.mark.parametrize("what", ["finished_at", "outcome", "ended_at", "holder", *WHAT_RUNS])
def test_an_edited_row_is_found(database: Database, what: str) -> None:
    """What the schema cannot forbid, replay finds."""
    build = database.transact(done)

    def edit(conn: Connection) -> None:
        table, value = {
            "finished_at": (builds.builds, at(9999)),
            "outcome": (deploy_rows, "lost"),
            "ended_at": (deploy_rows, at(9999)),
            "holder": (environments, build.id),
            "runs_build": (environments, None),
            "runs_place": (environments, 999),
            "runs_commit": (environments, "f" * 40),
            "runs_at": (environments, at(9999)),
        }[what]
        conn.execute(sa.update(table).values({what: value}))

    database.transact(edit)
    found = database.read(partial(replay.part, after=0))["differences"]
    assert found
    words = {"holder": "holder", "outcome": "its deploy to", "ended_at": "ended"}
    words |= dict.fromkeys(WHAT_RUNS, "runs there")
    assert words.get(what, what) in found[0]


def test_what_comes_after_the_last_move_changes_no_record(database: Database) -> None:
    """A notice that is accepted later, a dropped one, a retry of another: the same head."""
    build = database.transact(done)
    before = database.read(lambda conn: gather.verdict(conn, build))
    for notice in database.transact(lambda conn: outbox.claim(conn, at(60), 50, "here")):
        database.transact(partial(outbox.accept, notice_id=notice.id, recipient="x", now=at(61)))
    with pytest.raises(DBAPIError):
        database.transact(lambda conn: conn.exec_driver_sql("UPDATE chronicle SET who = 'another'"))
    assert database.read(lambda conn: chronicle.of(conn, build.id))
    assert before == database.read(lambda conn: gather.verdict(conn, build))


def test_who_accepted_while_it_waited_is_in_the_record(database: Database) -> None:
    """Recipient, moment, and which move it was told of."""
    build = database.transact(lambda conn: pending(conn, push(conn)))
    urgent = sa.select(outbox_rows.c.id).where(outbox_rows.c.urgent).limit(1)
    notice = int(database.read(lambda conn: conn.execute(urgent).scalar_one()))
    for _ in range(2):
        database.transact(partial(outbox.accept, notice_id=notice, recipient="ops", now=at(3)))
    notes = database.read(lambda conn: chronicle.of(conn, build.id))
    assert [(Kind.accepted, "ops", at(3), build.version)] == [
        (note.kind, note.who, note.at, note.seq) for note in notes
    ]
