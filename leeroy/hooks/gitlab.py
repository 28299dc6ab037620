"""
GitLab's webhooks: of projects, groups and whole instances (system hooks).

A secret that begins with `whsec_` is a signing token (GitLab 19 and newer):
then only deliveries signed with it within five minutes count, and never again
one that merely shows a plain secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

from leeroy.hooks import change, payload, signature
from leeroy.hooks.change import Told
from leeroy.model import Delivery, Pull
from leeroy.terms import Turn

TOLERANCE_S = 300
"""How far the sender's clock may be from ours: what Standard Webhooks recommends."""
_SIGNING = "whsec_"
_TURNS = {
    "open": Turn.changed,
    "update": Turn.changed,
    "reopen": Turn.reopened,
    "close": Turn.closed,
    "merge": Turn.closed,
}
_ADDRESSES = ("web_url", "git_http_url", "git_ssh_url", "http_url", "ssh_url", "homepage", "url")


def signing(secret: str) -> bool:
    """Whether *secret* is a signing token, which nobody shows."""
    return secret.startswith(_SIGNING)


def verify(
    secrets: tuple[str, ...], headers: Mapping[str, str], body: bytes, now: datetime
) -> bool:
    """Whether *body* was signed with one of *secrets*; where none is for signing, came with one."""
    tokens = tuple(secret for secret in secrets if signing(secret))
    if tokens:
        return any(_signed(secret, headers, body, now) for secret in tokens)
    shown = _octets(headers.get("x-gitlab-token", ""))
    if not shown:
        return False
    return any(hmac.compare_digest(signature.octets(one), shown) for one in secrets if one)


def _signed(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    name, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not name or not (sent.isascii() and sent.isdigit() and len(sent) < 16):
        return False
    if abs(now.timestamp() - int(sent)) > TOLERANCE_S:
        return False
    try:
        key = base64.b64decode(secret.removeprefix(_SIGNING), validate=True)
    except (binascii.Error, ValueError):
        return False
    if not key:
        return False
    signed = b"%s.%s.%s" % (_octets(name), sent.encode(), body)
    wanted = b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256"))
    claimed = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(wanted, _octets(one)) for one in claimed)


def _octets(header: str) -> bytes:
    """A header's value as the bytes on the line; nothing where it never was on one."""
    try:
        return header.encode("latin-1")
    except UnicodeEncodeError:
        return b""


def parse(headers: Mapping[str, str], body: bytes) -> Delivery:
    """
    What the delivery says: one push or merge request, or the reason why it starts nothing.

    Raises:
        BadPayload: It is no delivery of GitLab; whatever the bytes are, nothing else is raised.
    """
    event = payload.header(headers, "X-Gitlab-Event")
    delivery = _id(headers, body)
    told = payload.read(headers, body)
    kind = payload.words(told, "object_kind", 100) or payload.words(told, "event_name", 100)
    if kind is None:
        raise payload.BadPayload(
            "the body has neither object_kind nor event_name; "
            "has the webhook a custom template? Leeroy needs GitLab's own"
        )
    if kind in ("push", "tag_push"):
        found = _push(told)
    elif kind == "merge_request":
        found = _merge_request(told)
    else:
        found = Told(ignored=f"Leeroy does nothing with GitLab's {kind} events")
    pushes, pulls, ignored = change.gathered([found])
    return Delivery(
        forge="gitlab",
        id=delivery,
        event=event,
        addresses=_addresses(headers, told, needed=bool(pushes or pulls)),
        pushes=pushes,
        pulls=pulls,
        ignored=ignored,
    )


def _id(headers: Mapping[str, str], body: bytes) -> str:
    for name in ("Idempotency-Key", "webhook-id", "X-Gitlab-Event-UUID"):
        if headers.get(name.lower(), "").strip():
            return payload.header(headers, name)
    # GitLab before 14.8 names no delivery; the same body is the same news.
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _push(told: payload.Object) -> Told:
    checkout = payload.text(told, "checkout_sha")
    commits = payload.several(told, "commits")
    head = next((one for one in commits if checkout and one.get("id") == checkout), {})
    return change.push(
        told,
        head=head,
        tag_commit=checkout,
        default_branch=change.default_branch(payload.part(told, "project")),
    )


def _merge_request(told: payload.Object) -> Told:
    request = payload.part(told, "object_attributes")
    action = payload.words(request, "action", 100) or "shown"
    changes = payload.part(told, "changes")
    turn = _TURNS.get(action)
    if action == "update" and not payload.text(request, "oldrev") and not _counts(changes):
        turn = None
    if turn is None:
        return Told(ignored=f"merge request: {action} brings no new commit to test")
    number = payload.count(request, "iid")
    is_draft = payload.flag(request, "draft") or payload.flag(request, "work_in_progress")
    if turn is not Turn.closed and is_draft:
        return Told(ignored=change.draft(number, turn))
    source, target = payload.part(request, "source"), payload.part(request, "target")
    newest = payload.part(request, "last_commit")
    message = payload.words(newest, "message", payload.MESSAGE_LIMIT)
    if turn is not Turn.closed and (wish := payload.skip(message)) is not None:
        return Told(ignored=f"the commit's message says {wish}")
    fork = change.fork(
        [
            (
                payload.ident(request, "source_project_id"),
                payload.ident(request, "target_project_id"),
            ),
            (
                payload.ident(source, "path_with_namespace"),
                payload.ident(target, "path_with_namespace"),
            ),
        ]
    )
    commit = payload.text(newest, "id")
    author = payload.part(newest, "author")
    pull = Pull(
        number=number,
        turn=turn,
        commit=None if turn is Turn.closed else payload.commit(commit, "last_commit.id"),
        branch=payload.name(payload.text(request, "source_branch") or "", "source_branch"),
        base_branch=payload.name(payload.text(request, "target_branch") or "", "target_branch"),
        # A source project that is gone shows nothing of itself, whatever its number is.
        fork=fork or not source,
        ref=f"refs/merge-requests/{number}/head",
        head_repository=next(filter(None, (payload.url(source, k) for k in _ADDRESSES[1:])), None),
        title=payload.words(request, "title", payload.MESSAGE_LIMIT),
        author=payload.words(author, "name", 300),
        author_email=None if fork or not source else payload.mail(author, "email"),
        default_branch=change.default_branch(payload.part(told, "project")),
    )
    return Told(pull=pull)


def _counts(changes: payload.Object) -> bool:
    """Whether an update without new commits may be the first to be tested."""
    if changes.get("target_branch") is not None:
        return True
    return any(
        payload.part(changes, key).get("previous") is True for key in ("draft", "work_in_progress")
    )


def _addresses(
    headers: Mapping[str, str], told: payload.Object, *, needed: bool
) -> tuple[str, ...]:
    project, repository = payload.part(told, "project"), payload.part(told, "repository")
    keys = [(project, key) for key in _ADDRESSES]
    keys += [(repository, key) for key in ("homepage", "url", "git_http_url", "git_ssh_url")]
    found = [one for parent, key in keys if (one := payload.url(parent, key))]
    path = payload.url(project, "path_with_namespace")
    instance = headers.get("x-gitlab-instance", "").strip()
    if not found and path and instance.startswith(("https://", "http://")):
        found = [f"{instance.rstrip('/')}/{path}"]
    if needed and not found:
        raise payload.BadPayload("project is missing, or has no address")
    return tuple(dict.fromkeys(found))
