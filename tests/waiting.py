"""Waiting for a condition, with a deadline: never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T], timeout: float = 10.0, what: str = "", pause: float = 0.01
) -> T:
    """What *condition* returned once it was true; fails when it is not within *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {timeout:g} s: {what or condition!r} (last: {value!r})"
            )
        time.sleep(pause)
