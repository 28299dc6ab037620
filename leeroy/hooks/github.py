"""
GitHub's webhooks (github.com and Enterprise Server).

One push of one ref is one delivery.  Pull requests are understood by a later
release; until then they are answered with a reason.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from leeroy.hooks import payload
from leeroy.model import Delivery, Push

_SIGNATURE = re.compile(r"sha256=([0-9a-f]{64})\Z", re.I)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}\Z")
_ADDRESSES = ("html_url", "clone_url", "ssh_url", "git_url")

_REASONS = {
    "ping": "GitHub's ping arrived: the webhook works",
    "pull_request": "pull requests start nothing yet; a push of their branch does",
    "create": "GitHub tells of a new branch or tag by a push as well",
    "delete": "GitHub tells of a deleted branch or tag by a push as well",
}


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """
    Whether `X-Hub-Signature-256` is the HMAC-SHA256 of *body* under *secret*.

    Takes the same time wherever the signature differs.  An empty secret and a
    missing or malformed signature never verify.
    """
    signature = _SIGNATURE.match(headers.get("x-hub-signature-256", "").strip())
    if not secret or signature is None:
        return False
    digest = hmac.digest(secret.encode(errors="surrogateescape"), body, "sha256")
    return hmac.compare_digest(digest, bytes.fromhex(signature[1]))


def parse(headers: Mapping[str, str], body: bytes) -> Delivery:
    """
    What the delivery says: one push, or the reason why it starts nothing.

    A deleted ref is a push too, with `deleted` and without a commit.

    Raises:
        BadPayload: It is no delivery of GitHub; whatever the bytes are, nothing else is raised.
    """
    event = payload.header(headers, "X-GitHub-Event")
    delivery = payload.header(headers, "X-GitHub-Delivery")
    told = payload.read(headers, body)
    pushes: tuple[Push, ...] = ()
    ignored: str | None
    if event == "push":
        push, ignored = _push(told)
        pushes = () if push is None else (push,)
    else:
        ignored = _REASONS.get(event, f"Leeroy does nothing with GitHub's {event} events")
    return Delivery(
        forge="github",
        id=delivery,
        event=event,
        addresses=_addresses(headers, told, needed=event == "push"),
        pushes=pushes,
        ignored=ignored,
    )


def _push(told: payload.Object) -> tuple[Push | None, str | None]:
    ref = payload.text(told, "ref") or ""
    kind, _, rest = ref.removeprefix("refs/").partition("/")
    if not ref.startswith("refs/") or not rest:
        raise payload.BadPayload("ref is missing, or no full name such as refs/heads/main")
    name = payload.name(rest, "ref")
    if kind not in ("heads", "tags"):
        return None, f"{ref} is neither a branch nor a tag"
    branch, tag = (name, None) if kind == "heads" else (None, name)
    default_branch = _default_branch(told)
    after = payload.text(told, "after")
    if payload.flag(told, "deleted") or payload.nothing(after):
        gone = Push(
            branch=branch, tag=tag, commit=None, deleted=True, default_branch=default_branch
        )
        return gone, None
    head = payload.part(told, "head_commit")
    if tag is not None:
        if not head:
            return None, f"tag {tag} does not lead to a commit"
        # `after` is the tag's own object when the tag is annotated.
        commit = payload.commit(payload.text(head, "id"), "head_commit.id")
    else:
        commit = payload.commit(after, "after")
    message = payload.text(head, "message")
    wish = payload.skip(message)
    if wish is not None:
        return None, f"the commit's message says {wish}"
    author = payload.part(head, "author")
    push = Push(
        branch=branch,
        tag=tag,
        commit=commit,
        message=payload.words(head, "message", payload.MESSAGE_LIMIT),
        author=payload.words(author, "name", 300) or payload.words(author, "username", 300),
        author_email=payload.mail(author, "email"),
        default_branch=default_branch,
    )
    return push, None


def _default_branch(told: payload.Object) -> str | None:
    value = payload.text(payload.part(told, "repository"), "default_branch")
    return payload.name(value, "repository.default_branch") if value else None


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
