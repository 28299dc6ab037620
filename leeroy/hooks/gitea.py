"""
Gitea's webhooks, Forgejo's (Codeberg's) and Gogs's.

They send each other's headers, so the most particular family is taken.  A new
tag is told twice, as a push and as a `create`; a deleted branch or tag only as
`delete`.  The old key `secret` in a body is never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from leeroy.hooks import change, payload, request, signature
from leeroy.hooks.change import Told
from leeroy.model import Delivery
from leeroy.terms import Turn

_FAMILIES = ("Forgejo", "Gitea", "Gogs")
_ADDRESSES = ("html_url", "clone_url", "ssh_url")
_TURNS = {
    "opened": Turn.changed,
    "synchronized": Turn.changed,
    "ready_for_review": Turn.changed,
    "reopened": Turn.reopened,
    "closed": Turn.closed,
}
_EDITS = ("ref", "title")
"""Another base branch; another title, which is how a draft becomes none."""


def verify(
    secrets: tuple[str, ...], headers: Mapping[str, str], body: bytes, now: datetime
) -> bool:
    """
    Whether the body was signed with one of *secrets*, under the header of any family.

    Of a form it is the JSON inside that is signed, not the body.
    """
    given = [signature.bare(headers.get(f"x-{one.lower()}-signature")) for one in _FAMILIES]
    given.append(signature.named(headers.get("x-hub-signature-256")))
    digest = next(filter(None, given), None)
    if digest is None:
        return False
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == payload.FORM:
        try:
            body = payload.form(body).encode()
        except payload.BadPayload:
            return False
    return signature.signed(secrets, digest, body)


def parse(headers: Mapping[str, str], body: bytes) -> Delivery:
    """
    What the delivery says: one push or pull request, or the reason why it starts nothing.

    Raises:
        BadPayload: It is no delivery of these forges; whatever the bytes are, nothing else is
            raised.
    """
    family = next((f for f in _FAMILIES if headers.get(f"x-{f.lower()}-event")), "Gitea")
    event = payload.header(headers, f"X-{family}-Event")
    delivery = payload.header(headers, f"X-{family}-Delivery")
    told = payload.read(headers, body)
    repository = payload.part(told, "repository")
    about: str | None = None
    if event == "push":
        found = _push(told)
        about = payload.text(told, "after")
    elif event in ("create", "delete"):
        found = _created(told) if event == "create" else _deleted(told)
        about = payload.text(told, "sha")
    elif event == "pull_request":
        found = request.pull(told, _TURNS, edits=_EDITS)
    else:
        found = Told(ignored=f"Leeroy does nothing with {family}'s {event} events")
    pushes, pulls, ignored = change.gathered([found])
    addresses = _addresses(repository)
    if (pushes or pulls) and not addresses:
        raise payload.BadPayload("repository is missing, or has no address")
    tag = found.push.tag if found.push is not None and not found.push.deleted else None
    return Delivery(
        forge="gitea",
        id=delivery,
        event=event,
        addresses=addresses,
        pushes=pushes,
        pulls=pulls,
        ignored=ignored,
        # An annotated tag's own object in both, though only the push names its commit.
        about=f"{addresses[0]} refs/tags/{tag} {about}" if tag else None,
    )


def _push(told: payload.Object) -> Told:
    commits = payload.several(told, "commits")
    after = payload.text(told, "after")
    listed = next((one for one in commits if one.get("id") == after), commits[0] if commits else {})
    head = payload.part(told, "head_commit") or listed
    return change.push(
        told,
        head=head,
        tag_commit=payload.text(head, "id") or after,
        default_branch=change.default_branch(payload.part(told, "repository")),
    )


def _created(told: payload.Object) -> Told:
    named = _named(told)
    if named is None or named.tag is None:
        return Told(ignored="a new branch is told by a push as well")
    return change.pushed(
        named,
        payload.commit(payload.text(told, "sha"), "sha"),
        message=None,
        author=None,
        author_email=None,
        default_branch=change.default_branch(payload.part(told, "repository")),
    )


def _deleted(told: payload.Object) -> Told:
    named = _named(told)
    if named is None:
        return Told(ignored="what was deleted is neither a branch nor a tag")
    return Told(push=change.deleted(named))


def _named(told: payload.Object) -> change.Ref | None:
    short = (payload.text(told, "ref") or "").removeprefix("refs/heads/").removeprefix("refs/tags/")
    return change.short_ref(payload.text(told, "ref_type"), short, "ref")


def _addresses(repository: payload.Object) -> tuple[str, ...]:
    found = (payload.url(repository, key) for key in _ADDRESSES)
    return tuple(dict.fromkeys(filter(None, found)))
