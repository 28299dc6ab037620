"""What is the same on every forge: one comment that stays one, and lists read calmly."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from leeroy.forges.talk import Answer, Request, Talk, ask
from leeroy.forges.values import Comment

MOST_PAGES: Final = 20
"""So many pages of a list are read; what is wanted is among the newest."""
_NEXT: Final = re.compile(r'<([^<>]*)>\s*;[^,<]*\brel="?next"?')
_HOPELESS: Final = frozenset({400, 413})
"""What Leeroy answers to a body that will never be a delivery, however often it comes."""


def kept(
    told: Comment,
    edit: Callable[[str], Talk[bool]],
    find: Callable[[], Talk[str | None]],
    create: Callable[[], Talk[str]],
) -> Talk[str]:
    """
    Edit the comment there is, or make it; its id.

    `edit` gives False where the comment is gone: somebody deleted it, so the
    next news make a new one.
    """
    known = told.known
    if known is None and told.look:
        known = yield from find()
    if known is not None and (yield from edit(known)):
        return known
    return (yield from create())


def first(
    listed: Callable[[int], Request],
    wanted: Callable[[dict[str, Any]], bool],
    page: int | None,
) -> Talk[dict[str, Any] | None]:
    """
    The first object that is *wanted* in a list of numbered pages; None when there is none.

    `listed` asks for a page, from 1; one with less than *page* objects is the
    last (None: there is but one).
    """
    for number in range(1, MOST_PAGES + 1):
        found = paged((yield from ask(listed(number))))
        for one in found:
            if wanted(one):
                return one
        if page is None or len(found) < page:
            break
    return None


def paged(answer: Answer, key: str | None = None) -> list[dict[str, Any]]:
    """The objects of a list, in the body itself or at *key*; empty for anything else."""
    value = answer.json()
    if key is not None:
        value = value.get(key) if isinstance(value, dict) else None
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def thing(answer: Answer) -> dict[str, Any]:
    """The object of an answer; empty for anything else."""
    value = answer.json()
    return value if isinstance(value, dict) else {}


def inner(value: Mapping[str, Any], *keys: str) -> Any:
    """What stands at the end of a way of keys; None where it breaks off."""
    found: Any = value
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def following(answer: Answer, key: str) -> str | None:
    """What `Link` says of the next page at *key*, such as `cursor`; None on the last page."""
    found = _NEXT.search(answer.headers.get("link", ""))
    query = parse_qs(urlsplit(found[1]).query) if found else {}
    return query.get(key, [None])[-1]


def instant(text: Any) -> datetime | None:
    """A time as the forges write it (`…Z`, or GitLab's `… UTC`); None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.replace(" UTC", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def lost(status: object) -> bool:
    """Whether a delivery answered with *status* (a code, or words) is worth another try."""
    text = str(status)
    code = int(text) if re.fullmatch(r"[0-9]{3}", text) else 0
    return not 200 <= code < 400 and code not in _HOPELESS
