"""What moved: refs and pull requests, as all forges' deliveries tell them in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from leeroy.hooks import payload
from leeroy.model import Pull, Push
from leeroy.terms import Turn


class Told(NamedTuple):
    """What one part of a delivery says: something that moved, or why it starts nothing."""

    push: Push | None = None
    pull: Pull | None = None
    ignored: str | None = None


class Ref(NamedTuple):
    """A branch or a tag; exactly one of them is set."""

    branch: str | None
    tag: str | None


def ref(full: str | None) -> Ref | None:
    """The branch or tag of a full name such as refs/heads/main; None for any other ref."""
    kind, _, rest = (full or "").removeprefix("refs/").partition("/")
    if not (full or "").startswith("refs/") or not rest:
        raise payload.BadPayload("ref is missing, or no full name such as refs/heads/main")
    name = payload.name(rest, "ref")
    if kind not in ("heads", "tags"):
        return None
    return Ref(name, None) if kind == "heads" else Ref(None, name)


def short_ref(kind: str | None, value: str | None, key: str) -> Ref | None:
    """The branch or tag of a short name with its kind; None for any other kind."""
    if kind not in ("branch", "tag"):
        return None
    name = payload.name(value or "", key)
    return Ref(name, None) if kind == "branch" else Ref(None, name)


def push(
    told: payload.Object,
    *,
    head: payload.Object,
    tag_commit: str | None,
    default_branch: str | None,
) -> Told:
    """
    The move of `ref` from `before` to `after` in *told*.

    *head* is the newest commit (`id`, `message`, `author`), as far as it is
    told.  *tag_commit* is what a tag leads to: for an annotated one `after`
    is the tag's own object.
    """
    full = payload.text(told, "ref")
    named = ref(full)
    if named is None:
        return Told(ignored=f"{full} is neither a branch nor a tag")
    before, after = payload.text(told, "before"), payload.text(told, "after")
    if payload.flag(told, "deleted") or payload.nothing(after):
        return Told(push=deleted(named, default_branch))
    if before is not None and before == after:
        return Told(ignored="nothing moved: before and after are the same, as in a test delivery")
    if named.tag is not None:
        if not tag_commit:
            return Told(ignored=f"tag {named.tag} does not lead to a commit")
        commit = payload.commit(tag_commit, "the tag's commit")
    else:
        commit = payload.commit(after, "after")
    author = payload.part(head, "author")
    return pushed(
        named,
        commit,
        message=payload.words(head, "message", payload.MESSAGE_LIMIT),
        author=payload.words(author, "name", 300) or payload.words(author, "username", 300),
        author_email=payload.mail(author, "email"),
        default_branch=default_branch,
    )


def deleted(named: Ref, default_branch: str | None = None) -> Push:
    """A ref that is gone."""
    return Push(
        branch=named.branch,
        tag=named.tag,
        commit=None,
        deleted=True,
        default_branch=default_branch,
    )


def pushed(
    named: Ref,
    commit: str,
    *,
    message: str | None,
    author: str | None,
    author_email: str | None,
    default_branch: str | None = None,
) -> Told:
    """A ref that stands at *commit* now, unless that one's message asks for no build."""
    if (wish := payload.skip(message)) is not None:
        return Told(ignored=f"the commit's message says {wish}")
    made = Push(
        branch=named.branch,
        tag=named.tag,
        commit=commit,
        message=message,
        author=author,
        author_email=author_email,
        default_branch=default_branch,
    )
    return Told(push=made)


def fork(pairs: Sequence[tuple[str | None, str | None]]) -> bool:
    """
    Whether source and target are two repositories.

    *pairs* are what each is known by (ids, names).  They are the same only
    when something is known of both and nothing differs: where the forge tells
    nothing (the fork was deleted), it is a fork.
    """
    known = [(a.lower(), b.lower()) for a, b in pairs if a and b]
    return not known or any(a != b for a, b in known)


def draft(number: int, turn: Turn) -> str:
    """Why a draft is not tested."""
    return f"pull request {number} is a draft; it is tested once it is ready for review"


def default_branch(repository: payload.Object) -> str | None:
    """The repository's default branch, as far as it is told."""
    value = payload.text(repository, "default_branch")
    return payload.name(value, "repository.default_branch") if value else None


def gathered(told: Sequence[Told]) -> tuple[tuple[Push, ...], tuple[Pull, ...], str | None]:
    """The pushes, the pulls and, where there is neither, the reasons why."""
    pushes = tuple(one.push for one in told if one.push is not None)
    pulls = tuple(one.pull for one in told if one.pull is not None)
    reasons = dict.fromkeys(one.ignored for one in told if one.ignored is not None)
    ignored = None if pushes or pulls else "; ".join(reasons) or "nothing moved"
    return pushes, pulls, ignored
