"""
GitHub's REST API (github.com, GHE.com and Enterprise Server).

Sources: the OpenAPI description of version 2022-11-28, and GitHub's "Best
practices for using the REST API".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from leeroy.forges import alike
from leeroy.forges.alike import DESCRIPTION_LIMIT, repo
from leeroy.forges.place import Place
from leeroy.forges.steady import (
    MOST_PAGES,
    first,
    following,
    inner,
    instant,
    lost,
    paged,
    thing,
)
from leeroy.forges.talk import Request, Talk, ask, made
from leeroy.forges.values import (
    Comment,
    Deployment,
    Failed,
    Hook,
    Registered,
    Status,
    Word,
    cut,
)

EVENTS: Final = ("push", "pull_request")
DEPLOYS: Final = True
PAGE: Final = 100
RESENDS: Final = (1, 1.0)
"""Between two requests that make something, GitHub asks for a second."""

_HOOKS: Final = '"Webhooks: write" (classic: admin:repo_hook)'
_PULLS: Final = '"Pull requests: write" (classic: repo)'
_NEWS: Final = frozenset(
    {"opened", "synchronize", "reopened", "ready_for_review", "edited", "closed"}
)
"""What can have happened to a pull request that starts or ends a build; not: labeled, assigned …"""
_DEPLOYMENTS: Final = '"Deployments: write" (classic: repo_deployment)'
_DEPLOYMENT_STATES: Final = MappingProxyType(
    {
        Word.waiting: "queued",
        Word.running: "in_progress",
        Word.passed: "success",
        Word.failed: "failure",
        Word.error: "error",
        Word.stopped: "inactive",
    }
)


def headers(token: str) -> Mapping[str, str]:
    """What every request carries; GitHub refuses one without a User-Agent (`wire` adds it)."""
    return {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }


def status(place: Place, told: Status) -> Talk[None]:
    """Say how a commit stands."""
    return alike.status(place, told, '"Commit statuses: write" (classic: repo:status)')


def comment(place: Place, told: Comment) -> Talk[str]:
    """Make or edit the comment; its id."""
    return alike.comment(place, told, _PULLS, PAGE)


def close(place: Place, number: int, commit: str) -> Talk[str | None]:
    """Close a pull request whose head is still *commit*; else why it was left as it is."""
    return alike.close(place, number, commit, _PULLS)


def deployment(place: Place, told: Deployment) -> Talk[str]:
    """Make the deployment, unless it is there; its id."""
    what = f"the deployment to {told.environment}"
    if told.known is not None:
        return told.known
    path = f"{repo(place)}/deployments"
    if told.look:
        query = f"?sha={told.commit}&per_page={PAGE}"
        answer = yield from ask(place.request("GET", path + query, what=what, needs=_DEPLOYMENTS))
        for one in paged(answer):
            if inner(one, "payload", "leeroy") == told.marker:
                return str(one["id"])
    body = {
        "ref": told.commit,
        "environment": told.environment,
        "description": cut(told.description, DESCRIPTION_LIMIT),
        "payload": {"leeroy": told.marker},
        # The defaults are traps: GitHub would merge the default branch into the commit first,
        # and refuse while any status (our own that is pending, too) is no success.
        "auto_merge": False,
        "required_contexts": [],
    }
    return (yield from made(place.request("POST", path, body, what=what, needs=_DEPLOYMENTS)))


def deployment_status(place: Place, known: str, told: Deployment) -> Talk[None]:
    """Say how a deployment stands."""
    body = {
        "state": _DEPLOYMENT_STATES[told.word],
        "description": cut(told.description, DESCRIPTION_LIMIT),
        "log_url": told.log_url,
        "environment": told.environment,
    }
    yield from made(
        place.request(
            "POST",
            f"{repo(place)}/deployments/{known}/statuses",
            body,
            what=f"the status of the deployment to {told.environment}",
            needs=_DEPLOYMENTS,
        )
    )


def register(place: Place, hook: Hook) -> Talk[Registered]:
    """Make the webhook, or bring the one with the same address up to date."""
    path = f"{repo(place)}/hooks"
    body = {
        "active": True,
        "events": list(EVENTS),
        "config": {
            "url": hook.url,
            "content_type": "json",
            "secret": hook.secret,
            "insecure_ssl": "0",
        },
    }
    known = yield from _hook(place, hook.url)
    if known is not None:
        yield from made(_about_hook(place, "PATCH", f"{path}/{known}", body))
        return Registered(id=known, new=False)
    new = yield from made(_about_hook(place, "POST", path, {"name": "web", **body}))
    return Registered(id=new, new=True)


def failed(place: Place, url: str, since: datetime) -> Talk[list[Failed]]:
    """
    The news of pull requests for the webhook at *url* that never got through, newest first.

    GitHub keeps them for three days.
    """
    hook = yield from _hook(place, url)
    if hook is None:
        return []
    path = f"{repo(place)}/hooks/{hook}/deliveries?per_page={PAGE}"
    listed: dict[str, tuple[bool, Failed]] = {}
    after: str | None = ""
    for _ in range(MOST_PAGES):
        page = yield from ask(
            _about_hook(place, "GET", f"{path}&cursor={quote(after)}" if after else path)
        )
        for one in paged(page):
            key, at = str(one.get("guid")), instant(one.get("delivered_at"))
            if at is None or at < since:
                return [found for missed, found in listed.values() if missed]
            if one.get("event") != "pull_request" or one.get("action") not in _NEWS:
                continue
            found = Failed(hook=hook, id=str(one.get("id")), key=key, at=at)
            missed, newest = listed.get(key, (True, found))
            listed[key] = (missed and lost(one.get("status_code")), newest)
        after = following(page, "cursor")
        if after is None:
            break
    return [found for missed, found in listed.values() if missed]


def holds(place: Place, one: Failed) -> Talk[int | None]:
    """The number of the pull request that a delivery tells of, if that is still as told."""
    path = f"{repo(place)}/hooks/{one.hook}/deliveries/{one.id}"
    found = thing((yield from ask(_about_hook(place, "GET", path), 404)))
    told, number = inner(found, "request", "payload"), inner(found, "request", "payload", "number")
    if not isinstance(number, int):
        return None
    what, needs = f"pull request {number}", '"Pull requests: read" (classic: repo)'
    path = f"{repo(place)}/pulls/{number}"
    now = thing((yield from ask(place.request("GET", path, what=what, needs=needs), 404)))
    if inner(told, "action") == "closed":
        return number if now.get("state") == "closed" else None
    if inner(told, "action") == "edited" and inner(told, "changes", "base") is None:
        return None  # another title
    head = inner(told, "pull_request", "head", "sha")
    same = now.get("state") == "open" and inner(now, "head", "sha") == head
    drafts = (inner(told, "pull_request", "draft"), now.get("draft"))
    return number if same and True not in drafts else None


def again(place: Place, one: Failed) -> Talk[None]:
    """Have a delivery sent once more, with the id it had."""
    path = f"{repo(place)}/hooks/{one.hook}/deliveries/{one.id}/attempts"
    yield from ask(_about_hook(place, "POST", path))


def _hook(place: Place, url: str) -> Talk[str | None]:
    path = f"{repo(place)}/hooks?per_page={PAGE}"
    found = yield from first(
        lambda number: _about_hook(place, "GET", f"{path}&page={number}"),
        lambda one: inner(one, "config", "url") == url,
        PAGE,
    )
    return None if found is None else str(found["id"])


def _about_hook(
    place: Place, method: str, path: str, body: Mapping[str, Any] | None = None
) -> Request:
    return place.request(method, path, body, what="the webhook", needs=_HOOKS)
