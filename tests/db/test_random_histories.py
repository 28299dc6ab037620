"""Random histories: what one server decides, what people ask and what breaks, in any order."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    run_state_machine_as_test,
)

from tests.conftest import _make
from tests.db.histories.rules import Story

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
EVERYDAY = settings(
    max_examples=300 if TORTURE else 8,
    stateful_step_count=150 if TORTURE else 60,
    deadline=None,
    derandomize=not TORTURE,
    phases=[Phase.generate, Phase.shrink] if TORTURE else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
Story.TestCase.settings = EVERYDAY
TestStory = Story.TestCase


def test_postgresql_tells_the_same_stories(postgres: str) -> None:
    """The rules hold on the other kind of database, too."""
    numbers = itertools.count(1)

    def address(_: Path) -> str:
        return _make(postgres, f"random{os.getpid()}_{next(numbers)}")

    run_state_machine_as_test(
        lambda: Story(address),
        settings=settings(EVERYDAY, max_examples=60 if TORTURE else 3, database=None),
    )
