"""
When a pipeline starts by itself: "30 2 * * * Europe/Berlin".

Five fields as in cron, then a time zone.  On the nights in which the clock
leaps, it is as in Debian's cron: a time that the clock leaps over comes right
after the leap, one that it shows twice comes once; what is to come every so
many minutes or hours comes by the time that passes.  Pure: moments are parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim, CronSimError

from leeroy import zones
from leeroy.errors import Invalid

_LIKE = 'write it like "30 2 * * * Europe/Berlin": minute, hour, day, month, weekday, time zone'
_FIELDS = 5


@dataclass(frozen=True)
class Schedule:
    """One schedule: `text` as it was written, `fields` as cron has them, and whose clock counts."""

    text: str
    fields: str
    zone: tzinfo


def parse(text: str) -> Schedule:
    """
    The schedule that *text* says.

    Raises:
        Invalid: It says none, or a moment that never comes; the sentence says how to write one.
    """
    words = text.split()
    if len(words) == _FIELDS:
        raise Invalid(f"{text!r} names no time zone; {_LIKE}")
    if len(words) != _FIELDS + 1:
        raise Invalid(f"{text!r} is no schedule; {_LIKE}")
    zone = zones.zone(words[-1])
    found = Schedule(" ".join(words), " ".join(words[:-1]), zone)
    try:
        never = next(moments(found, datetime(2026, 1, 1, tzinfo=UTC)), None) is None
    except CronSimError as exc:
        raise Invalid(f"{text!r} is no schedule: {str(exc).lower()}; {_LIKE}") from exc
    if never:
        raise Invalid(f"{text!r} never comes; {_LIKE}")
    return found


def moments(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Every moment of the schedule later than *after*, in order (UTC)."""
    last = after
    for there in CronSim(schedule.fields, after.astimezone(schedule.zone)):
        at = there.astimezone(UTC)
        # An hour that the clock shows twice may bring a moment that is over.
        if at > last:
            last = at
            yield at


def newest(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """The last moment later than *after* and not later than *until*; None: there is none."""
    found = None
    for at in moments(schedule, after):
        if at > until:
            break
        found = at
    return found


def upcoming(schedule: Schedule, after: datetime) -> datetime | None:
    """The first moment later than *after*; None: there is none any more."""
    return next(moments(schedule, after), None)


LATE = timedelta(days=1)
"""A moment that nobody was there for is made up for so long, and then forgotten."""
