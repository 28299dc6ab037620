"""Reading when something may happen, or happens by itself: `windows` and `schedule`."""

from __future__ import annotations

from leeroy import durations, schedules, windows
from leeroy.errors import Invalid
from leeroy.schedules import Schedule
from leeroy.toml import Section
from leeroy.windows import Window


def windows_of(section: Section) -> tuple[Window, ...]:
    """When a deploy may start; empty: always."""
    found: list[Window] = []
    for text in section.texts("windows") or ():
        try:
            found.append(windows.parse(text))
        except Invalid as exc:
            section.wrong("windows", str(exc))
    if section.data.get("windows") == []:
        section.wrong("windows", "is empty, so it would never be open; leave it out for always")
    grace_s = section.measured("grace", durations.seconds, 30.0)
    for window in found:
        if window.length_s <= grace_s:
            text = (
                f"{window.text!r} is not longer than the grace period, so nothing can start in it"
            )
            section.wrong("windows", text)
    return tuple(found)


def schedules_of(root: Section) -> tuple[Schedule, ...]:
    """When a pipeline starts by itself: one text, or a list of them; each counts once."""
    if isinstance(root.data.get("schedule"), list):
        texts = root.texts("schedule") or ()
    else:
        one = root.text("schedule")
        texts = () if one is None else (one,)
    found: dict[str, Schedule] = {}
    for text in texts:
        try:
            schedule = schedules.parse(text)
        except Invalid as exc:
            root.wrong("schedule", str(exc))
            continue
        found[schedule.text] = schedule
    return tuple(found.values())
