"""When an environment may be deployed to, also in the nights in which the clock leaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leeroy import windows, zones
from leeroy.errors import Invalid

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = windows.parse("Mon-Thu 09:00-16:00 Europe/Berlin")
MINUTE = timedelta(minutes=1)
LEAPING = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca",
    "America/Havana", "Asia/Beirut", "Pacific/Chatham", "Pacific/Apia", "America/Asuncion",
)  # fmt: skip


def berlin(text: str, fold: int = 0) -> datetime:
    """A moment by the clock in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


def shown(at: datetime | None) -> str:
    """A moment as the clock in Berlin shows it."""
    return "never" if at is None else zones.local(at, BERLIN)


@pytest.mark.parametrize(
    ("at", "open_", "opens"),
    [
        ("2026-11-26T08:59:59", False, "Thu 2026-11-26 09:00 CET"),
        ("2026-11-26T09:00", True, "Thu 2026-11-26 09:00 CET"),
        ("2026-11-26T15:59:59", True, "Thu 2026-11-26 15:59 CET"),
        ("2026-11-26T16:00", False, "Mon 2026-11-30 09:00 CET"),
        ("2026-11-27T12:00", False, "Mon 2026-11-30 09:00 CET"),
        ("2026-03-28T12:00", False, "Mon 2026-03-30 09:00 CEST"),
    ],
)
def test_office_hours(at: str, open_: bool, opens: str) -> None:
    """Open from the first minute to the last; the next opening by the clock on the wall."""
    moment = berlin(at)
    assert open_ is OFFICE.shows(moment)
    assert opens == shown(windows.opens([OFFICE], moment))


def test_a_window_across_midnight_belongs_to_the_evening() -> None:
    """Friday's night ends on Saturday morning; Saturday's own evening is not in it."""
    night = windows.parse("Fri 22:00-02:00 Europe/Berlin")
    for at, open_ in (
        ("2026-11-27T01:00", False),
        ("2026-11-27T22:00", True),
        ("2026-11-28T01:59", True),
        ("2026-11-28T02:00", False),
        ("2026-11-28T22:00", False),
    ):
        assert open_ is night.shows(berlin(at)), at
    inside = berlin("2026-11-28T01:00")
    assert "Fri 2026-11-27 22:00 CET" == shown(windows.open_since([night], inside))
    assert "Sat 2026-11-28 02:00 CET" == shown(windows.closes([night], inside))


def test_the_hour_that_the_clock_leaps_over_is_in_no_window() -> None:
    """29 March 2026: 02:00 is 03:00; a window that starts between opens at the leap."""
    within = windows.parse("02:15-02:45 Europe/Berlin")
    assert "Mon 2026-03-30 02:15 CEST" == shown(windows.opens([within], berlin("2026-03-29T01:00")))
    from_ = windows.parse("02:30-05:00 Europe/Berlin")
    assert "Sun 2026-03-29 03:00 CEST" == shown(windows.opens([from_], berlin("2026-03-29T01:00")))


def test_the_hour_that_the_clock_shows_twice_is_open_twice() -> None:
    """25 October 2026: 03:00 is 02:00 again."""
    within = windows.parse("02:15-02:45 Europe/Berlin")
    first, second = berlin("2026-10-25T02:30"), berlin("2026-10-25T02:30", fold=1)
    assert within.shows(first)
    assert within.shows(second)
    assert not within.shows(first + timedelta(minutes=20))
    assert berlin("2026-10-25T02:15", fold=1) == windows.opens([within], berlin("2026-10-25T02:50"))
    both = windows.parse("02:00-03:00 Europe/Berlin")
    assert timedelta(hours=2) == (windows.closes([both], first) or first) - (
        windows.open_since([both], second) or second
    )


def test_several_windows_are_one_stretch_where_they_meet() -> None:
    """It is open since Friday evening, whatever number of windows that is."""
    week = [windows.parse("Fri 18:00-24:00 UTC"), windows.parse("Sat,Sun 00:00-24:00 UTC")]
    sunday = datetime(2026, 11, 29, 12, tzinfo=UTC)
    assert datetime(2026, 11, 27, 18, tzinfo=UTC) == windows.open_since(week, sunday)
    assert datetime(2026, 11, 30, tzinfo=UTC) == windows.closes(week, sunday)


