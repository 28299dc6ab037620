"""Time zones by their names, as people write them."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from leeroy.errors import Invalid

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def zone(name: str) -> tzinfo:
    """
    The zone of that name ("Europe/Berlin", "UTC").

    Raises:
        Invalid: There is none, or this machine knows none at all; the sentence says what to do.
    """
    if name == "UTC":
        return UTC  # known without any data
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise Invalid(_unknown(name)) from exc


def _unknown(name: str) -> str:
    known = available_timezones()
    if not known:
        return (
            f"{name!r} cannot be looked up: this machine has no time zone data; install the "
            "package tzdata (of the system, or `pip install tzdata`), or write UTC"
        )
    wanted = name.casefold()
    fitting = sorted(k for k in known if wanted in (k.casefold(), k.rpartition("/")[2].casefold()))
    near = fitting or difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else 'write one like "Europe/Berlin", or UTC'
    return f"{name!r} is no time zone; {hint}"


def local(at: datetime, where: tzinfo) -> str:
    """A moment for people there: "Mon 2026-11-30 09:00 CET"."""
    there = at.astimezone(where)
    return f"{DAYS[there.weekday()]} {there:%Y-%m-%d %H:%M} {there.tzname()}"
