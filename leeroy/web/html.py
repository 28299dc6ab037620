"""
Pages made of templates.

Everything that strangers wrote (branches, titles, logs) is escaped by the
template engine, and what would turn or hide text is taken out first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from leeroy.durations import sized
from leeroy.notify.words import one_line, plain

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).resolve().parent


def page(template: str, facts: Mapping[str, Any], status: int = 200) -> Response:
    """A page of the site."""
    text = templates().get_template(template).render(facts)
    return Response(text, status_code=status, media_type="text/html; charset=utf-8")


@cache
def templates() -> Environment:
    """The template engine; made at the first page, for it takes a while to import."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"plain": plain, "short": short, "line": line, "ago": ago, "instant": instant}
    made.filters["sized"] = sized
    return made


def short(commit: str | None) -> str:
    """A commit's first letters."""
    return (commit or "")[:8]


def line(text: str | None, limit: int = 120) -> str:
    """The first line of a text, not too long."""
    return one_line((text or "").strip().partition("\n")[0], limit)


def instant(at: datetime | None) -> str:
    """A moment for the `datetime` of a <time>."""
    return "" if at is None else at.astimezone(UTC).isoformat(timespec="seconds")


def ago(at: datetime | None) -> str:
    """A moment for people: how long ago."""
    if at is None:
        return ""
    seconds = (datetime.now(UTC) - at).total_seconds()
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
