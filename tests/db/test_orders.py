"""Who goes first: what is decided holds its rows until it is committed; and a story of rows, judged."""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from leeroy import config, context, gates, operations
from leeroy.clock import Clock
from leeroy.db import picture
from leeroy.db.engine import Database
from leeroy.model import Build
from leeroy.operations import common
from leeroy.proof.checker import check
from leeroy.proof.history import History
from leeroy.scheduler import waiting
from leeroy.terms import Move, State
from tests.conftest import _make
from tests.db import story
from tests.waiting import until

HURRY = 'untested = true\n[[deploy]]\nenvironment = "production"\nrun = "true"\ngrace = "0s"\n'


@pytest.fixture
def here(tmp_path: Path) -> context.Context:
    """A host whose clock stands still."""
    (tmp_path / "leeroy.toml").write_text('min_free = "0B"\n[[notify]]\nto = "env:HOUSE"\n')
    loaded = config.load(str(tmp_path / "leeroy.toml"), {})
    loaded.data.mkdir(exist_ok=True)
    clock = Clock(lambda: datetime(2026, 1, 1, 12, 1, tzinfo=UTC), lambda: 0.0)
    return context.make(loaded, clock, {}, new=True)


def waits(conn: Connection, pipeline: str = "shop", more: str = "") -> int:
    """A build whose deploy may start."""
    row = {"pipeline": pipeline, "pipeline_text": HURRY + more, "repository": None}
    return story.pending(conn, story.push(conn, trigger="cli", **row)).id


def decision(here: context.Context, build: int) -> partial[object]:
    watching = waiting.Watching(name="me", away_s=0.0, watched={}, room=None, cleared=frozenset())
    return partial(waiting.look, context=here, build_id=build, watching=watching)


class Pause:
    """A decision that stops after its look at the gates, until it may `go_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, work: partial[object]) -> None:
        self._work = work
        self._facts = gates.facts
        self._thread = 0
        self.looked, self.go_on = threading.Event(), threading.Event()
        monkeypatch.setattr(gates, "facts", self._seen)

    def _seen(self, *arguments: Any, **options: Any) -> gates.Facts:
        found = self._facts(*arguments, **options)
        if self._thread == threading.get_ident():
            self.looked.set()
            assert self.go_on.wait(20)
        return found

    def __call__(self, conn: Connection) -> None:
        self._thread = threading.get_ident()
        self._work(conn)


@pytest.mark.parametrize("ask", ["freeze", "cancel", "hold"])
def test_a_freeze_waits_for_the_deploy_that_is_being_decided(
    database: Database, here: context.Context, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the gates and the commit nobody is told that it is stopped."""
    build = database.transact(waits)
    other = Database(database.url.render_as_string(hide_password=False))
    decide = Pause(monkeypatch, decision(here, build))
    arguments = {"which": "production"} if ask == "freeze" else {"id": build}
    stop = partial(operations.DO[ask], context=here, actor="ada", **arguments)
    with ThreadPoolExecutor(2) as pool:
        deploying = pool.submit(database.transact, decide)
        assert decide.looked.wait(10)
        asked = pool.submit(other.transact, stop)
        assert not wait([asked], timeout=0.5).done, "it was answered while the deploy was decided"
        decide.go_on.set()
        deploying.result(20)
        if ask == "freeze":
            asked.result(20)
        else:
            assert "deploy" in str(asked.exception(20))
    other.close()
    found = database.read(picture.look)
    assert State.deploying is found.builds[build].state
    assert [] == check(History(rows=found, house=story.HOUSE))


def test_two_deploys_under_one_lock_are_decided_in_turn(
    database: Database, here: context.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the gates and the commit no other deploy sees the lock free."""
    first, second = (
        database.transact(partial(waits, pipeline=name, more='lock = "host"\n'))
        for name in ("shop", "book")
    )
    other = Database(database.url.render_as_string(hide_password=False))
    decide = Pause(monkeypatch, decision(here, first))
    with ThreadPoolExecutor(2) as pool:
        deploying = pool.submit(database.transact, decide)
        assert decide.looked.wait(10)
        beside = pool.submit(other.transact, decision(here, second))
        early = wait([beside], timeout=0.5).done
        decide.go_on.set()
        deploying.result(20)
        beside.result(20)
    other.close()
    assert not early, "it was decided while the other one was"
    found = database.read(picture.look).builds
    states = [found[first].state, found[second].state]
    assert [State.deploying, State.deploy_pending] == states


def test_a_story_of_rows_breaks_no_rule(database: Database) -> None:
    """A deploy that is lost holds its environment, and everybody is told of every move."""
    build = database.transact(lambda conn: story.deploying(conn, story.push(conn, trigger="cli")))
    build = database.transact(lambda conn: story.make(conn, build, Move.lose))
    found = database.read(picture.look)
    violations = check(History(rows=found, house=story.HOUSE))
    # its tests were not played: of B1 nothing can be said
    assert [] == [str(violation) for violation in violations if violation.rule != "B1"]
    assert [build.id] == [p.holder for p in found.environments.values() if p.holder is not None]


def test_a_freeze_and_a_look_that_wait_for_each_other(
    postgres: str, here: context.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A freeze is answered while a look holds the build and is on its way to the same gates."""
    url = _make(postgres, f"order{os.getpid()}")
    database, other = Database(url), Database(url)
    build = database.transact(waits)
    looking, go_on, facts = threading.Event(), threading.Event(), gates.facts

    def late(*arguments: Any, **options: Any) -> gates.Facts:
        looking.set()
        assert go_on.wait(20)
        return facts(*arguments, **options)

    monkeypatch.setattr(gates, "facts", late)
    freeze = partial(operations.DO["freeze"], context=here, actor="ada", which="production")
    with ThreadPoolExecutor(2) as pool:
        deciding = pool.submit(database.transact, decision(here, build))
        assert looking.wait(10)
        asked = pool.submit(other.transact, freeze)
        answered = wait([asked], timeout=8).done  # the lock itself is given up after 10 s
        go_on.set()
        deciding.result(20)
        asked.result(20)
    found = database.read(picture.look).builds[build]
    database.close()
    other.close()
    assert answered, "each waited for what the other had"
    assert (State.deploy_pending, None) == (found.state, found.due_at)


def test_a_hold_and_a_newer_announcement_do_not_wait_for_each_other(
    postgres: str, here: context.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is undone as a deadlock's victim and made again."""
    url = _make(postgres, f"order{os.getpid()}b")
    database, other = Database(url), Database(url)
    build = database.transact(waits)
    made: Counter[str] = Counter()
    holding, go_on, lock = threading.Event(), threading.Event(), common.lock_environment

    def late(conn: Connection, build: Build) -> None:
        holding.set()
        assert go_on.wait(20)
        lock(conn, build)

    def hold(conn: Connection) -> None:
        made["hold"] += 1
        operations.DO["hold"](conn, here, "ada", id=build)

    def announce(conn: Connection) -> None:
        made["announcement"] += 1
        waits(conn)

    monkeypatch.setattr(common, "lock_environment", late)
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(database.transact, hold)
        assert holding.wait(10)
        announced = pool.submit(other.transact, announce)
        until(lambda: database.read(_waiting_for_a_lock), 20)
        go_on.set()
        asked.result(20)
        announced.result(20)
    found = database.read(picture.look)
    database.close()
    other.close()
    assert {"hold": 1, "announcement": 1} == made
    assert State.superseded is found.builds[build].state
    assert [] == check(History(rows=found, house=story.HOUSE))


def _waiting_for_a_lock(conn: Connection) -> bool:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(conn.exec_driver_sql(sql).scalar_one())
