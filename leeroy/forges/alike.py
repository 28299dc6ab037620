"""
What GitHub's REST API and Gitea's have in common, which learned it from GitHub's.

Each forge's module says what differs: the rights of a token, and whether a
list of comments has pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from leeroy.forges.place import Place
from leeroy.forges.steady import first, inner, kept, thing
from leeroy.forges.talk import Request, Talk, ask, made
from leeroy.forges.values import Comment, Status, Word, cut

DESCRIPTION_LIMIT: Final = 140
"""GitHub answers a longer one with 422."""

STATES: Final = MappingProxyType(
    {
        Word.waiting: "pending",
        Word.running: "pending",
        Word.passed: "success",
        Word.failed: "failure",
        Word.error: "error",
        # Gitea's "warning" would count as good where a status is required, and its "skipped" is
        # unknown to old ones; GitHub has neither.
        Word.stopped: "error",
    }
)


def status(place: Place, told: Status, needs: str) -> Talk[None]:
    """Say how a commit stands."""
    body = {
        "state": STATES[told.word],
        "target_url": told.url,
        "description": cut(told.description, DESCRIPTION_LIMIT),
        "context": told.context,
    }
    path = f"{repo(place)}/statuses/{told.commit}"
    yield from made(place.request("POST", path, body, what="the commit status", needs=needs))


def comment(place: Place, told: Comment, needs: str, page: int | None) -> Talk[str]:
    """Make or edit the comment; its id.  *page*: so many are listed at once, None: all of them."""
    what = f"the comment on pull request {told.number}"
    of_pull = f"{repo(place)}/issues/{told.number}/comments"

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Request:
        return place.request(method, path, body, what=what, needs=needs)

    def edit(known: str) -> Talk[bool]:
        path = f"{repo(place)}/issues/comments/{known}"
        answer = yield from ask(request("PATCH", path, {"body": told.text}), 404, 410)
        return answer.status < 300

    def find() -> Talk[str | None]:
        def listed(number: int) -> Request:
            return request("GET", f"{of_pull}?per_page={page}&page={number}" if page else of_pull)

        found = yield from first(listed, lambda one: told.marker in str(one.get("body")), page)
        return None if found is None else str(found["id"])

    def create() -> Talk[str]:
        return (yield from made(request("POST", of_pull, {"body": told.text})))

    return (yield from kept(told, edit, find, create))


def close(place: Place, number: int, commit: str, needs: str) -> Talk[str | None]:
    """Close a pull request whose head is still *commit*; else why it was left as it is."""
    path, what = f"{repo(place)}/pulls/{number}", f"pull request {number}"
    found = thing((yield from ask(place.request("GET", path, what=what, needs=needs))))
    if found.get("state") != "open":
        return "it is closed already"
    if inner(found, "head", "sha") != commit:
        return "it has a newer commit"
    body = {"state": "closed"}
    yield from ask(place.request("PATCH", path, body, what=f"closing {what}", needs=needs))
    return None


def repo(place: Place) -> str:
    """The path of a repository's own part of the API."""
    return f"/repos/{place.owner}/{place.name}"
