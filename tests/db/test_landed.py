"""Whether a deploy is what runs there: the row that says so and `leeroy replay`, in every end."""

from __future__ import annotations

import itertools
from functools import partial

from sqlalchemy import Connection

from leeroy import ends, replay
from leeroy.db import builds, deploys, steps
from leeroy.db.engine import Database
from leeroy.model import Build, Step
from leeroy.runner.rundir import Result
from leeroy.runner.runner import Run
from leeroy.scheduler import recovering
from leeroy.terms import Move, Stage, State
from tests.db import story
from tests.db.story import at, make, push
from tests.db.test_one_moment import BARE, HERE, end, here, runs

__all__ = ["here"]

REASONS = (None, ends.STOPPED, ends.OUTSIDE, ends.TIMEOUT)
ENDS = [
    *itertools.product((0, 3, None), REASONS, (False, True)),
    (None, "cannot start: no such file", False),
]
LANDS = {
    (0, None, False): State.done,
    (0, ends.OUTSIDE, False): State.done,
    (0, ends.STOPPED, False): State.deploy_failed,
    (0, None, True): State.cancelled,
    (0, ends.OUTSIDE, True): State.cancelled,
    (0, ends.STOPPED, True): State.cancelled,
}
"""Code, reason and whether a person asked it to stop, of the ends with which it landed."""


def result(code: int | None, reason: str | None) -> Result:
    number = 15 if code is None and reason and not reason.startswith("cannot") else None
    return Result(code, number, reason, 0.0, 1.0, 0, 0, "0" * 64)


def deploying(conn: Connection, here: HERE, stop: bool, pipeline: str) -> tuple[Build, Step]:
    build = story.deploying(conn, push(conn, pipeline=pipeline, pipeline_text=BARE))
    step = runs(conn, here, build, Stage.deploy, "staging")
    if stop:
        builds.change(conn, build.id, stop_at=at(1), stop_actor="ada")
    return build, step


def begun(database: Database, here: HERE, number: int, stop: bool = False) -> tuple[Build, Step]:
    """A deploy that runs, each in an environment of its own."""
    return database.transact(partial(deploying, here=here, stop=stop, pipeline=f"p{number}"))


def told(database: Database, build: Build) -> tuple[State, bool]:
    """Where the build is, and whether its environment runs it; replay has nothing to say."""

    def look(conn: Connection) -> tuple[State, bool]:
        now = builds.get(conn, build.id)
        assert now is not None
        assert [] == replay.one(conn, now)["differences"] + replay.environments(conn)
        there = [p for p in deploys.all_environments(conn) if p.pipeline == build.pipeline]
        return now.state, build.id in [p.runs_build for p in there]

    return database.read(look)


def test_every_end_of_a_deploy_script(database: Database, here: HERE) -> None:
    """An exit 0 that was not past its timeout, whoever wanted it to stop; nothing else."""
    for number, case in enumerate(ENDS):
        code, reason, stop = case
        build, step = begun(database, here, number, stop)
        database.transact(end(here, step, result=result(code, reason)))
        expected = LANDS.get(case)
        ended = expected or (State.cancelled if stop else State.deploy_failed)
        assert (ended, expected is not None) == told(database, build), case


def test_every_other_end(database: Database, here: HERE) -> None:
    """Nobody saw it, or it never began: it does not run there."""
    cases = itertools.product((Run.lost, Run.absent, Run.revoked), (False, True))
    for number, (run, stop) in enumerate(cases):
        build, step = begun(database, here, number, stop)
        database.transact(end(here, step, run))
        assert not told(database, build)[1], (run, stop)


def test_a_late_record(database: Database, here: HERE) -> None:
    """The end of an interrupted deploy that is found later counts like any other."""
    for number, (code, reason, _) in enumerate(e for e in ENDS if not e[2]):
        build, step = begun(database, here, number)
        database.transact(end(here, step, Run.lost))
        found = database.read(partial(steps.get, step_id=step.id))
        assert found is not None
        late = partial(recovering.late, context=here, build_id=build.id, step=found)
        database.transact(partial(late, result=result(code, reason)))
        lands = code == 0 and reason != ends.TIMEOUT
        ended = State.done if lands else State.deploy_failed
        assert (ended, lands) == told(database, build), (code, reason)


def test_a_persons_word(database: Database, here: HERE) -> None:
    """It counts as it was said."""
    for number, how in enumerate((Move.resolve_done, Move.resolve_failed)):
        build, step = begun(database, here, number)
        database.transact(end(here, step, Run.lost))
        now = database.read(partial(builds.get, build_id=build.id))
        assert now is not None
        database.transact(partial(make, build=now, move=how))
        assert (how is Move.resolve_done) == told(database, build)[1]
