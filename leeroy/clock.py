"""The time, as a parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Clock:
    """
    The time, as a parameter.

    `now` gives wall time (aware, UTC) for people and records; `monotonic`
    gives seconds that no clock change moves, for every duration that decides.
    """

    now: Callable[[], datetime]
    monotonic: Callable[[], float]


def utc_now() -> datetime:
    """The wall time, aware, in UTC."""
    return datetime.now(UTC)
