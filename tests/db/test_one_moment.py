"""All that one transaction writes has one time, whatever the clock says meanwhile."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from leeroy import config, context, operations
from leeroy.clock import Clock
from leeroy.db import picture, steps
from leeroy.db.engine import Database
from leeroy.model import Build, Event, Step
from leeroy.proof import places
from leeroy.proof.history import History
from leeroy.runner.rundir import Result
from leeroy.runner.runner import Run
from leeroy.scheduler import ending, recovering, starting, waiting
from leeroy.scheduler.acts import End
from leeroy.terms import Move, Stage, StepState
from tests.db import story
from tests.db.story import START, at, make, push

HERE = context.Context
Work = Callable[[Connection], object]

BARE = 'untested = true\n[[deploy]]\nenvironment = "staging"\nrun = "true"\ngrace = "0s"\n'
GOOD = Result(0, None, None, 0.0, 1.0, 0, 0, "0" * 64)
BAD = Result(1, None, None, 0.0, 1.0, 0, 0, "0" * 64)


@pytest.fixture
def here(tmp_path: Path) -> HERE:
    """A host whose clock is a second later at every look."""
    loaded = config.load(None, {"LEEROY_DATA": str(tmp_path), "LEEROY_MIN_FREE": "0B"})
    ticks = itertools.count(60)
    return context.make(loaded, Clock(lambda: at(next(ticks)), lambda: 0.0), {}, new=True)


def runs(
    conn: Connection, here: HERE, build: Build, stage: Stage, environment: str | None = None
) -> Step:
    """A script of the build that runs."""
    plan = [(stage, environment or "unit")]
    return starting.add_steps(conn, here, build, plan, environment=environment, now=START)[0]


def end(here: HERE, step: Step, run: Run = Run.ended, result: Result | None = GOOD) -> Work:
    """What the end of a script decides."""
    assert step.run_id is not None
    found = End(step.run_id, run, result if run is Run.ended else None)
    return partial(ending.record, context=here, end=found)


def look(here: HERE, build: Build, cleared: str = "") -> Work:
    """What the loop decides about a build that is due; nothing is left of the run *cleared*."""
    watching = waiting.Watching(
        name="me", away_s=0.0, watched={}, room=None, cleared=frozenset({cleared})
    )
    return partial(waiting.look, context=here, build_id=build.id, watching=watching)


def old_and_newer(conn: Connection) -> Build:
    """An older build deploys to staging, where a newer one waits."""
    old = story.deploying(conn, push(conn))
    story.pending(conn, push(conn))
    return old


# --- transactions that make more than one move


def a_test_passes(conn: Connection, here: HERE) -> Work:
    """It passes, is announced, and the older one gives way."""
    story.pending(conn, push(conn))
    build = make(conn, push(conn), Move.start, changes={"slot": 1})
    return end(here, runs(conn, here, build, Stage.test))


def slots_are_given(conn: Connection, here: HERE) -> Work:
    """Without a script: started, passed and announced, and the older one gives way."""
    row = {"pipeline_text": BARE, "repository": None, "branch": None}
    story.pending(conn, push(conn, **row))
    push(conn, **row)
    return partial(starting.pick, context=here)


def a_deploy_goes_on(conn: Connection, here: HERE) -> Work:
    """From staging to production, where the older one gives way."""
    old = story.deploying(conn, push(conn))
    step = runs(conn, here, old, Stage.deploy, "staging")
    end(here, step)(conn)
    build = story.deploying(conn, push(conn))
    return end(here, runs(conn, here, build, Stage.deploy, "staging"))


def a_deploy_never_began(conn: Connection, here: HERE) -> Work:
    """Withdrawn, and it gives way to the newer one."""
    old = old_and_newer(conn)
    return end(here, runs(conn, here, old, Stage.deploy, "staging"), Run.absent)


def its_checkout_is_lost(conn: Connection, here: HERE) -> Work:
    """Withdrawn, and it gives way to the newer one."""
    old = old_and_newer(conn)
    return end(here, runs(conn, here, old, Stage.checkout, "staging"), Run.lost)


def a_person_says_again(conn: Connection, here: HERE) -> Work:
    """To be run again, and it gives way to the newer one."""
    old = make(conn, old_and_newer(conn), Move.lose)
    return partial(
        operations.DO["resolve"],
        context=here,
        actor="ada",
        id=old.id,
        outcome="again",
        environment="staging",
        reason="seen",
    )


def a_status_script_says_no(conn: Connection, here: HERE) -> Work:
    """The rule is to run it again, and it gives way to the newer one."""
    rule = story.SHOP.replace('tags = ["*"]', 'interrupted = "again"\nstatus = "true"')
    old = story.deploying(conn, push(conn, pipeline_text=rule))
    story.pending(conn, push(conn))
    lost = make(conn, old, Move.lose)
    return end(here, runs(conn, here, lost, Stage.status, "staging"), result=BAD)


def a_rule_is_followed(conn: Connection, here: HERE) -> Work:
    """Nobody saw the end, the rule is to run it again, and it gives way to the newer one."""
    rule = story.SHOP.replace('tags = ["*"]', 'interrupted = "again"')
    old = story.deploying(conn, push(conn, pipeline_text=rule))
    story.pending(conn, push(conn))
    step = runs(conn, here, old, Stage.deploy, "staging")
    steps.change(conn, step.id, state=StepState.interrupted)
    lost = make(conn, old, Move.lose)
    assert step.run_id is not None
    return look(here, lost, cleared=step.run_id)


def its_end_is_found_late(conn: Connection, here: HERE) -> Work:
    """It was deployed after all, and goes on to production, where the older one gives way."""
    first = story.deploying(conn, push(conn))
    end(here, runs(conn, here, first, Stage.deploy, "staging"))(conn)
    build = story.deploying(conn, push(conn))
    step = runs(conn, here, build, Stage.deploy, "staging")
    lost = make(conn, build, Move.lose)
    return partial(recovering.late, context=here, build_id=lost.id, step=step, result=GOOD)


def a_passed_build_is_due(conn: Connection, here: HERE) -> Work:
    """Announced at the second attempt, and the older one gives way."""
    story.pending(conn, push(conn))
    return look(here, story.passed(conn, push(conn)))


@pytest.mark.parametrize(
    "tell",
    [
        a_test_passes,
        slots_are_given,
        a_deploy_goes_on,
        a_deploy_never_began,
        its_checkout_is_lost,
        a_person_says_again,
        a_status_script_says_no,
        a_rule_is_followed,
        its_end_is_found_late,
        a_passed_build_is_due,
    ],
    ids=lambda tell: tell.__name__,
)
def test_the_moves_of_one_transaction_have_one_time(
    database: Database, here: HERE, tell: Callable[[Connection, HERE], Work]
) -> None:
    """So who gives way does it at the very moment for which it does."""
    work = database.transact(lambda conn: tell(conn, here))
    before = events(database)
    database.transact(work)
    new = [event for key, event in events(database).items() if key not in before]
    assert Move.supersede in [event.move for event in new] and len(new) > 1
    assert 1 == len({event.at for event in new}), [(str(e.move), e.at) for e in new]
    found = database.read(picture.look)
    assert [] == list(places.give_way(History(rows=found, house=story.HOUSE, wall_s=0.0)))


def test_a_deploy_begins_when_its_script_is_ordered(database: Database, here: HERE) -> None:
    """The move, the deploy's row and the step name the same moment."""

    def tell(conn: Connection) -> Build:
        return story.pending(conn, push(conn, pipeline_text=BARE, repository=None, branch=None))

    build = database.transact(tell)
    database.transact(look(here, build))
    found = database.read(picture.look)
    last = found.events[build.id][-1]
    (step,) = found.steps[build.id]
    assert Move.deploy is last.move
    assert last.at == step.started_at == found.deploys[build.id, "staging"].started_at


def events(database: Database) -> dict[tuple[int, int], Event]:
    """Every event by its build and number."""
    found = database.read(picture.look).events
    return {(event.build_id, event.seq): event for every in found.values() for event in every}
