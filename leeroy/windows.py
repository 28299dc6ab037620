"""
When an environment may be deployed to: "Mon-Thu 09:00-16:00 Europe/Berlin".

A window is open while the clock on a wall of its zone shows a time in it;
nothing else is promised, so nothing has to be said about summer time: an hour
that the clock leaps over is in no window, one that it shows twice is open both
times.  Pure: the moment is a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from leeroy import zones
from leeroy.errors import Invalid

_DAY_M = 24 * 60
_AHEAD_D = 16
"""So many days are looked at: every weekday comes in them, also where a zone skips one."""
_LOOKS = re.compile(r"(?:(\S+)\s+)?([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})(?:\s+(\S+))?")
_LIKE = 'write it like "Mon-Thu 09:00-16:00 Europe/Berlin"'
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Window:
    """
    One window: `days` count from Monday, 0; `start` and `end` are minutes after midnight.

    An `end` that is not after the `start` is one of the next day; 1440 is midnight.
    """

    text: str
    days: frozenset[int]
    start: int
    end: int
    zone: tzinfo

    @property
    def length_s(self) -> float:
        """For how long it is open, by the clock on the wall."""
        return ((self.end - self.start) % _DAY_M or _DAY_M) * 60.0

    def shows(self, at: datetime) -> bool:
        """Whether the clock on the wall shows a time of the window."""
        there = at.astimezone(self.zone)
        minute, today = there.hour * 60 + there.minute, there.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        yesterday = (today - 1) % 7
        return (today in self.days and minute >= self.start) or (
            yesterday in self.days and minute < self.end
        )


def parse(text: str) -> Window:
    """
    The window that *text* says; without days it is every day's.

    Raises:
        Invalid: It says none; the sentence says what is wrong, and how to write one.
    """
    found = _LOOKS.fullmatch(text.strip())
    if found is None:
        raise Invalid(f"{text!r} is no window; {_LIKE}")
    days, zone = found[1], found[6]
    start, end = _minute(text, found[2], found[3]), _minute(text, found[4], found[5])
    if zone is None:
        raise Invalid(f"{text!r} names no time zone; {_LIKE}")
    if start in (end, _DAY_M):
        raise Invalid(f"{text!r} is never open; a whole day is 00:00-24:00")
    chosen = frozenset(range(7)) if days is None else _days(text, days)
    return Window(text, chosen, start, end, zones.zone(zone))


def _minute(text: str, hour: str, minute: str) -> int:
    found = int(hour) * 60 + int(minute)
    if int(minute) > 59 or found > _DAY_M:
        raise Invalid(f"{hour}:{minute} in {text!r} is no time of a day; {_LIKE}")
    return found


def _days(text: str, words: str) -> frozenset[int]:
    found: set[int] = set()
    for part in words.split(","):
        first, dash, last = part.partition("-")
        from_, to = _day(text, first), _day(text, last if dash else first)
        found |= {(from_ + n) % 7 for n in range((to - from_) % 7 + 1)}
    return frozenset(found)


def _day(text: str, word: str) -> int:
    short = [day.casefold() for day in zones.DAYS]
    if word.casefold() not in short:
        near = [d for d in zones.DAYS if word.casefold().startswith(d.casefold()[:2])]
        hint = f"did you mean {near[0]}?" if near and word else f"days are {', '.join(zones.DAYS)}"
        raise Invalid(f"{word!r} in {text!r} is no day; {hint}")
    return short.index(word.casefold())


def are_open(windows: Sequence[Window], at: datetime) -> bool:
    """Whether one of them is open."""
    return any(window.shows(at) for window in windows)


def opens(windows: Sequence[Window], at: datetime) -> datetime | None:
    """The first moment from *at* on at which one is open; None: there is none in two weeks."""
    return _first(windows, at, wanted=True)


def closes(windows: Sequence[Window], at: datetime) -> datetime | None:
    """The first moment from *at* on at which none is open; None: there is none in two weeks."""
    return _first(windows, at, wanted=False)


def open_since(windows: Sequence[Window], at: datetime) -> datetime | None:
    """When the stretch began in which one is open at *at*; None: none is, or it always was."""
    if not are_open(windows, at):
        return None
    for moment in sorted(_edges(windows, at), reverse=True):
        if moment <= at and not are_open(windows, moment - _TICK):
            return moment
    return None


def _first(windows: Sequence[Window], at: datetime, *, wanted: bool) -> datetime | None:
    if are_open(windows, at) is wanted:
        return at
    later = sorted(moment for moment in _edges(windows, at) if moment > at)
    return next((moment for moment in later if are_open(windows, moment) is wanted), None)


def _edges(windows: Sequence[Window], at: datetime) -> Iterator[datetime]:
    """Every moment around *at* at which something may change, and some at which nothing does."""
    for window in windows:
        today = at.astimezone(window.zone).date()
        for number in range(-_AHEAD_D, _AHEAD_D + 1):
            midnight = datetime.combine(today + timedelta(days=number), time())
            for minutes in (window.start, window.end):
                wall = midnight + timedelta(minutes=minutes)
                for fold in (0, 1):  # the clock may show it twice
                    yield wall.replace(tzinfo=window.zone, fold=fold).astimezone(UTC)
    for zone in {window.zone for window in windows}:
        yield from _leaps(zone, at)


def _leaps(zone: tzinfo, at: datetime) -> Iterator[datetime]:
    """The moments at which the clock of a zone leaps, to the second."""
    before = at.astimezone(UTC).replace(microsecond=0) - timedelta(days=_AHEAD_D)
    for _ in range(2 * _AHEAD_D + 1):
        after = before + timedelta(days=1)
        low, high = before, after
        if _offset(zone, low) != _offset(zone, high):
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
                if _offset(zone, middle) == _offset(zone, before):
                    low = middle
                else:
                    high = middle
            yield high
        before = after


def _offset(zone: tzinfo, at: datetime) -> timedelta | None:
    return at.astimezone(zone).utcoffset()
