"""With `interrupted = "again"` a lost deploy is run again by itself, and not for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection

from leeroy import config, context
from leeroy.clock import Clock
from leeroy.db import builds, steps
from leeroy.db.engine import Database
from leeroy.model import Build
from leeroy.runner.runner import Run
from leeroy.scheduler.ending import MOST_REPEATS
from leeroy.terms import Move, Stage, State, StepState
from tests.db import story
from tests.db.story import at, make, push
from tests.db.test_one_moment import BAD, HERE, end, look, runs

RULE = story.SHOP.replace('tags = ["*"]', 'interrupted = "again"MORE')


@pytest.fixture
def here(tmp_path: Path) -> HERE:
    """A host, a minute after the story's start."""
    loaded = config.load(None, {"LEEROY_DATA": str(tmp_path), "LEEROY_MIN_FREE": "0B"})
    return context.make(loaded, Clock(lambda: at(60), lambda: 0.0), {}, new=True)


def now(conn: Connection, build: Build) -> Build:
    found = builds.get(conn, build.id)
    assert found is not None
    return found


def lose(conn: Connection, here: HERE, build: Build) -> Build:
    """Its deploy is lost, nothing is left of it, and the rule is asked."""
    step = runs(conn, here, build, Stage.deploy, "staging")
    assert step.run_id is not None
    end(here, step, Run.lost)(conn)
    lost = now(conn, build)
    assert State.interrupted is lost.state
    look(here, lost, cleared=step.run_id)(conn)
    return now(conn, build)


def test_it_is_repeated_three_times_and_then_held(database: Database, here: HERE) -> None:
    """The last loss says why a person is asked; whose word goes on working."""

    def tell(conn: Connection) -> None:
        build = story.deploying(conn, push(conn, pipeline_text=RULE.replace("MORE", "")))
        for _ in range(MOST_REPEATS):
            build = lose(conn, here, build)
            assert State.deploy_pending is build.state
            build = make(conn, build, Move.deploy)
        build = lose(conn, here, build)
        assert (State.interrupted, None) == (build.state, build.due_at)
        moves = builds.history(conn, build.id)
        assert MOST_REPEATS == sum(e.move is Move.resolve_again for e in moves)
        told = [bool(e.reason and "not repeated" in e.reason) for e in moves if e.move is Move.lose]
        assert [False] * MOST_REPEATS + [True] == told
        pending = make(conn, build, Move.resolve_again, actor="ada", reason="repaired")
        build = lose(conn, here, make(conn, pending, Move.deploy))
        assert State.interrupted is build.state, "and once more only for a person"

    database.transact(tell)


@pytest.mark.parametrize("losses", [MOST_REPEATS, MOST_REPEATS + 1])
def test_a_status_script_cannot_repeat_it_for_ever(
    database: Database, here: HERE, losses: int
) -> None:
    """It did not land: once more while that may be, else it has failed."""

    def tell(conn: Connection) -> None:
        rule = RULE.replace("MORE", '\nstatus = "false"')
        build = story.deploying(conn, push(conn, pipeline_text=rule))
        for number in range(losses):
            assert State.deploying is build.state
            build = lose(conn, here, build)
            asked = next(s for s in steps.of(conn, build.id) if s.state is StepState.running)
            assert Stage.status is asked.stage
            end(here, asked, result=BAD)(conn)
            build = now(conn, build)
            if number + 1 < losses:
                build = make(conn, build, Move.deploy)
        again = losses <= MOST_REPEATS
        assert build.state is (State.deploy_pending if again else State.deploy_failed)

    database.transact(tell)