def test_always_open_was_never_opened() -> None:
    """No moment at which it opened, none at which it closes."""
    always = [windows.parse("Mon-Sun 00:00-24:00 Europe/Berlin")]
    now = berlin("2026-11-26T12:00")
    assert (None, None, now) == (
        windows.open_since(always, now), windows.closes(always, now), windows.opens(always, now),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("always", "write it like"),
        ("Mon-Thu 09:00-16:00", "names no time zone"),
        ("Mon-Thu 09:00-16:00 Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("Mon-Thu 09:00-16:00 europe/berlin", "did you mean 'Europe/Berlin'?"),
        ("Mon-Thu 09:00-16:00 Berlin", "did you mean 'Europe/Berlin'?"),
        ("Mon-Thu 09:00-16:00 Europe", "is no time zone"),
        ("Mon-Thu 09:00-16:00 ../../etc/passwd", "is no time zone"),
        ("Mon-Thu 09:00-16:00 /etc/passwd", "is no time zone"),
        ("Mon-Thr 09:00-16:00 UTC", "did you mean Thu?"),
        ("Monday 09:00-16:00 UTC", "did you mean Mon?"),
        ("Mo,,Tue 09:00-16:00 UTC", "is no day"),
        ("Mon 09:00-25:00 UTC", "25:00"),
        ("Mon 09:60-10:00 UTC", "09:60"),
        ("Mon 09:00-09:00 UTC", "never open"),
        ("Mon 24:00-09:00 UTC", "never open"),
    ],
)
def test_what_is_no_window_is_named(text: str, words: str) -> None:
    """With what is wrong, and what to write instead."""
    with pytest.raises(Invalid) as caught:
        windows.parse(text)
    assert words in str(caught.value)


def test_a_machine_without_time_zones_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to install; UTC needs nothing."""
    monkeypatch.setattr(zones, "ZoneInfo", _none)
    monkeypatch.setattr(zones, "available_timezones", set)
    with pytest.raises(Invalid, match="no time zone data; install the package tzdata"):
        windows.parse("Mon 09:00-16:00 Europe/Berlin")
    assert windows.parse("Mon 09:00-16:00 UTC").zone is UTC


def _none(name: str) -> None:
    raise zones.ZoneInfoNotFoundError(name)


TIMES = st.tuples(st.integers(0, 1439), st.integers(0, 1440)).filter(lambda t: t[0] != t[1])
DAYS = st.sampled_from(["", "Mon-Fri", "Sat,Sun", "Sun", "Fri-Mon", "Wed"])


def a_window(days: str, times: tuple[int, int], zone: str) -> windows.Window:
    start, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in times)
    return windows.parse(f"{days} {start}-{end} {zone}")


@settings(deadline=None, max_examples=150)
@given(
    zone=st.sampled_from(LEAPING),
    days=DAYS,
    times=st.lists(TIMES, min_size=1, max_size=2),
    day=st.integers(0, 365),
    minute=st.integers(0, 1439),
    year=st.sampled_from([2011, 2026]),
)
def test_the_next_opening_is_the_first_minute_that_is_open(
    zone: str, days: str, times: list[tuple[int, int]], day: int, minute: int, year: int
) -> None:
    """What is reckoned is what a person sees who looks at the clock every minute."""
    every = [a_window(days, pair, zone) for pair in times]
    now = datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=day, minutes=minute)
    opens, moment = windows.opens(every, now), now
    assert opens is not None and opens >= now
    assert windows.are_open(every, opens)
    while not windows.are_open(every, moment):
        moment += MINUTE
        assert moment <= now + timedelta(days=15)
    assert opens == moment
    since = windows.open_since(every, opens)
    assert since is None or (since <= opens and not windows.are_open(every, since - MINUTE))
