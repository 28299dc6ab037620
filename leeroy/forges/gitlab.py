"""
GitLab's REST API (gitlab.com and servers of one's own), version 4.

Sources: GitLab's docs (commits, notes, merge requests, webhooks) and its
`lib/api/commit_statuses.rb`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from leeroy.forges.place import Place
from leeroy.forges.steady import (
    MOST_PAGES,
    first,
    inner,
    instant,
    kept,
    lost,
    paged,
    thing,
)
from leeroy.forges.talk import Request, Talk, ask, made, named, refusal
from leeroy.forges.values import Comment, Failed, Hook, Registered, Status, Word, cut

DESCRIPTION_LIMIT: Final = 140
URL_LIMIT: Final = 255
EVENTS: Final = ("push_events", "tag_push_events", "merge_requests_events")
DEPLOYS: Final = False
PAGE: Final = 100
RESENDS: Final = (5, 61.0)
"""GitLab resends five deliveries of a webhook a minute."""
SIGNING: Final = "whsec_"
"""How a signing token starts (GitLab 19.0 and later); any other secret is the plain one."""

_STATES: Final = MappingProxyType(
    {
        Word.waiting: "pending",
        Word.running: "running",
        Word.passed: "success",
        Word.failed: "failed",
        Word.error: "failed",
        Word.stopped: "canceled",
    }
)
_API: Final = "the scope api, and at least the role Developer"
_HOOKS: Final = "the scope api, and at least the role Maintainer"
_CLOSED: Final = frozenset({"close", "merge"})
_OVER: Final = frozenset({"closed", "merged"})


def headers(token: str) -> Mapping[str, str]:
    """What every request carries."""
    return {"PRIVATE-TOKEN": token, "Accept": "application/json"}


def status(place: Place, told: Status) -> Talk[None]:
    """
    Say how a commit stands.

    GitLab's statuses are a machine that refuses to arrive where it is: that
    the state was told before (its answer was lost) is as good as told.
    """
    body: dict[str, Any] = {
        "state": _STATES[told.word],
        "name": told.context,
        "description": cut(told.description, DESCRIPTION_LIMIT),
    }
    if len(told.url) <= URL_LIMIT:
        body["target_url"] = told.url
    if told.ref is not None:
        # Without it GitLab guesses a branch, and may start a pipeline of its own for it.
        body["ref"] = told.ref
    request = place.request(
        "POST",
        f"{_project(place)}/statuses/{told.commit}",
        body,
        what="the commit status",
        needs=_API,
    )
    answer = yield from ask(request, 400)
    if answer.status != 400:
        named(request, answer)
    elif "cannot transition status" not in answer.said().lower():
        raise refusal(request, answer)


def comment(place: Place, told: Comment) -> Talk[str]:
    """Make or edit the note on the merge request; its id."""
    what = f"the comment on merge request {told.number}"
    path = f"{_project(place)}/merge_requests/{told.number}/notes"

    def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> Request:
        return place.request(method, path, body, what=what, needs=_API)

    def edit(known: str) -> Talk[bool]:
        answer = yield from ask(request("PUT", f"{path}/{known}", {"body": told.text}), 404)
        return answer.status < 300

    def find() -> Talk[str | None]:
        query = f"?order_by=created_at&sort=desc&per_page={PAGE}"
        found = yield from first(
            lambda number: request("GET", f"{path}{query}&page={number}"),
            lambda one: told.marker in str(one.get("body")),
            PAGE,
        )
        return None if found is None else str(found["id"])

    def create() -> Talk[str]:
        return (yield from made(request("POST", path, {"body": told.text})))

    return (yield from kept(told, edit, find, create))


def close(place: Place, number: int, commit: str) -> Talk[str | None]:
    """Close a merge request whose head is still *commit*; else why it was left as it is."""
    path = f"{_project(place)}/merge_requests/{number}"
    what = f"merge request {number}"
    found = thing((yield from ask(place.request("GET", path, what=what, needs=_API))))
    if found.get("state") != "opened":
        return "it is closed already"
    if found.get("sha") != commit:
        return "it has a newer commit"
    body = {"state_event": "close"}
    yield from ask(place.request("PUT", path, body, what=f"closing {what}", needs=_API))
    return None


def register(place: Place, hook: Hook) -> Talk[Registered]:
    """Make the webhook, or bring the one with the same address up to date."""
    path = f"{_project(place)}/hooks"
    key = "signing_token" if hook.secret.startswith(SIGNING) else "token"
    body = {
        "url": hook.url,
        key: hook.secret,
        "enable_ssl_verification": True,
        **dict.fromkeys(EVENTS, True),
    }
    known = yield from _hook(place, hook.url)
    if known is not None:
        yield from made(_about_hook(place, "PUT", f"{path}/{known}", body))
        return Registered(id=known, new=False)
    return Registered(id=(yield from made(_about_hook(place, "POST", path, body))), new=True)


def failed(place: Place, url: str, since: datetime) -> Talk[list[Failed]]:
    """
    The news of merge requests for the webhook at *url* that never got through, newest first.

    GitLab keeps them for seven days (since 17.3, and resends them since 17.4).
    """
    hook = yield from _hook(place, url)
    if hook is None:
        return []
    listed: dict[str, tuple[bool, Failed]] = {}
    page = "1"
    for _ in range(MOST_PAGES):
        path = f"{_project(place)}/hooks/{hook}/events?per_page={PAGE}&page={page}"
        answer = yield from ask(_about_hook(place, "GET", path))
        for one in paged(answer):
            told = one.get("request_data")
            # The list tells no times, but the merge request's own is in the body.
            at = instant(inner(one, "request_data", "object_attributes", "updated_at"))
            if not isinstance(told, dict) or at is None or at < since or not _is_news(told):
                continue
            key = _key(one)
            found = Failed(hook=hook, id=str(one.get("id")), key=key, at=at, told=told)
            missed, newest = listed.get(key, (True, found))
            listed[key] = (missed and lost(one.get("response_status")), newest)
        page = answer.headers.get("x-next-page", "").strip()
        if not page.isdigit():
            break
    missing = [found for missed, found in listed.values() if missed]
    return sorted(missing, key=lambda found: found.at, reverse=True)


def holds(place: Place, one: Failed) -> Talk[int | None]:
    """The number of the merge request that a delivery tells of, if that is still as told."""
    number = inner(one.told, "object_attributes", "iid")
    if not isinstance(number, int):
        return None
    path = f"{_project(place)}/merge_requests/{number}"
    request = place.request("GET", path, what=f"merge request {number}", needs=_API)
    now = thing((yield from ask(request, 404)))
    if inner(one.told, "object_attributes", "action") in _CLOSED:
        return number if now.get("state") in _OVER else None
    head = inner(one.told, "object_attributes", "last_commit", "id")
    same = now.get("state") == "opened" and now.get("sha") == head
    return number if same and now.get("draft") is not True else None


def again(place: Place, one: Failed) -> Talk[None]:
    """Have a delivery sent once more, with the id it had."""
    path = f"{_project(place)}/hooks/{one.hook}/events/{one.id}/resend"
    yield from ask(_about_hook(place, "POST", path))


def _is_news(told: dict[str, Any]) -> bool:
    """Whether it tells of something that starts or ends a build; not: labels, approvals …"""
    request = inner(told, "object_attributes")
    if told.get("object_kind") != "merge_request" or not isinstance(request, dict):
        return False
    if request.get("action") in _CLOSED:
        return True
    if request.get("draft") is True or request.get("work_in_progress") is True:
        return False
    if request.get("action") != "update":
        return request.get("action") in ("open", "reopen")
    ready = (inner(told, "changes", key, "previous") for key in ("draft", "work_in_progress"))
    based = inner(told, "changes", "target_branch") is not None
    return bool(request.get("oldrev")) or based or True in ready


def _key(event: dict[str, Any]) -> str:
    """The id of a delivery that `hooks.gitlab` takes from the same headers."""
    sent = event.get("request_headers")
    named = {str(k).lower(): str(v) for k, v in sent.items()} if isinstance(sent, dict) else {}
    names = ("idempotency-key", "webhook-id", "x-gitlab-event-uuid")
    return next((named[name] for name in names if named.get(name)), f"event {event.get('id')}")


def _hook(place: Place, url: str) -> Talk[str | None]:
    path = f"{_project(place)}/hooks?per_page={PAGE}"
    found = yield from first(
        lambda number: _about_hook(place, "GET", f"{path}&page={number}"),
        lambda one: one.get("url") == url,
        PAGE,
    )
    return None if found is None else str(found["id"])


def _about_hook(
    place: Place, method: str, path: str, body: Mapping[str, Any] | None = None
) -> Request:
    return place.request(method, path, body, what="the webhook", needs=_HOOKS)


def _project(place: Place) -> str:
    return f"/projects/{quote(place.path, safe='')}"
