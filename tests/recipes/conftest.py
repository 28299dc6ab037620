"""Each target with the shop that is deployed to it, and which of the stories are told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.recipes import kinds
from tests.recipes.shop import PICTURES, Shop
from tests.recipes.target import Target
from tests.servers import Leeroy

# Each build makes venvs of its own, so all of it takes minutes.  Every day each example is run
# from a push to its target; `make recipes` and `.ci/run` ask for its misfortunes as well.
WHOLE = "1" in (os.environ.get("LEEROY_TEST_RECIPES"), os.environ.get("LEEROY_TEST_REQUIRE_ALL"))
collect_ignore = [] if WHOLE else ["test_misfortunes.py", "test_stories.py"]


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    """The target of an example, named by its parameter."""
    with ExitStack() as ends:
        made = kinds.make(request.param, tmp_path / "target", tmp_path / "sshd", ends)
        ends.callback(made.close)
        ends.callback(made.release)
        yield made


@pytest.fixture
def shop(leeroy: Leeroy, target: Target) -> Iterator[Shop]:
    """The shipped example with its repository and target, running."""
    made = Shop(leeroy, target)
    yield made
    if PICTURES:
        for folder in (made.repo.bare, made.repo.work):
            shutil.rmtree(folder)
