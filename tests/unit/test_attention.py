"""What of the time that goes by counts as watched: not a stop, not a sleep, and little of slow work."""

from __future__ import annotations

import pytest

from leeroy.clock import Clock
from leeroy.scheduler import attention
from leeroy.scheduler.attention import AWAY_S, TICK_S, WORK_S, Attention
from tests.db.story import START


class Machine:
    """A process whose clocks are the test's."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.mono, self.slept = 1000.0, 50.0
        patch.setattr(attention, "asleep", lambda: self.slept)
        self.attention = Attention(Clock(lambda: START, lambda: self.mono))
        self.attention.begin(0.0)

    def wait(self, seconds: float, meant: float = TICK_S) -> float:
        self.mono += seconds
        return self.attention.waited(meant)

    def work(self, seconds: float) -> float:
        self.mono += seconds
        return self.attention.worked()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_waits_and_work_count(machine: Machine) -> None:
    for _ in range(8):
        machine.wait(TICK_S)
        machine.work(0.125)
    assert 3.0 == machine.attention.worked()
    assert not machine.attention.interrupted()


@pytest.mark.parametrize("stop", [0.5, 1.0, 2.0, 4.5])
def test_a_short_stop_counts_for_nothing(machine: Machine, stop: float) -> None:
    """Wherever in the wait it begins: the period is longer by all of it, and by a tick at most."""
    machine.wait(TICK_S)
    assert TICK_S == machine.wait(0.1 + stop, TICK_S)
    assert not machine.attention.interrupted()


@pytest.mark.parametrize("stop", [7.5, 9.0, 13.0, 3600.0])
def test_a_long_stop_interrupts(machine: Machine, stop: float) -> None:
    """Also in the middle of work; and once it is noted, all begins anew."""
    for pause in (machine.wait, machine.work):
        counted = machine.attention.worked()
        assert pause(stop) <= counted + WORK_S
        assert machine.attention.interrupted()
        machine.attention.resumed()
        assert not machine.attention.interrupted()


def test_a_sleep_interrupts(machine: Machine) -> None:
    """The clock that counts stands still in it; the one that goes on tells."""
    machine.slept += 600
    machine.wait(TICK_S)
    assert machine.attention.interrupted()
    machine.attention.resumed()
    assert 600 <= machine.attention.away_s < 601


def test_slow_work_ends_a_period_all_the_same(machine: Machine) -> None:
    """A database that always takes two seconds: a period of three lasts longer, not for ever."""
    for _ in range(6):
        machine.work(2.0)
    assert 6 * WORK_S == machine.attention.worked()
    assert not machine.attention.interrupted()


def test_a_long_wait_that_was_meant_is_no_stop(machine: Machine) -> None:
    """With nothing to watch the loop waits as long as it likes."""
    machine.wait(30.0, 30.0)
    assert not machine.attention.interrupted()
    machine.wait(30.0 + AWAY_S + 0.1, 30.0)
    assert machine.attention.interrupted()


def test_what_was_away_before_is_not_forgotten(machine: Machine) -> None:
    """Down for two hours, and the database goes before anything was looked at: still two hours."""
    machine.attention.begin(7200.0)
    machine.work(6.0)
    machine.attention.resumed()
    assert 7206.0 == machine.attention.away_s
    machine.attention.complete()
    machine.work(6.0)
    machine.attention.resumed()
    assert 6.0 == machine.attention.away_s
