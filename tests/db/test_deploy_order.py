"""What waits, what gives way, and who hears of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection

from leeroy import config, context, gates, onward
from leeroy.clock import Clock
from leeroy.db import builds, deploys, outbox, steps
from leeroy.db.engine import Database
from leeroy.errors import LeeroyError
from leeroy.model import Build
from leeroy.operations.resolving import resolved
from leeroy.runner.rundir import Result
from leeroy.runner.runner import Run
from leeroy.scheduler import ending, starting
from leeroy.scheduler.acts import End
from leeroy.terms import Move, Stage, State, StepState
from tests.db import story
from tests.db.story import HOUSE, START, at, deploying, make, push


def facts(conn: Connection, build: Build, **options: object) -> gates.Facts:
    """What the gates see."""
    now = options.pop("now", START)
    return gates.facts(conn, build, onward.plan_of(build), now=now, **options)  # type: ignore[arg-type]


def gate(database: Database, build: Build, **options: object) -> str | None:
    """The first closed gate."""
    wait = database.read(lambda conn: gates.closed(facts(conn, build, **options)))
    return None if wait is None else wait.gate


def hear(database: Database, build: Build, seconds: float = 1) -> None:
    """Somebody accepts the announcement."""

    def work(conn: Connection) -> None:
        for notice in outbox.claim(conn, at(seconds), 50, "me"):
            outbox.accept(conn, notice.id, "ops", at(seconds))
            outbox.sent(conn, notice.id, at(seconds))

    database.transact(work)


def test_environments_in_their_order(database: Database) -> None:
    """After staging comes production, announced anew; after production nothing."""
    build = database.transact(lambda conn: story.deploying(conn, story.push(conn)))
    assert "staging" == build.environment
    seen = []
    while not build.state.over:
        move = Move.deploy if build.state is State.deploy_pending else None

        def work(conn: Connection, build: Build = build, move: Move | None = move) -> Build:
            if move is not None:
                return story.make(conn, build, move)
            return onward.onward(conn, build, now=START, actor="x", house=HOUSE)

        build = database.transact(work)
        seen.append((str(build.state), build.environment))
    assert [("deploy_pending", "production"), ("deploying", "production"),
            ("done", "production")] == seen  # fmt: skip
    there = database.read(lambda conn: deploys.all_environments(conn))
    assert {"staging": build.id, "production": build.id} == {e.name: e.runs_build for e in there}
    assert [None, None] == [e.holder for e in there]


def test_the_grace_period_starts_when_somebody_was_told(database: Database) -> None:
    """Unheard, the gate is closed however long this process watched."""
    build = database.transact(lambda conn: story.pending(conn, story.push(conn)))
    assert "heard" == gate(database, build, watched_s=1e6)
    hear(database, build)
    assert "grace" == gate(database, build)
    assert "grace" == gate(database, build, watched_s=29.9)
    assert gate(database, build, watched_s=30) is None


def test_a_hold_and_a_freeze_close_the_gate(database: Database) -> None:
    """A held deploy waits for a person; a frozen environment for the thaw, even when approved."""
    build = database.transact(lambda conn: story.pending(conn, story.push(conn)))
    hear(database, build)
    build = database.transact(lambda conn: story.make(conn, build, Move.hold, reason="lunch"))
    assert "hold" == gate(database, build, watched_s=99)
    database.transact(lambda c: deploys.put(c, build, "staging", held_at=None, approved_at=START))
    assert gate(database, build) is None
    database.transact(
        lambda c: deploys.change(c, "shop", "staging", frozen_at=START, frozen_by="ann")
    )
    assert "freeze" == gate(database, build)


def test_a_newer_build_takes_the_place_of_an_older(database: Database) -> None:
    """In the transaction of its announcement; and an older one that comes late gives way."""
    old = database.transact(story.push)
    older = database.transact(lambda conn: story.pending(conn, old))
    late = database.transact(story.push)
    newer = database.transact(lambda conn: story.pending(conn, story.push(conn)))
    found = database.read(lambda conn: builds.get(conn, older.id))
    assert found is not None and State.superseded is found.state
    assert State.superseded is database.transact(lambda c: story.pending(c, late)).state
    assert State.deploy_pending is newer.state


def test_tags_wait_for_each_other(database: Database) -> None:
    """No tag gives way; the smaller place goes first."""
    first = database.transact(lambda c: story.pending(c, story.push(c, tag="1", branch=None)))
    second = database.transact(lambda c: story.pending(c, story.push(c, tag="2", branch=None)))
    assert [State.deploy_pending] * 2 == [first.state, second.state]
    assert "order" == gate(database, second)
    database.transact(lambda conn: story.make(conn, first, Move.cancel))
    assert "heard" == gate(database, second)


def test_a_build_with_a_request_to_stop_is_cancelled_where_it_arrives(database: Database) -> None:
    """A requeue is possible after the request; queued it is cancelled in the same transaction."""
    build = database.transact(
        lambda c: story.make(c, story.push(c), Move.start, changes={"slot": 1})
    )
    assert database.transact(lambda c: builds.ask_to_stop(c, build, START, "ann", "oops"))
    asked = database.read(lambda conn: builds.get(conn, build.id))
    assert asked is not None
    with pytest.raises(LeeroyError):
        database.transact(lambda conn: story.make(conn, asked, Move.pass_))
    ended = database.transact(lambda conn: story.make(conn, asked, Move.requeue))
    assert (State.cancelled, "ann") == (ended.state, ended.stop_actor)


def test_each_move_is_told_once_to_each_who_listens(database: Database) -> None:
    """One row per event and target; announcements overtake; nobody is given a thing twice."""
    build = database.transact(lambda conn: story.pending(conn, story.push(conn)))
    rows = database.read(lambda conn: outbox.of(conn, build.id))
    told = [(str(state), notice.target) for notice, state in rows]
    house = ["queued", "building", "passed", "deploy_pending"]
    assert sorted([*((s, "env:HOUSE") for s in house), ("deploy_pending", "env:OPS")]) == sorted(
        told
    )
    first = database.transact(lambda conn: outbox.claim(conn, START, 50, "me"))
    assert {("env:HOUSE", build.version), ("env:OPS", build.version)} == {
        (notice.target, notice.seq) for notice in first
    }
    assert [] == database.transact(lambda conn: outbox.claim(conn, START, 50, "me"))
    for notice in first:
        database.transact(lambda c, n=notice: outbox.sent(c, n.id, START))
    second = database.transact(lambda conn: outbox.claim(conn, START, 50, "me"))
    assert [("env:HOUSE", 1)] == [(notice.target, notice.seq) for notice in second]


def test_two_recipients_that_accept_are_both_remembered(database: Database) -> None:
    """The second acceptance does not overwrite the first."""
    database.transact(lambda conn: story.pending(conn, story.push(conn)))
    notice = database.transact(lambda conn: outbox.claim(conn, START, 1, "me"))[0]
    for name in ("ann", "bob", "ann"):
        database.transact(lambda c, name=name: outbox.accept(c, notice.id, name, START))
    found = database.read(lambda conn: outbox.get(conn, notice.id))
    assert found is not None and ("ann", "bob") == found.accepted


def test_a_hundred_stops_against_the_start_of_a_deploy(database: Database) -> None:
    """Exactly one of cancel and deploy wins, and the losers know it."""
    for _ in range(3):
        build = database.transact(lambda conn: story.pending(conn, story.push(conn)))
        gun = threading.Barrier(8)

        def attempt(number: int, build: Build = build, gun: threading.Barrier = gun) -> str:
            move = Move.deploy if number % 10 == 5 else Move.cancel
            if number < 8:
                gun.wait(10)
            try:
                database.transact(lambda conn: story.make(conn, build, move))
            except LeeroyError:
                return ""
            return str(move)

        with ThreadPoolExecutor(8) as pool:
            wins = [win for win in pool.map(attempt, range(100)) if win]
        assert 1 == len(wins)
        now = database.read(lambda conn, build_id=build.id: builds.get(conn, build_id))
        assert now is not None
        assert {"cancel": State.cancelled, "deploy": State.deploying}[wins[0]] is now.state
        if now.state is State.deploying:
            database.transact(lambda conn, now=now: story.make(conn, now, Move.fail))


def test_fifty_hooks_at_once_make_fifty_builds(database: Database) -> None:
    """Nobody is told that the database is locked, and each gets a number of its own."""
    with ThreadPoolExecutor(50) as pool:
        made = list(pool.map(lambda _: database.transact(story.push), range(50)))
    assert 50 == len({build.id for build in made})
    assert 50 == len(database.read(lambda conn: builds.latest(conn, limit=100)))


def test_a_status_script_that_comes_too_late_counts_for_nothing(
    database: Database, tmp_path: Path
) -> None:
    """A person said "again" while it was asked: its end starts no second script of the new deploy."""
    loaded = config.load(None, {"LEEROY_DATA": str(tmp_path), "LEEROY_MIN_FREE": "0B"})
    here = context.make(loaded, Clock(lambda: START, lambda: 0.0), {}, new=True)

    def work(conn: Connection) -> None:
        build = deploying(conn, push(conn))
        lost = make(conn, build, Move.lose)
        plan = [(Stage.status, "staging")]
        [asked] = starting.add_steps(conn, here, lost, plan, environment="staging", now=START)
        again = resolved(conn, here, lost, Move.resolve_again, actor="ada", reason="seen")
        anew = make(conn, again, Move.deploy)
        plan = [(Stage.checkout, "checkout"), (Stage.deploy, "staging")]
        starting.add_steps(conn, here, anew, plan, environment="staging", now=START)
        result = Result(0, None, None, 0.0, 1.0, 0, 0, "0" * 64)
        assert asked.run_id is not None

        acts = ending.record(conn, here, End(asked.run_id, Run.ended, result))

        assert [] == acts
        states = [(s.stage, s.state) for s in steps.of(conn, build.id)]
        assert (Stage.deploy, StepState.waiting) in states
        assert (Stage.status, StepState.passed) in states

    database.transact(work)


def test_what_a_person_put_back_does_not_give_way_to_a_push(database: Database) -> None:
    """The environment is frozen for the push; before and after it arrives the rollback stays."""
    old = database.transact(lambda conn: story.pending(conn, push(conn)))
    asked = {"deploy_to": "staging", "source": old.id, "trigger": "deploy"}
    first = database.transact(lambda conn: story.pending(conn, push(conn, **asked)))
    late = database.transact(lambda conn: push(conn, **asked))
    pushed = database.transact(lambda conn: story.pending(conn, push(conn)))

    def state(build: Build) -> State | None:
        found = database.read(lambda conn: builds.get(conn, build.id))
        return None if found is None else found.state

    assert [State.deploy_pending] * 2 == [state(first), state(pushed)], "it was there first"
    database.transact(lambda conn: story.pending(conn, late))
    assert State.deploy_pending is state(late), "and when it arrives after the push"
    assert State.superseded is state(first), "a person's newer wish counts"
