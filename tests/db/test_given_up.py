"""Whoever gives up waiting for a commit harms nobody else."""

from __future__ import annotations

import threading

from sqlalchemy import Connection

from leeroy.db.engine import Database


def test_a_future_that_is_cancelled_ends_no_writer(database: Database) -> None:
    """A server that stops lets go of what it waited for; the next piece of work is done."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(conn: Connection) -> int:
        begun.set()
        go_on.wait(10)
        return 1

    def wrong(conn: Connection) -> int:
        raise ValueError("wrong")

    for work in (slow, wrong):
        begun.clear()
        go_on.clear()
        first = database.submit(slow)
        assert begun.wait(10)
        given_up = database.submit(work)
        assert first.cancel()
        assert given_up.cancel()
        go_on.set()
        assert 2 == database.submit(lambda conn: 2).result(10)
