"""
Gitea's REST API; Forgejo's (Codeberg's) is the same.

Sources: gitea's `modules/structs` (CreateStatusOption, CreateHookOption,
EditPullRequestOption) and `routers/api/v1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from leeroy.forges import alike
from leeroy.forges.alike import repo
from leeroy.forges.place import Place
from leeroy.forges.steady import first, inner
from leeroy.forges.talk import Request, Talk, made
from leeroy.forges.values import Comment, Hook, Registered, Status

EVENTS: Final = ("push", "delete", "pull_request", "pull_request_sync")
DEPLOYS: Final = False
PAGE: Final = 50
"""The most that a server gives at once, unless its owner changed MAX_RESPONSE_ITEMS."""
_WRITE: Final = "write:repository"


def headers(token: str) -> Mapping[str, str]:
    """What every request carries."""
    return {"Authorization": f"token {token}", "Accept": "application/json"}


def status(place: Place, told: Status) -> Talk[None]:
    """Say how a commit stands."""
    return alike.status(place, told, _WRITE)


def comment(place: Place, told: Comment) -> Talk[str]:
    """Make or edit the comment; its id.  The list of them knows no pages."""
    return alike.comment(place, told, "write:issue", None)


def close(place: Place, number: int, commit: str) -> Talk[str | None]:
    """Close a pull request whose head is still *commit*; else why it was left as it is."""
    return alike.close(place, number, commit, _WRITE)


def register(place: Place, hook: Hook) -> Talk[Registered]:
    """Make the webhook, or bring the one with the same address up to date."""
    path = f"{repo(place)}/hooks"
    body = {
        "active": True,
        "events": list(EVENTS),
        "config": {"url": hook.url, "content_type": "json", "secret": hook.secret},
    }

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Request:
        return place.request(method, path, body, what="the webhook", needs=_WRITE)

    known = yield from first(
        lambda number: request("GET", f"{path}?limit={PAGE}&page={number}"),
        lambda one: inner(one, "config", "url") == hook.url,
        PAGE,
    )
    if known is not None:
        yield from made(request("PATCH", f"{path}/{known['id']}", body))
        return Registered(id=str(known["id"]), new=False)
    new = yield from made(request("POST", path, {"type": "gitea", **body}))
    return Registered(id=new, new=True)
