"""After a sleep, a network or a database that was away: every repository is asked once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from leeroy.catchup import loop
from leeroy.catchup.loop import CatchUp
from leeroy.clock import Clock
from leeroy.db.engine import Database
from leeroy.pipelines import Pipeline
from tests.db import story
from tests.db.test_catch_up import House, name
from tests.waiting import until


class Machine:
    """A catch-up whose clock and sleep are the test's; `made_up_for` counts the delivery lists."""

    def __init__(self, house: House, patch: pytest.MonkeyPatch) -> None:
        self.house, self.now, self.slept = house, 100.0, 0.0
        patch.setattr(loop, "_asleep", lambda: self.slept)
        clock = Clock(now=lambda: story.START, monotonic=lambda: self.now)
        context = replace(house.context, clock=clock)
        self.catch_up = CatchUp(house.database, context, lambda: {"shop": house.pipeline})
        self.catch_up._asks = house.repository
        self.made_up_for: list[str] = []
        patch.setattr(self.catch_up._again, "ask", self._ask)

    def _ask(self, pipelines: Sequence[Pipeline]) -> None:
        self.made_up_for += [one.name for one in pipelines]

    def turns(self, seconds: float, looks: int) -> None:
        """So many seconds later, after a turn: so many looks in all, each heard to its end."""
        self.now += seconds
        self.catch_up.turn()
        until(lambda: looks == self.house.repository.asked, 20, f"{looks} looks")
        until(lambda: not any(t.asking for t in self.catch_up._schedule.turns.values()), 20)
        self.catch_up.turn()
        assert looks == self.house.repository.asked, "once"


@pytest.fixture
def machine(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    made = Machine(House(database, tmp_path), monkeypatch)
    yield made
    made.catch_up.close()


def test_a_machine_that_slept_asks_once(machine: Machine) -> None:
    """The clock that goes on in sleep tells; what was pushed meanwhile is built at its head."""
    repository = machine.house.repository
    repository.push(name(1))
    machine.turns(0, looks=1)
    machine.turns(3600, looks=1)
    for number in (2, 3):
        repository.push(name(number))
    machine.slept += 60
    machine.turns(0, looks=1)
    machine.turns(loop.SETTLE_S, looks=2)
    assert [name(3)] == machine.house.commits()
    machine.turns(3600, looks=2)
    assert ["shop", "shop"] == machine.made_up_for, "the start, and the sleep"


def test_a_network_that_goes_in_the_middle(machine: Machine) -> None:
    """The look that failed is tried again; back again, it is asked at once, and nothing twice."""
    repository = machine.house.repository
    repository.push(name(1))
    machine.turns(0, looks=1)
    repository.push(name(2))
    repository.trouble = "no route to host"
    machine.catch_up.returned()
    machine.turns(loop.SETTLE_S, looks=2)
    assert [] == machine.house.commits()
    assert ["shop"] == machine.made_up_for, "not before the repository answers"
    repository.trouble = None
    machine.catch_up.returned()
    machine.turns(loop.SETTLE_S, looks=3)
    machine.catch_up.returned()
    machine.turns(loop.SETTLE_S, looks=4)
    assert [name(2)] == machine.house.commits()
    numbers, _ = machine.house.deliver(name(2))
    assert [1] == numbers, "its delivery, late, is answered with that build"
