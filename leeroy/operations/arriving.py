"""
How pushes become builds, whoever tells of them: a delivery, or a look at the repository.

Both write where a branch or tag is now (its tip) in the transaction of the
build, with the tip's row locked.  So of the two, in whatever order and at
whatever moment they come, one makes the build and the other finds it made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from leeroy.context import Context
from leeroy.db import builds, house, remotes
from leeroy.db.remotes import Tip
from leeroy.hooks import payload
from leeroy.model import Delivery, Move, Push
from leeroy.operations import common
from leeroy.operations.beginning import enter
from leeroy.pipelines import Pipeline, matches

PUSH = "push"
POLL = "poll"
"""What `trigger` says of a push that a delivery told of, and of one that asking found."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """
    What a branch or tag shows, as git tells; `ref` is its full name.

    `commit` is None when it leads to none.  `passed_over` are the commits
    between the ones it was seen at before and this one.
    """

    ref: str
    commit: str | None
    at: int = 0
    message: str | None = None
    author: str | None = None
    author_email: str | None = None
    passed_over: Sequence[str] = ()


@dataclass
class _Answer:
    """What becomes of a delivery: builds it made, builds that were there, and why no more."""

    made: list[int]
    there: list[int]
    reasons: list[str]


def push(
    conn: Connection, context: Context, delivery: Delivery, pipelines: list[Pipeline]
) -> tuple[list[int], str | None]:
    """
    The builds of one webhook delivery, or the reason why it starts none.

    A delivery that was seen before gives the same builds again, and makes
    none; so does one of a commit that its branch or tag is known to be at.
    """
    seen = house.delivery(conn, delivery.forge, delivery.id)
    if seen is not None:
        return seen[0], "seen before"
    now = context.clock.now()
    answer = _Answer([], [], [] if delivery.ignored is None else [delivery.ignored])
    for pipeline in sorted(pipelines, key=lambda one: one.name):
        for ref in delivery.pushes:
            _arrive(conn, context, pipeline, ref, delivery.forge, answer, now)
        remotes.delivered(conn, pipeline.name, delivery.forge, now)
    text = None
    if not answer.made:
        text = "; ".join(dict.fromkeys(answer.reasons)) or "nothing was pushed"
    numbers = [*answer.made, *(one for one in answer.there if one not in answer.made)]
    house.add_delivery(conn, delivery.forge, delivery.id, now, numbers, text)
    return numbers, text


def _arrive(
    conn: Connection,
    context: Context,
    pipeline: Pipeline,
    ref: Push,
    forge: str,
    answer: _Answer,
    now: datetime,
) -> None:
    name = full_name(ref.branch, ref.tag)
    tip = remotes.locked(conn, pipeline.name, name, now)
    if ref.deleted or ref.commit is None:
        remotes.see(conn, pipeline.name, name, None, None, now)
        cancel_waiting(conn, context, pipeline.name, name, actor=forge)
        answer.reasons.append(f"{ref.branch or ref.tag} was deleted")
        return
    if tip.found_at is not None and _is_found(conn, pipeline, name, tip, ref.commit, answer, now):
        return
    reason = unwanted(pipeline, ref.branch, ref.tag)
    if reason is not None:
        remotes.see(conn, pipeline.name, name, ref.commit, None, now)
        answer.reasons.append(reason)
        return
    build = enter(
        conn,
        context,
        pipeline,
        actor=forge,
        trigger=PUSH,
        branch=ref.branch,
        tag=ref.tag,
        commit=ref.commit,
        message=ref.message,
        author=ref.author,
        author_email=ref.author_email,
        default_branch=ref.default_branch,
    )
    remotes.see(conn, pipeline.name, name, ref.commit, build.id, now)
    answer.made.append(build.id)


def _is_found(
    conn: Connection,
    pipeline: Pipeline,
    name: str,
    tip: Tip,
    commit: str,
    answer: _Answer,
    now: datetime,
) -> bool:
    """Whether asking found that commit before its delivery came; then that is the answer."""
    missed = remotes.missed_one(conn, pipeline.name, name, commit)
    if missed is None:
        return False
    remotes.told(conn, pipeline.name, name, commit, now)
    if tip.commit != commit:
        # Late, or the branch was set back just now: the repository itself is asked which it is.
        remotes.doubt(conn, pipeline.name)
        answer.reasons.append(f"{_short(name)} was seen past this commit; it is looked at again")
    elif missed.build is None:
        return False
    else:
        answer.reasons.append(
            f"build {missed.build} is of this commit; it was found by asking the repository"
        )
    if missed.build is not None:
        answer.there.append(missed.build)
    return True


def catch_up(conn: Connection, context: Context, pipeline: Pipeline, head: Head) -> int | None:
    """
    The build of what asking found on a branch or tag; None when there is to be none.

    The caller has the tip locked, and knows that it has not changed since
    before the repository was asked.
    """
    assert head.commit is not None
    now = context.clock.now()
    branch, tag = parts(head.ref)
    number = None
    if unwanted(pipeline, branch, tag) is None and payload.skip(head.message) is None:
        build = enter(
            conn,
            context,
            pipeline,
            actor=f"poll@{context.host_name}",
            trigger=POLL,
            branch=branch,
            tag=tag,
            commit=head.commit,
            message=head.message,
            author=head.author,
            author_email=head.author_email,
        )
        number = build.id
    remotes.see(conn, pipeline.name, head.ref, head.commit, number, now)
    remotes.found(conn, pipeline.name, head.ref, head.commit, head.passed_over, number, now)
    return number


def note_gone(conn: Connection, context: Context, pipeline: Pipeline, ref: str) -> None:
    """A branch or tag (its tip locked) is not there any more: what waits of it is cancelled."""
    remotes.see(conn, pipeline.name, ref, None, None, context.clock.now())
    cancel_waiting(conn, context, pipeline.name, ref, actor=f"poll@{context.host_name}")


def cancel_waiting(
    conn: Connection, context: Context, pipeline: str, ref: str, *, actor: str
) -> None:
    """Cancel what waits of a deleted branch or tag; what runs goes on."""
    branch, tag = parts(ref)
    reason = f"{_short(ref)} was deleted"
    for build in builds.waiting_on(conn, pipeline, branch=branch, tag=tag):
        common.move(conn, context, build, Move.cancel, actor=actor, reason=reason)


def unwanted(pipeline: Pipeline, branch: str | None, tag: str | None) -> str | None:
    """Why a push of that branch or tag starts nothing; None when it does."""
    name = branch or tag or ""
    if matches(pipeline.branches, name):
        return None
    if tag is not None and any(
        deploy.tags is not None and matches(deploy.tags, name) for deploy in pipeline.deploys
    ):
        return None
    return f"pipeline {pipeline.name} does not test {name}"


def full_name(branch: str | None, tag: str | None) -> str:
    """A branch's or tag's name with its refs/…."""
    return f"refs/heads/{branch}" if tag is None else f"refs/tags/{tag}"


def parts(ref: str) -> tuple[str | None, str | None]:
    """The branch, or the tag, that a full name is of."""
    if ref.startswith("refs/tags/"):
        return None, ref.removeprefix("refs/tags/")
    return ref.removeprefix("refs/heads/"), None


def _short(ref: str) -> str:
    branch, tag = parts(ref)
    return f"branch {branch}" if tag is None else f"tag {tag}"
