"""
Bitbucket Data Center's (and Server's) deliveries: all refs of a push in one.

Old versions tell no address at all: then the repository is known by project
and name on any host (`//PRJ/shop`), for the secret has proven who speaks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from leeroy.hooks import change, payload
from leeroy.hooks.change import Told
from leeroy.model import Delivery, Pull
from leeroy.terms import Turn

_TURNS = {
    "pr:opened": Turn.changed,
    "pr:from_ref_updated": Turn.changed,
    "pr:modified": Turn.changed,
    "pr:reopened": Turn.reopened,
    "pr:merged": Turn.closed,
    "pr:declined": Turn.closed,
    "pr:deleted": Turn.closed,
}
_WEB = re.compile(r"(?P<base>https?://.*)/(?:projects|users)/[^/]+/repos/[^/]+(?:/browse)?/?\Z")


def parse(headers: Mapping[str, str], body: bytes, event: str) -> Delivery:
    """What the delivery says; raises BadPayload."""
    delivery = payload.header(headers, "X-Request-Id")
    told = payload.read(headers, body)
    repository = payload.part(told, "repository")
    if event == "repo:refs_changed":
        found = [_change(one) for one in payload.several(told, "changes")]
    elif event in _TURNS:
        request = payload.part(told, "pullRequest")
        repository = payload.part(payload.part(request, "toRef"), "repository")
        found = [_pull(request, _TURNS[event])]
    elif event == "diagnostics:ping":
        found = [Told(ignored="Bitbucket's test arrived: the webhook works")]
    else:
        found = [Told(ignored=f"Leeroy does nothing with Bitbucket's {event} events")]
    pushes, pulls, ignored = change.gathered(found)
    addresses = _addresses(repository)
    if (pushes or pulls) and not addresses:
        raise payload.BadPayload("repository is missing, or has no project and name")
    return Delivery(
        forge="bitbucket",
        id=delivery,
        event=event,
        addresses=addresses,
        pushes=pushes,
        pulls=pulls,
        ignored=ignored,
    )


def _change(told: payload.Object) -> Told:
    full = payload.text(payload.part(told, "ref"), "id")
    named = change.ref(full)
    if named is None:
        return Told(ignored=f"{full} is neither a branch nor a tag")
    before, after = payload.text(told, "fromHash"), payload.text(told, "toHash")
    if payload.text(told, "type") == "DELETE" or payload.nothing(after):
        return Told(push=change.deleted(named))
    if before is not None and before == after:
        return Told(ignored=f"{named.branch or named.tag} did not move")
    # An annotated tag's own object may stand here: the checkout finds its commit.
    commit = payload.commit(after, "toHash")
    head = payload.part(told, "toCommit")
    author = payload.part(head, "author")
    return change.pushed(
        named,
        commit,
        message=payload.words(head, "message", payload.MESSAGE_LIMIT),
        author=payload.words(author, "displayName", 300) or payload.words(author, "name", 300),
        author_email=payload.mail(author, "emailAddress"),
    )


def _pull(request: payload.Object, turn: Turn) -> Told:
    number = payload.count(request, "id")
    if turn is not Turn.closed and payload.flag(request, "draft"):
        return Told(ignored=change.draft(number, turn))
    source, target = payload.part(request, "fromRef"), payload.part(request, "toRef")
    theirs, ours = payload.part(source, "repository"), payload.part(target, "repository")
    fork = change.fork(
        [
            (payload.ident(theirs, "id"), payload.ident(ours, "id")),
            (_full_name(theirs), _full_name(ours)),
        ]
    )
    user = payload.part(payload.part(request, "author"), "user")
    pull = Pull(
        number=number,
        turn=turn,
        commit=payload.commit(payload.text(source, "latestCommit"), "fromRef.latestCommit"),
        branch=_branch(source, "fromRef"),
        base_branch=_branch(target, "toRef"),
        fork=fork,
        ref=f"refs/pull-requests/{number}/from",
        head_repository=next(iter(_addresses(theirs)), None),
        title=payload.words(request, "title", payload.MESSAGE_LIMIT),
        author=payload.words(user, "displayName", 300) or payload.words(user, "name", 300),
        author_email=None if fork else payload.mail(user, "emailAddress"),
    )
    return Told(pull=pull)


def _branch(side: payload.Object, word: str) -> str:
    value = payload.text(side, "displayId")
    full = payload.text(side, "id") or ""
    return payload.name(value or full.removeprefix("refs/heads/"), f"{word}.displayId")


def _full_name(repository: payload.Object) -> str | None:
    key = payload.url(payload.part(repository, "project"), "key")
    slug = payload.url(repository, "slug")
    return f"{key}/{slug}" if key and slug else None


def _addresses(repository: payload.Object) -> tuple[str, ...]:
    links = payload.part(repository, "links")
    found = [url for one in payload.several(links, "clone") if (url := payload.url(one, "href"))]
    name = _full_name(repository)
    for one in payload.several(links, "self"):
        url = payload.url(one, "href") or ""
        if name and (web := _WEB.match(url)):
            found += [f"{web['base']}/scm/{name}.git", f"{web['base']}/{name}.git"]
    if not found and name:
        found = [f"//{name}"]
    return tuple(dict.fromkeys(found))
