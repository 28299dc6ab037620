"""
Bitbucket's webhooks: Cloud here, Data Center (and Server) in `datacenter`.

Cloud tells of all refs of one push in one delivery; it names no clone
addresses, shows no refs of pull requests, and cuts their commits to 12 digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from leeroy.hooks import change, datacenter, payload, signature
from leeroy.hooks.change import Told
from leeroy.model import Delivery, Pull
from leeroy.terms import Turn

_HOST = "bitbucket.org"
_TURNS = {
    "pullrequest:created": Turn.changed,
    "pullrequest:updated": Turn.changed,
    "pullrequest:fulfilled": Turn.closed,
    "pullrequest:rejected": Turn.closed,
}
_KINDS = {
    "branch": "branch",
    "named_branch": "branch",
    "tag": "tag",
    "annotated_tag": "tag",
}


def verify(
    secrets: tuple[str, ...], headers: Mapping[str, str], body: bytes, now: datetime
) -> bool:
    """Whether `X-Hub-Signature` (SHA-256, whatever GitHub means by it) was made with a secret."""
    return signature.signed(secrets, signature.named(headers.get("x-hub-signature")), body)


def parse(headers: Mapping[str, str], body: bytes) -> Delivery:
    """
    What the delivery says: every ref of a push, a pull request, or why it starts nothing.

    Raises:
        BadPayload: It is no delivery of Bitbucket; whatever the bytes are, nothing else is raised.
    """
    event = payload.header(headers, "X-Event-Key")
    if not headers.get("x-request-uuid") and headers.get("x-request-id"):
        return datacenter.parse(headers, body, event)
    delivery = payload.header(headers, "X-Request-UUID")
    told = payload.read(headers, body)
    if event == "repo:push":
        changes = payload.several(payload.part(told, "push"), "changes")
        found = [_change(one, _default_branch(told)) for one in changes]
    elif event in _TURNS:
        found = [_pull(told, _TURNS[event])]
    else:
        found = [Told(ignored=f"Leeroy does nothing with Bitbucket's {event} events")]
    pushes, pulls, ignored = change.gathered(found)
    return Delivery(
        forge="bitbucket",
        id=delivery,
        event=event,
        addresses=_addresses(told, needed=bool(pushes or pulls)),
        pushes=pushes,
        pulls=pulls,
        ignored=ignored,
    )


def _change(told: payload.Object, default_branch: str | None) -> Told:
    old, new = payload.part(told, "old"), payload.part(told, "new")
    kind = payload.text(new or old, "type") or ""
    named = change.short_ref(_KINDS.get(kind), payload.text(new or old, "name"), "name")
    if named is None:
        return Told(ignored=f"{kind[:100] or 'what moved'} is neither a branch nor a tag")
    if not new:
        return Told(push=change.deleted(named, default_branch))
    target = payload.part(new, "target")
    before = payload.text(payload.part(old, "target"), "hash")
    commit = payload.commit(payload.text(target, "hash"), "new.target.hash")
    if before == commit:
        return Told(ignored=f"{named.branch or named.tag} did not move")
    author, author_email = payload.person(payload.part(target, "author"), "raw")
    return change.pushed(
        named,
        commit,
        message=payload.words(target, "message", payload.MESSAGE_LIMIT),
        author=author,
        author_email=author_email,
        default_branch=default_branch,
    )


def _pull(told: payload.Object, turn: Turn) -> Told:
    request = payload.part(told, "pullrequest")
    number = payload.count(request, "id")
    if turn is not Turn.closed and payload.flag(request, "draft"):
        return Told(ignored=change.draft(number, turn))
    source, target = payload.part(request, "source"), payload.part(request, "destination")
    theirs, ours = payload.part(source, "repository"), payload.part(target, "repository")
    fork = change.fork([(payload.ident(theirs, k), payload.ident(ours, k)) for k in _KNOWN_BY])
    full_name = payload.url(theirs, "full_name")
    commit = payload.text(payload.part(source, "commit"), "hash")
    author = payload.part(request, "author")
    pull = Pull(
        number=number,
        turn=turn,
        commit=None if turn is Turn.closed else payload.short(commit, "source.commit.hash"),
        branch=_branch(source, "source"),
        base_branch=_branch(target, "destination"),
        fork=fork,
        ref=None,
        head_repository=f"https://{_HOST}/{full_name}.git" if full_name else None,
        title=payload.words(request, "title", payload.MESSAGE_LIMIT),
        author=payload.words(author, "display_name", 300) or payload.words(author, "nickname", 300),
        default_branch=_default_branch(told),
    )
    return Told(pull=pull)


_KNOWN_BY = ("uuid", "full_name")


def _branch(side: payload.Object, word: str) -> str:
    key = f"{word}.branch.name"
    return payload.name(payload.text(payload.part(side, "branch"), "name") or "", key)


def _default_branch(told: payload.Object) -> str | None:
    main = payload.part(payload.part(told, "repository"), "mainbranch")
    value = payload.text(main, "name")
    return payload.name(value, "repository.mainbranch.name") if value else None


def _addresses(told: payload.Object, *, needed: bool) -> tuple[str, ...]:
    full_name = payload.url(payload.part(told, "repository"), "full_name")
    if full_name:
        return (f"https://{_HOST}/{full_name}.git", f"git@{_HOST}:{full_name}.git")
    if needed:
        raise payload.BadPayload("repository is missing, or has no full_name")
    return ()
