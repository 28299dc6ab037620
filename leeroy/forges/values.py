"""What is told to a forge, in words that belong to none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Word(StrEnum):
    """How a build or a deploy stands; each forge's module has its own word for each."""

    waiting = "waiting"
    running = "running"
    passed = "passed"
    failed = "failed"
    error = "error"
    """It could not be tried, or nobody saw its end: no fault of the commit."""
    stopped = "stopped"


@dataclass(frozen=True, kw_only=True)
class Status:
    """
    What a commit's status is to say.

    `context` names it: the same commit and context are overwritten.  `ref` is
    the branch or tag that was pushed, without `refs/…/`.
    """

    commit: str
    context: str
    word: Word
    description: str
    url: str
    ref: str | None


@dataclass(frozen=True, kw_only=True)
class Comment:
    """
    What the one comment on a pull request is to say.

    `known` is its id, once there is one.  With `look` it may be there although
    its id is not known (an answer was lost): the one that holds `marker` is it.
    """

    number: int
    text: str
    marker: str
    known: str | None
    look: bool


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """
    One deploy to an environment; `known`, `look` and `marker` as in `Comment`.

    `ref` is the branch or tag, `log_url` the build's page.
    """

    commit: str
    environment: str
    word: Word
    description: str
    log_url: str
    marker: str
    known: str | None
    look: bool


@dataclass(frozen=True, kw_only=True)
class Hook:
    """A webhook to register: where deliveries go, and the secret that signs them."""

    url: str
    secret: str


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A webhook on the forge: its id, and whether it was made now or brought up to date."""

    id: str
    new: bool


@dataclass(frozen=True, kw_only=True)
class Failed:
    """
    A delivery of a pull request that did not get through, of the webhook `hook`.

    `id` is what the forge sends again; `key` is the id that every attempt of
    it shows, `at` when it was tried.  `told` is its body where the list has it.
    """

    hook: str
    id: str
    key: str
    at: datetime
    told: Mapping[str, Any] = field(default_factory=dict)


def cut(text: str, limit: int) -> str:
    """At most *limit* characters of the text; an ellipsis says that it was cut."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
