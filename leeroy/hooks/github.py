"""
GitHub's webhooks (github.com and Enterprise Server).

One push of one ref is one delivery.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from leeroy.hooks import change, payload, request, signature
from leeroy.hooks.change import Told
from leeroy.model import Delivery
from leeroy.terms import Turn

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}\Z")
_ADDRESSES = ("html_url", "clone_url", "ssh_url", "git_url")
_OTHERS = ("x-forgejo-event", "x-gitea-event", "x-gogs-event")
_TURNS = {
    "opened": Turn.changed,
    "synchronize": Turn.changed,
    "ready_for_review": Turn.changed,
    "reopened": Turn.reopened,
    "closed": Turn.closed,
}
_REASONS = {
    "ping": "GitHub's ping arrived: the webhook works",
    "create": "GitHub tells of a new branch or tag by a push as well",
    "delete": "GitHub tells of a deleted branch or tag by a push as well",
    "merge_group": "GitHub pushes a merge queue's branch (gh-readonly-queue/…) as well",
}


def verify(
    secrets: tuple[str, ...], headers: Mapping[str, str], body: bytes, now: datetime
) -> bool:
    """Whether `X-Hub-Signature-256` was made of *body* with one of *secrets*."""
    return signature.signed(secrets, signature.named(headers.get("x-hub-signature-256")), body)


def parse(headers: Mapping[str, str], body: bytes) -> Delivery:
    """
    What the delivery says: one push or pull request, or the reason why it starts nothing.

    A deleted ref is a push too, with `deleted` and without a commit.

    Raises:
        BadPayload: It is no delivery of GitHub; whatever the bytes are, nothing else is raised.
    """
    if any(headers.get(name) for name in _OTHERS):
        # They send GitHub's headers as well, but mean other things by them.
        raise payload.BadPayload(
            "this is a delivery of Gitea, Forgejo or Gogs; its address ends in /hooks/gitea"
        )
    event = payload.header(headers, "X-GitHub-Event")
    delivery = payload.header(headers, "X-GitHub-Delivery")
    told = payload.read(headers, body)
    if event == "push":
        head = payload.part(told, "head_commit")
        found = change.push(
            told,
            head=head,
            tag_commit=payload.text(head, "id"),
            default_branch=change.default_branch(payload.part(told, "repository")),
        )
    elif event == "pull_request":
        found = request.pull(told, _TURNS, edits=("base",))
    else:
        found = Told(
            ignored=_REASONS.get(event, f"Leeroy does nothing with GitHub's {event} events")
        )
    pushes, pulls, ignored = change.gathered([found])
    return Delivery(
        forge="github",
        id=delivery,
        event=event,
        addresses=_addresses(headers, told, needed=bool(pushes or pulls)),
        pushes=pushes,
        pulls=pulls,
        ignored=ignored,
    )


def _addresses(
    headers: Mapping[str, str], told: payload.Object, *, needed: bool
) -> tuple[str, ...]:
    repository = payload.part(told, "repository")
    found = tuple(filter(None, (payload.url(repository, key) for key in _ADDRESSES)))
    full_name = payload.url(repository, "full_name")
    if not found and full_name:
        host = headers.get("x-github-enterprise-host", "").strip()
        found = (f"https://{host if _HOST.match(host) else 'github.com'}/{full_name}",)
    if needed and not found:
        raise payload.BadPayload("repository is missing, or has no address")
    return tuple(dict.fromkeys(found))
