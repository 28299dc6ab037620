"""What is the same on every forge: one comment that stays one, and lists read calmly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from leeroy.forges.talk import Answer, Talk
from leeroy.forges.values import Comment


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


def paged(answer: Answer, key: str | None = None) -> list[dict[str, Any]]:
    """The objects of a list, in the body itself or at *key*; empty for anything else."""
    value = answer.json()
    if key is not None:
        value = value.get(key) if isinstance(value, dict) else None
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def identity(answer: Answer, key: str = "id") -> str:
    """The id of what was made; empty where the forge gave none."""
    value = answer.json()
    return str(value.get(key, "")) if isinstance(value, dict) else ""


def thing(answer: Answer) -> dict[str, Any]:
    """The object of an answer; empty for anything else."""
    value = answer.json()
    return value if isinstance(value, dict) else {}


def inner(value: dict[str, Any], *keys: str) -> Any:
    """What stands at the end of a way of keys; None where it breaks off."""
    found: Any = value
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found
