"""
Bitbucket Cloud's REST API, version 2.0.

Sources: Atlassian's reference, and the limits others ran into
(buildbot#7049: keys of 40 characters; bitbucket-branch-source#192: 255).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from leeroy.forges.place import Place
from leeroy.forges.steady import MOST_PAGES, inner, kept, paged, thing
from leeroy.forges.talk import Request, Talk, ask, made
from leeroy.forges.values import Comment, Hook, Registered, Status, Word, cut

KEY_LIMIT: Final = 40
NAME_LIMIT: Final = 255
DESCRIPTION_LIMIT: Final = 140
EVENTS: Final = (
    "repo:push",
    "pullrequest:created",
    "pullrequest:updated",
    "pullrequest:fulfilled",
    "pullrequest:rejected",
)
DEPLOYS: Final = False
PAGE: Final = 100

STATES: Final = MappingProxyType(
    {
        Word.waiting: "INPROGRESS",
        Word.running: "INPROGRESS",
        Word.passed: "SUCCESSFUL",
        Word.failed: "FAILED",
        Word.error: "FAILED",
        Word.stopped: "STOPPED",
    }
)


def headers(token: str) -> Mapping[str, str]:
    """What every request carries: an access token, or `email:token` for a person's API token."""
    if ":" in token and "@" in token.partition(":")[0]:
        coded = base64.b64encode(token.encode()).decode()
        return {"Authorization": f"Basic {coded}", "Accept": "application/json"}
    return {"Authorization": f"Bearer {token}", "Accept": "application/json"}


def key(context: str) -> str:
    """What tells a status from another: the context, or its SHA-1 where that is too long."""
    if len(context) <= KEY_LIMIT:
        return context
    return hashlib.sha1(context.encode(), usedforsecurity=False).hexdigest()


def status(place: Place, told: Status) -> Talk[None]:
    """Say how a commit stands."""
    body = {
        "key": key(told.context),
        "state": STATES[told.word],
        "name": cut(told.context, NAME_LIMIT),
        "url": told.url,
        "description": cut(told.description, DESCRIPTION_LIMIT),
    }
    if told.ref is not None:
        body["refname"] = told.ref
    yield from made(
        place.request(
            "POST",
            f"{_repo(place)}/commit/{told.commit}/statuses/build",
            body,
            what="the commit status",
            needs="the scope repository (read)",
        ),
        "key",
    )


def comment(place: Place, told: Comment) -> Talk[str]:
    """Make or edit the comment; its id."""
    what = f"the comment on pull request {told.number}"
    path = f"{_repo(place)}/pullrequests/{told.number}/comments"
    body = {"content": {"raw": told.text}}

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Request:
        needs = "the scope pullrequest:write"
        return place.request(method, path, body, what=what, needs=needs)

    def edit(known: str) -> Talk[bool]:
        answer = yield from ask(request("PUT", f"{path}/{known}", body), 404, 410)
        return answer.status < 300

    def find() -> Talk[str | None]:
        found = yield from _first(
            lambda number: request("GET", f"{path}?sort=-created_on&pagelen={PAGE}&page={number}"),
            lambda one: told.marker in str(inner(one, "content", "raw")) and not one.get("deleted"),
        )
        return None if found is None else str(found["id"])

    def create() -> Talk[str]:
        return (yield from made(request("POST", path, body)))

    return (yield from kept(told, edit, find, create))


def close(place: Place, number: int, commit: str) -> Talk[str | None]:
    """Decline a pull request whose head is still *commit*; else why it was left as it is."""
    path, what = f"{_repo(place)}/pullrequests/{number}", f"pull request {number}"
    needs = "the scope pullrequest:write"
    found = thing((yield from ask(place.request("GET", path, what=what, needs=needs))))
    if found.get("state") != "OPEN":
        return "it is closed already"
    head = inner(found, "source", "commit", "hash")  # 12 of its digits
    if not isinstance(head, str) or len(head) < 7 or not commit.startswith(head):
        return "it has a newer commit"
    request = place.request("POST", f"{path}/decline", what=f"declining {what}", needs=needs)
    yield from ask(request)
    return None


def register(place: Place, hook: Hook) -> Talk[Registered]:
    """Make the webhook, or bring the one with the same address up to date."""
    path = f"{_repo(place)}/hooks"
    body = {
        "description": "Leeroy",
        "url": hook.url,
        "active": True,
        "secret": hook.secret,
        "events": list(EVENTS),
    }

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Request:
        return place.request(method, path, body, what="the webhook", needs="the scope webhook")

    known = yield from _first(
        lambda number: request("GET", f"{path}?pagelen={PAGE}&page={number}"),
        lambda one: one.get("url") == hook.url,
    )
    if known is not None:
        uuid = str(known["uuid"])
        yield from made(request("PUT", f"{path}/{quote(uuid, safe='')}", body), "uuid")
        return Registered(id=uuid, new=False)
    new = yield from made(request("POST", path, body), "uuid")
    return Registered(id=new, new=True)


def _first(
    listed: Callable[[int], Request], wanted: Callable[[dict[str, Any]], bool]
) -> Talk[dict[str, Any] | None]:
    """As `steady.first`, for pages that say themselves whether another one follows."""
    for number in range(1, MOST_PAGES + 1):
        answer = yield from ask(listed(number))
        for one in paged(answer, "values"):
            if wanted(one):
                return one
        if not thing(answer).get("next"):
            break
    return None


def _repo(place: Place) -> str:
    return f"/repositories/{place.owner}/{place.name}"
