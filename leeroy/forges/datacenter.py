"""
Bitbucket Data Center's (and Server's) REST API.

Sources: Atlassian's reference of 9.x; statuses have an address of their own
per repository since 7.4, and one per commit before that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from leeroy.forges.bitbucket import STATES as CLOUD_STATES
from leeroy.forges.place import Place
from leeroy.forges.steady import MOST_PAGES, inner, kept, paged, thing
from leeroy.forges.talk import Request, Talk, ask, made
from leeroy.forges.values import Comment, Hook, Registered, Status, Word, cut

KEY_LIMIT: Final = 255
DESCRIPTION_LIMIT: Final = 140
EVENTS: Final = (
    "repo:refs_changed",
    "pr:opened",
    "pr:from_ref_updated",
    "pr:modified",
    "pr:merged",
    "pr:declined",
    "pr:deleted",
)
DEPLOYS: Final = False
PAGE: Final = 100

_STATES: Final = MappingProxyType({**CLOUD_STATES, Word.stopped: "CANCELLED"})
_OLD_STATES: Final = MappingProxyType({**CLOUD_STATES, Word.stopped: "FAILED"})
_WRITE: Final = "the permission REPO_WRITE"


def headers(token: str) -> Mapping[str, str]:
    """What every request carries; without the last, a POST may be taken for a forged form."""
    return {
        "Authorization": f"Bearer {token}",
        "Accept": "application/json",
        "X-Atlassian-Token": "no-check",
    }


def status(place: Place, told: Status) -> Talk[None]:
    """Say how a commit stands, on an old server in the old way."""
    body = {
        "key": cut(told.context, KEY_LIMIT),
        "state": _STATES[told.word],
        "name": cut(told.context, KEY_LIMIT),
        "url": told.url,
        "description": cut(told.description, DESCRIPTION_LIMIT),
    }
    what, needs = "the commit status", "the permission REPO_READ"
    path = f"{_repo(place)}/commits/{told.commit}/builds"
    answer = yield from ask(place.request("POST", path, body, what=what, needs=needs), 404)
    if answer.status == 404:
        old = body | {"state": _OLD_STATES[told.word]}
        path = f"/build-status/1.0/commits/{told.commit}"
        yield from ask(place.request("POST", path, old, what=what, needs=needs))


def comment(place: Place, told: Comment) -> Talk[str]:
    """Make or edit the comment; its id."""
    what = f"the comment on pull request {told.number}"
    pull = f"{_repo(place)}/pull-requests/{told.number}"

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Request:
        return place.request(method, path, body, what=what, needs="the permission REPO_READ")

    def edit(known: str) -> Talk[bool]:
        # Two who edit at once would not see each other: the server asks for the version known.
        found = yield from ask(request("GET", f"{pull}/comments/{known}"), 404)
        if found.status == 404:
            return False
        body = {"text": told.text, "version": thing(found).get("version", 0)}
        yield from ask(request("PUT", f"{pull}/comments/{known}", body))
        return True

    def find() -> Talk[str | None]:
        found = yield from _first(
            lambda start: request("GET", f"{pull}/activities?limit={PAGE}&start={start}"),
            lambda one: told.marker in str(inner(one, "comment", "text")),
        )
        return None if found is None else str(inner(found, "comment", "id"))

    def create() -> Talk[str]:
        body = {"text": told.text}
        return (yield from made(request("POST", f"{pull}/comments", body)))

    return (yield from kept(told, edit, find, create))


def close(place: Place, number: int, commit: str) -> Talk[str | None]:
    """Decline a pull request whose head is still *commit*; else why it was left as it is."""
    path, what = f"{_repo(place)}/pull-requests/{number}", f"pull request {number}"
    found = thing((yield from ask(place.request("GET", path, what=what, needs=_WRITE))))
    if found.get("state") != "OPEN":
        return "it is closed already"
    if inner(found, "fromRef", "latestCommit") != commit:
        return "it has a newer commit"
    path = f"{path}/decline?version={found.get('version', 0)}"
    yield from ask(place.request("POST", path, {}, what=f"declining {what}", needs=_WRITE))
    return None


def register(place: Place, hook: Hook) -> Talk[Registered]:
    """Make the webhook, or bring the one with the same address up to date."""
    path = f"{_repo(place)}/webhooks"
    body = {
        "name": "Leeroy",
        "url": hook.url,
        "active": True,
        "events": list(EVENTS),
        "configuration": {"secret": hook.secret},
        "sslVerificationRequired": True,
    }

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Request:
        needs = "the permission REPO_ADMIN"
        return place.request(method, path, body, what="the webhook", needs=needs)

    known = yield from _first(
        lambda start: request("GET", f"{path}?limit={PAGE}&start={start}"),
        lambda one: one.get("url") == hook.url,
    )
    if known is not None:
        yield from made(request("PUT", f"{path}/{known['id']}", body))
        return Registered(id=str(known["id"]), new=False)
    return Registered(id=(yield from made(request("POST", path, body))), new=True)


def _first(
    listed: Callable[[int], Request], wanted: Callable[[dict[str, Any]], bool]
) -> Talk[dict[str, Any] | None]:
    """As `steady.first`, for pages that say where the next one starts."""
    start = 0
    for _ in range(MOST_PAGES):
        answer = yield from ask(listed(start))
        for one in paged(answer, "values"):
            if wanted(one):
                return one
        start = thing(answer).get("nextPageStart") or 0
        if not start:
            break
    return None


def _repo(place: Place) -> str:
    return f"/api/latest/projects/{place.owner}/repos/{place.name}"
