"""Two looks at one run, recorded at the same time: the first counts, the second changes nothing."""

from __future__ import annotations

import threading

from sqlalchemy import Connection

from leeroy.db import builds, steps
from leeroy.db.engine import Database
from leeroy.model import Build, Step
from leeroy.runner.runner import Run
from leeroy.terms import Move, Stage, State, StepState
from tests.db.story import make, push
from tests.db.test_one_moment import BARE, HERE, end, here, runs

__all__ = ["here"]


def test_the_first_of_two_looks_counts(database: Database, here: HERE) -> None:
    """A supervisor's last word and the news of its death meet: what passed stays passed."""

    def begin(conn: Connection) -> tuple[Build, Step]:
        build = push(conn, pipeline_text=BARE.replace("untested = true\n", "") + TEST)
        build = make(conn, build, Move.start, changes={"slot": 1})
        return build, runs(conn, here, build, Stage.test)

    build, step = database.transact(begin)
    recorded, go_on = threading.Event(), threading.Event()

    def first(conn: Connection) -> object:
        acts = end(here, step)(conn)
        recorded.set()
        go_on.wait(10)
        return acts

    slow = database.submit(first)
    assert recorded.wait(10)
    second = database.submit(end(here, step, Run.lost))
    # Time for the second to come as far as it can; the outcome must not depend on it.
    threading.Timer(0.5, go_on.set).start()
    slow.result(20)
    assert [] == second.result(20)

    def look(conn: Connection) -> None:
        found, now = steps.get(conn, step.id), builds.get(conn, build.id)
        assert found is not None and StepState.passed is found.state
        assert now is not None and State.deploy_pending is now.state

    database.read(look)


TEST = '[[test]]\nname = "unit"\nrun = "true"\n'
