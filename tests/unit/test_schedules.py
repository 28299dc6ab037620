"""When a pipeline starts by itself, also on the nights in which the clock leaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leeroy import pipelines, schedules, zones
from leeroy.errors import Invalid

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = schedules.parse("30 2 * * * Europe/Berlin")


def berlin(text: str, fold: int = 0) -> datetime:
    """A moment by the clock in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


def shown(schedule: schedules.Schedule, after: datetime, count: int) -> list[str]:
    found = islice(schedules.moments(schedule, after), count)
    return [zones.local(at, BERLIN) for at in found]


def test_a_missing_time_comes_once_at_the_leap() -> None:
    """29 March 2026: 02:00 is 03:00."""
    assert [
        "Sat 2026-03-28 02:30 CET", "Sun 2026-03-29 03:00 CEST", "Mon 2026-03-30 02:30 CEST",
    ] == shown(NIGHT, berlin("2026-03-27T12:00"), 3)  # fmt: skip


def test_a_time_that_comes_twice_counts_once() -> None:
    """25 October 2026: 03:00 is 02:00 again; whoever asks in between is not told of the past."""
    first = berlin("2026-10-25T02:30")
    assert ["Sun 2026-10-25 02:30 CEST", "Mon 2026-10-26 02:30 CET"] == shown(
        NIGHT, berlin("2026-10-24T12:00"), 2
    )
    for later in (first, berlin("2026-10-25T02:10", fold=1), berlin("2026-10-25T02:45", fold=1)):
        assert ["Mon 2026-10-26 02:30 CET"] == shown(NIGHT, later, 1)


def test_every_quarter_of_an_hour_comes_by_the_time_that_passes() -> None:
    """A day of 25 hours has a hundred of them."""
    quarter = schedules.parse("*/15 * * * * Europe/Berlin")
    found = list(islice(schedules.moments(quarter, berlin("2026-10-24T23:59")), 100))
    assert all(b - a == timedelta(minutes=15) for a, b in pairwise(found))
    assert berlin("2026-10-25T23:45") == found[-1]


def test_the_newest_of_those_that_were_missed() -> None:
    """Later than the one bound, and not later than the other."""
    noon = schedules.parse("0 12 * * * UTC")
    day = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert day == schedules.newest(noon, day - timedelta(days=9), day)
    assert day == schedules.newest(noon, day - timedelta(seconds=1), day + timedelta(hours=23))
    assert schedules.newest(noon, day, day + timedelta(hours=23)) is None
    assert day + timedelta(days=1) == schedules.upcoming(noon, day)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nightly", "is no schedule"),
        ("30 2 * * *", "names no time zone"),
        ("30 2 * * * Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("30 25 * * * UTC", "bad hour"),
        ("60 2 * * * UTC", "bad minute"),
        ("0 30 2 * * * UTC", "is no schedule"),
        ("0 0 31 2 * UTC", "bad day-of-month"),
        ("*/0 * * * * UTC", "bad minute"),
    ],
)
def test_what_is_no_schedule_is_named(text: str, words: str) -> None:
    """With what is wrong, and what to write instead; `check` names the line."""
    with pytest.raises(Invalid) as caught:
        schedules.parse(text)
    assert words in str(caught.value)
    file = f'schedule = ["0 4 * * * UTC", "{text}"]\n[[test]]\nname = "a"\nrun = "true"\n'
    found, mistakes = pipelines.read(file, name="shop", file="shop.toml")
    assert found is None
    assert ("schedule", 1) == (mistakes[0].key, mistakes[0].line)


def test_one_or_several() -> None:
    """The same one twice counts once."""
    tail = '\n[[test]]\nname = "a"\nrun = "true"\n'
    for text, expected in (
        ('schedule = "0  4 * * * UTC"', ["0 4 * * * UTC"]),
        (
            'schedule = ["0 4 * * * UTC", "0 4 * * *  UTC", "0 5 * * * UTC"]',
            ["0 4 * * * UTC", "0 5 * * * UTC"],
        ),
        ("", []),
    ):
        found = pipelines.parse(text + tail, name="shop", file="shop.toml")
        assert expected == [one.text for one in found.schedules]


@settings(deadline=None, max_examples=100)
@given(
    zone=st.sampled_from(["Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "UTC"]),
    fields=st.sampled_from(["30 2 * * *", "0 * * * *", "*/20 1-3 * * *", "15 0,1,2,3 * * 0"]),
    hours=st.integers(0, 24 * 365),
)
def test_moments_only_go_forward(zone: str, fields: str, hours: int) -> None:
    """And asking again from each of them gives the rest, so a restart changes nothing."""
    schedule = schedules.parse(f"{fields} {zone}")
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    found = list(islice(schedules.moments(schedule, start), 6))
    assert sorted(set(found)) == found and found[0] > start
    for one, following in pairwise(found):
        assert following == schedules.upcoming(schedule, one)
