"""By the clock on the wall: deploys wait for their window, and schedules start builds."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.clocks import WallClock
from tests.servers import Leeroy
from tests.sinks import json_sink
from tests.waiting import until

OPENS = datetime(2026, 1, 2, 8, tzinfo=UTC)  # a Friday, 09:00 in Berlin
WINDOW = 'windows = ["Fri 09:00-16:00 Europe/Berlin"]'
TELL = '[[notify]]\nto = "env:OPS"\non = ["deploy_pending"]\n'


def at(leeroy: Leeroy, moment: datetime) -> WallClock:
    clock = WallClock(leeroy.folder)
    clock.set(moment)
    leeroy.env |= clock.env
    return clock


def why(leeroy: Leeroy, build: int) -> str:
    return leeroy.cli("why", str(build)).stdout


def test_a_deploy_waits_for_its_window_and_only_the_newest_goes(either: Leeroy) -> None:
    """Pushed on Thursday: why says until when; on Friday it is told again, and one goes."""
    leeroy = either
    clock = at(leeroy, OPENS - timedelta(hours=12))
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        repo = leeroy.shop(
            deploy='echo "$LEEROY_BUILD" >> {world}/deployed',
            more=f'grace = "1s"\n{WINDOW}',
            tail=TELL,
        )
        leeroy.start()
        older = leeroy.push(repo)
        leeroy.until_state(older, "deploy_pending")
        assert "its window opens Fri 2026-01-02 09:00 CET" in why(leeroy, older)
        repo.commit("Newer", a="1")
        newer = leeroy.push(repo)
        leeroy.until_state(newer, "deploy_pending")
        answer = leeroy.cli("approve", str(newer)).stdout
        assert "approved" in answer and "its window opens Fri 2026-01-02 09:00 CET" in answer
        assert "its window opens" in why(leeroy, newer)
        repo.commit("Newest", a="2")
        newest = leeroy.push(repo)
        leeroy.until_state(newest, "deploy_pending")
        until(lambda: told(sink.received, newest), 10)

        leeroy.restart()
        assert "its window opens" in why(leeroy, newest)
        clock.set(OPENS - timedelta(seconds=2))
        leeroy.until_state(newest, "done", timeout=30)
        deploy = next(e for e in leeroy.ask("events", id=newest) if e["move"] == "deploy")
        assert OPENS + timedelta(seconds=1) <= datetime.fromisoformat(deploy["at"])
        assert 2 == leeroy.moves(newest).count("announce")
        until(lambda: 2 == told(sink.received, newest), 10, "it is told when it opens")
    assert ["superseded"] * 2 == [leeroy.state(one) for one in (older, newer)]
    assert [str(newest)] == leeroy.marks("deployed")


def told(received: list[Any], build: int) -> int:
    return sum(f"#{build} " in message["title"] + message["message"] for message in received)


NIGHTLY = """
schedule = "30 2 * * * Europe/Berlin"
untested = true
[[deploy]]
environment = "e"
grace = "0s"
run = "echo $LEEROY_BUILD >> {world}/ran"
"""
# It comes after the leap: once it has, the schedules were looked at then.
LATER = """
schedule = "30 1 * * * UTC"
[[test]]
name = "unit"
run = "true"
"""


def in_force(leeroy: Leeroy) -> int:
    """How many schedules are being looked at: they count from then on."""
    with contextlib.closing(sqlite3.connect(leeroy.folder / "var" / "leeroy.db")) as database:
        [(found,)] = database.execute("SELECT count(*) FROM schedules")
    return int(found)


@pytest.mark.parametrize(
    ("night", "comes", "again"),
    [
        ("2026-03-29T00:59:57Z", "Sun 2026-03-29 03:00 CEST", "2026-03-29T01:30:05Z"),
        ("2026-10-25T00:29:57Z", "Sun 2026-10-25 02:30 CEST", "2026-10-25T01:30:05Z"),
    ],
    ids=["the clock leaps over it", "the clock shows it twice"],
)
def test_a_schedule_on_the_nights_of_summer_time(
    leeroy: Leeroy, night: str, comes: str, again: str
) -> None:
    """Half past two comes once, and its build is run to its end; a restart brings it not again."""
    clock = at(leeroy, datetime.fromisoformat(night) - timedelta(hours=1))
    leeroy.pipeline(NIGHTLY, "nightly")
    leeroy.pipeline(LATER, "later")
    leeroy.start()
    until(lambda: 2 == in_force(leeroy), 20, "both schedules are in force")
    clock.set(datetime.fromisoformat(night))
    [build] = until(lambda: leeroy.ask("list", pipeline="nightly"), 30)
    assert "done" == leeroy.until_over(build["id"])
    assert "schedule" == build["trigger"]
    first = leeroy.ask("events", id=build["id"])[0]
    assert f"30 2 * * * Europe/Berlin: {comes}" == first["reason"]

    leeroy.restart()
    clock.set(datetime.fromisoformat(again))
    until(lambda: leeroy.ask("list", pipeline="later"), 30, "the schedules are looked at")
    assert [build["id"]] == [one["id"] for one in leeroy.ask("list", pipeline="nightly")]
    assert [str(build["id"])] == leeroy.marks("ran")
