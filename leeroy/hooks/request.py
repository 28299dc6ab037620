"""Pull requests as GitHub, Gitea, Forgejo and Gogs tell them, who learned it from each other."""

from __future__ import annotations

from collections.abc import Mapping

from leeroy.hooks import change, payload
from leeroy.hooks.change import Told
from leeroy.model import Pull
from leeroy.terms import Turn

_WAYS = ("clone_url", "html_url", "ssh_url")


def pull(told: payload.Object, turns: Mapping[str, Turn], *, edits: tuple[str, ...]) -> Told:
    """
    The pull request in *told*.

    *turns* says what each action means; an `edited` one counts when one of
    *edits* is among its changes.  Gogs names branches and repositories in
    keys of its own, and no commit.
    """
    action = payload.text(told, "action") or ""
    changes = payload.part(told, "changes")
    turn = turns.get(action)
    if action == "edited" and any(changes.get(key) is not None for key in edits):
        turn = Turn.changed
    if turn is None:
        shown = payload.words(told, "action", 100) or "without an action"
        return Told(ignored=f"a pull request that was {shown} has no new commit to test")
    request = payload.part(told, "pull_request")
    number = payload.count(told if "number" in told else request, "number")
    if turn is not Turn.closed and payload.flag(request, "draft"):
        return Told(ignored=change.draft(number, turn))
    head, base = payload.part(request, "head"), payload.part(request, "base")
    source = payload.part(head, "repo") or payload.part(request, "head_repo")
    target = payload.part(base, "repo") or payload.part(request, "base_repo")
    user = payload.part(request, "user")
    fork = change.fork(
        [
            (_id(head, source), _id(base, target)),
            (payload.ident(source, "full_name"), payload.ident(target, "full_name")),
        ]
    )
    made = Pull(
        number=number,
        turn=turn,
        commit=_commit(request, head),
        branch=_branch(request, head, "head"),
        base_branch=_branch(request, base, "base") or "",
        fork=fork,
        ref=f"refs/pull/{number}/head",
        head_repository=next(filter(None, (payload.url(source, way) for way in _WAYS)), None),
        title=payload.words(request, "title", payload.MESSAGE_LIMIT),
        author=payload.words(user, "full_name", 300) or payload.words(user, "login", 300),
        author_email=None if fork else payload.mail(user, "email"),
        default_branch=change.default_branch(payload.part(told, "repository")),
    )
    return Told(pull=made)


def _id(side: payload.Object, repository: payload.Object) -> str | None:
    return payload.ident(repository, "id") or payload.ident(side, "repo_id")


def _commit(request: payload.Object, head: payload.Object) -> str | None:
    if "head_branch" in request and not head:
        return None
    return payload.commit(payload.text(head, "sha"), "pull_request.head.sha")


def _branch(request: payload.Object, side: payload.Object, word: str) -> str:
    value = payload.text(side, "ref") or payload.text(request, f"{word}_branch")
    return payload.name(value or "", f"pull_request.{word}.ref")
