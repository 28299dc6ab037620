"""
Gitea's REST API; Forgejo's (Codeberg's) is the same.

Sources: gitea's `modules/structs` (CreateStatusOption, CreateHookOption,
EditPullRequestOption) and `routers/api/v1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from leeroy.forges.place import Place
from leeroy.forges.steady import identity, inner, kept, paged, thing
from leeroy.forges.talk import Request, Talk, ask
from leeroy.forges.values import Comment, Hook, Registered, Status, Word, cut

DESCRIPTION_LIMIT: Final = 140
EVENTS: Final = ("push", "delete", "pull_request", "pull_request_sync")
DEPLOYS: Final = False
PAGE: Final = 50
"""The most that a server gives at once, unless its owner changed MAX_RESPONSE_ITEMS."""
MOST_PAGES: Final = 20

_STATES: Final = MappingProxyType(
    {
        Word.waiting: "pending",
        Word.running: "pending",
        Word.passed: "success",
        Word.failed: "failure",
        Word.error: "error",
        # "warning" would count as good where a status is required, "skipped" is unknown to old ones
        Word.stopped: "error",
    }
)


def headers(token: str) -> Mapping[str, str]:
    """What every request carries."""
    return {"Authorization": f"token {token}", "Accept": "application/json"}


def status(place: Place, told: Status) -> Talk[None]:
    """Say how a commit stands."""
    body = {
        "state": _STATES[told.word],
        "target_url": told.url,
        "description": cut(told.description, DESCRIPTION_LIMIT),
        "context": told.context,
    }
    yield from ask(
        place.request(
            "POST",
            f"{_repo(place)}/statuses/{told.commit}",
            body,
            what="the commit status",
            needs="write:repository",
        )
    )


def comment(place: Place, told: Comment) -> Talk[str]:
    """Make or edit the comment; its id."""
    what = f"the comment on pull request {told.number}"
    of_pull = f"{_repo(place)}/issues/{told.number}/comments"

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Request:
        return place.request(method, path, body, what=what, needs="write:issue")

    def edit(known: str) -> Talk[bool]:
        path = f"{_repo(place)}/issues/comments/{known}"
        answer = yield from ask(request("PATCH", path, {"body": told.text}), 404)
        return answer.status < 300

    def find() -> Talk[str | None]:
        # The whole list comes at once: this list knows no pages.
        for one in paged((yield from ask(request("GET", of_pull)))):
            if told.marker in str(one.get("body")):
                return str(one["id"])
        return None

    def create() -> Talk[str]:
        return identity((yield from ask(request("POST", of_pull, {"body": told.text}))))

    return (yield from kept(told, edit, find, create))


def close(place: Place, number: int, commit: str) -> Talk[str | None]:
    """Close a pull request whose head is still *commit*; else why it was left as it is."""
    path, what = f"{_repo(place)}/pulls/{number}", f"pull request {number}"
    needs = "write:repository"
    found = thing((yield from ask(place.request("GET", path, what=what, needs=needs))))
    if found.get("state") != "open":
        return "it is closed already"
    if inner(found, "head", "sha") != commit:
        return "it has a newer commit"
    body = {"state": "closed"}
    yield from ask(place.request("PATCH", path, body, what=f"closing {what}", needs=needs))
    return None


def register(place: Place, hook: Hook) -> Talk[Registered]:
    """Make the webhook, or bring the one with the same address up to date."""
    path = f"{_repo(place)}/hooks"
    body = {
        "active": True,
        "events": list(EVENTS),
        "config": {"url": hook.url, "content_type": "json", "secret": hook.secret},
    }

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Request:
        return place.request(method, path, body, what="the webhook", needs="write:repository")

    for number in range(1, MOST_PAGES + 1):
        found = paged((yield from ask(request("GET", f"{path}?limit={PAGE}&page={number}"))))
        for one in found:
            if inner(one, "config", "url") == hook.url:
                yield from ask(request("PATCH", f"{path}/{one['id']}", body))
                return Registered(id=str(one["id"]), new=False)
        if len(found) < PAGE:
            break
    made = yield from ask(request("POST", path, {"type": "gitea", **body}))
    return Registered(id=identity(made), new=True)


def _repo(place: Place) -> str:
    return f"/repos/{place.owner}/{place.name}"
