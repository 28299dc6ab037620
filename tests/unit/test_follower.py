"""A run whose folder is gone is told of only while nobody knows its end."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from leeroy.errors import NotFound
from leeroy.model import Step
from leeroy.scheduler.following import Follower
from leeroy.terms import Stage, StepState
from tests.waiting import until

STEP = Step(
    id=1, build_id=1, stage=Stage.test, name="unit", environment=None, attempt=1,
    state=StepState.running, run_id="1-1-aa", host="here", exit_code=None, signal=None, reason=None,
    raw_bytes=None, dropped_bytes=None, sha256=None, started_at=None, finished_at=None,
)  # fmt: skip


class Gone:
    """Stands for a runner that knows no run any more, and for rows that say *step* of it."""

    def __init__(self, step: Step | None) -> None:
        self.step = step
        self.asked = 0

    def read(self, *asked: Any) -> Any:
        if len(asked) == 1:  # the rows
            return self.step
        self.asked += 1
        raise NotFound(f"there is no run {asked[0]} below /runs")


class Spec:
    run_id, secrets, max_log = "1-1-aa", (), 1000


def followed(step: Step | None, caplog: pytest.LogCaptureFixture, looks: int) -> tuple[int, str]:
    """How often it looked, at least *looks* times, and what was said meanwhile."""
    there: Any = Gone(step)
    follower = Follower(there, there)
    with caplog.at_level(logging.WARNING):
        follower.follow(Spec(), 1)  # type: ignore[arg-type]
        follower.start()
        until(lambda: there.asked >= looks, 20)
        follower.close()
    return there.asked, caplog.text


@pytest.mark.parametrize(
    "step", [None, replace(STEP, state=StepState.passed), replace(STEP, run_id="1-2-bb")]
)
def test_a_run_that_is_recorded_is_forgotten(
    step: Step | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Its folder is rightly gone: not a word."""
    assert (1, "") == followed(step, caplog, 1)


def test_a_run_that_should_be_there_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """The rows say it runs, and its folder is gone: that is worth a line."""
    _, said = followed(STEP, caplog, 2)
    assert "the log of run 1-1-aa waits: there is no run 1-1-aa" in said
