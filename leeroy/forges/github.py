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

from leeroy.forges.place import Place
from leeroy.forges.steady import following, identity, inner, instant, kept, lost, paged, thing
from leeroy.forges.talk import Request, Talk, ask
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

DESCRIPTION_LIMIT: Final = 140
"""A longer one is answered with 422."""
EVENTS: Final = ("push", "pull_request")
DEPLOYS: Final = True
PAGE: Final = 100
MOST_PAGES: Final = 20
RESENDS: Final = (1, 1.0)
"""Between two requests that make something, GitHub asks for a second."""

_HOOKS: Final = '"Webhooks: write" (classic: admin:repo_hook)'
_STATES: Final = MappingProxyType(
    {
        Word.waiting: "pending",
        Word.running: "pending",
        Word.passed: "success",
        Word.failed: "failure",
        Word.error: "error",
        Word.stopped: "error",
    }
)
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
            needs='"Commit statuses: write" (classic: repo:status)',
        )
    )


def comment(place: Place, told: Comment) -> Talk[str]:
    """Make or edit the comment; its id."""
    needs = '"Pull requests: write" (classic: repo)'
    what = f"the comment on pull request {told.number}"
    of_pull = f"{_repo(place)}/issues/{told.number}/comments"

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Request:
        return place.request(method, path, body, what=what, needs=needs)

    def edit(known: str) -> Talk[bool]:
        path = f"{_repo(place)}/issues/comments/{known}"
        answer = yield from ask(request("PATCH", path, {"body": told.text}), 404, 410)
        return answer.status < 300

    def find() -> Talk[str | None]:
        for number in range(1, MOST_PAGES + 1):
            path = f"{of_pull}?per_page={PAGE}&page={number}"
            found = paged((yield from ask(request("GET", path))))
            for one in found:
                if told.marker in str(one.get("body")):
                    return str(one["id"])
            if len(found) < PAGE:
                break
        return None

    def create() -> Talk[str]:
        return identity((yield from ask(request("POST", of_pull, {"body": told.text}))))

    return (yield from kept(told, edit, find, create))


def close(place: Place, number: int, commit: str) -> Talk[str | None]:
    """Close a pull request whose head is still *commit*; else why it was left as it is."""
    path = f"{_repo(place)}/pulls/{number}"
    needs = '"Pull requests: write" (classic: repo)'
    what = f"pull request {number}"
    found = thing((yield from ask(place.request("GET", path, what=what, needs=needs))))
    if found.get("state") != "open":
        return "it is closed already"
    if inner(found, "head", "sha") != commit:
        return "it has a newer commit"
    body = {"state": "closed"}
    yield from ask(place.request("PATCH", path, body, what=f"closing {what}", needs=needs))
    return None


def deployment(place: Place, told: Deployment) -> Talk[str]:
    """Make the deployment, unless it is there; its id."""
    needs = '"Deployments: write" (classic: repo_deployment)'
    what = f"the deployment to {told.environment}"
    if told.known is not None:
        return told.known
    path = f"{_repo(place)}/deployments"
    if told.look:
        query = f"?sha={told.commit}&per_page={PAGE}"
        answer = yield from ask(place.request("GET", path + query, what=what, needs=needs))
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
    return identity((yield from ask(place.request("POST", path, body, what=what, needs=needs))))


def deployment_status(place: Place, known: str, told: Deployment) -> Talk[None]:
    """Say how a deployment stands."""
    body = {
        "state": _DEPLOYMENT_STATES[told.word],
        "description": cut(told.description, DESCRIPTION_LIMIT),
        "log_url": told.log_url,
        "environment": told.environment,
    }
    yield from ask(
        place.request(
            "POST",
            f"{_repo(place)}/deployments/{known}/statuses",
            body,
            what=f"the status of the deployment to {told.environment}",
            needs='"Deployments: write" (classic: repo_deployment)',
        )
    )


def register(place: Place, hook: Hook) -> Talk[Registered]:
    """Make the webhook, or bring the one with the same address up to date."""
    path = f"{_repo(place)}/hooks"
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
        yield from ask(_about_hook(place, "PATCH", f"{path}/{known}", body))
        return Registered(id=known, new=False)
    made = yield from ask(_about_hook(place, "POST", path, {"name": "web", **body}))
    return Registered(id=identity(made), new=True)


def failed(place: Place, url: str, since: datetime) -> Talk[list[Failed]]:
    """
    The deliveries of pull requests to the webhook at *url* that never got through, newest first.

    GitHub keeps them for three days.
    """
    hook = yield from _hook(place, url)
    if hook is None:
        return []
    path = f"{_repo(place)}/hooks/{hook}/deliveries?per_page={PAGE}"
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
            if one.get("event") != "pull_request":
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
    path = f"{_repo(place)}/hooks/{one.hook}/deliveries/{one.id}"
    found = thing((yield from ask(_about_hook(place, "GET", path), 404)))
    told, number = inner(found, "request", "payload"), inner(found, "request", "payload", "number")
    if not isinstance(number, int):
        return None
    what, needs = f"pull request {number}", '"Pull requests: read" (classic: repo)'
    path = f"{_repo(place)}/pulls/{number}"
    now = thing((yield from ask(place.request("GET", path, what=what, needs=needs), 404)))
    if inner(told, "action") == "closed":
        return number if now.get("state") == "closed" else None
    head = inner(told, "pull_request", "head", "sha")
    return number if now.get("state") == "open" and inner(now, "head", "sha") == head else None


def again(place: Place, one: Failed) -> Talk[None]:
    """Have a delivery sent once more, with the id it had."""
    path = f"{_repo(place)}/hooks/{one.hook}/deliveries/{one.id}/attempts"
    yield from ask(_about_hook(place, "POST", path))


def _hook(place: Place, url: str) -> Talk[str | None]:
    path = f"{_repo(place)}/hooks?per_page={PAGE}"
    for one in paged((yield from ask(_about_hook(place, "GET", path)))):
        if inner(one, "config", "url") == url:
            return str(one["id"])
    return None


def _about_hook(
    place: Place, method: str, path: str, body: Mapping[str, Any] | None = None
) -> Request:
    return place.request(method, path, body, what="the webhook", needs=_HOOKS)


def _repo(place: Place) -> str:
    return f"/repos/{place.owner}/{place.name}"
