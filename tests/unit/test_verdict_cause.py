"""Whose part a failed checkout was: never that of a script, for none of theirs ran."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from leeroy.terms import Stage, StepState
from leeroy.verdict.cause import _failed
from tests.unit.test_follower import STEP

FAILED = replace(STEP, stage=Stage.checkout, name="checkout", state=StepState.failed, exit_code=1)


class Last:
    reason = "checkout exited 1"


@pytest.mark.parametrize(
    ("ended", "fault", "sentence"),
    [
        ({"reason": "there is no git repository at /nope on this machine; is the path right?"},
         "repository", "the checkout failed: there is no git repository at /nope on this"),
        ({}, "repository", "the checkout failed (exit 1)"),
        ({"reason": "timeout"}, "repository", "the checkout took longer than its timeout"),
        ({"reason": "git is not installed on this machine; install it"},
         "settings", "the checkout failed: git is not installed"),
        ({"reason": "fetching u failed: No space left on device; make room on this disk"},
         "host", "the checkout failed: fetching u failed: No space"),
        ({"signal": 9, "exit_code": None}, "host", "the checkout was killed by signal 9"),
        ({"stage": Stage.test}, "script", "the test checkout failed (exit 1)"),
    ],
)  # fmt: skip
def test_a_failed_checkout(ended: dict[str, Any], fault: str, sentence: str) -> None:
    """The server, the address, the login or the commit; or this machine, or what it lacks."""
    found = _failed(Last(), [replace(FAILED, **ended)], [])  # type: ignore[arg-type]
    assert fault == found.fault
    assert found.sentence.startswith(sentence)
