"""
Where branches and tags are: told by a delivery, or found by a look at the repository.

Both write a ref's tip in the transaction of its build, with the tip's row
locked.  So of the two, in whatever order and at whatever moment they come, one
makes the build and the other finds it made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from leeroy.context import Context
from leeroy.db import builds, remotes
from leeroy.db.remotes import Tip
from leeroy.hooks import payload
from leeroy.model import Build
from leeroy.operations import common
from leeroy.operations.beginning import enter
from leeroy.pipelines import Pipeline, matches
from leeroy.terms import Move, State

POLL = "poll"
"""What `trigger` says of a push that asking found."""


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


@dataclass(frozen=True)
class Found:
    """What asking found of a commit before its delivery came: its build, and why no other."""

    build: int | None
    reason: str


def found_before(
    conn: Connection, pipeline: Pipeline, tip: Tip, commit: str, now: datetime
) -> Found | None:
    """
    What asking found of a delivered commit; None when the delivery is to be built.

    A commit that the head had passed over is not built any more: that would
    bring back old code.
    """
    if tip.found_at is None:
        return None
    missed = remotes.missed_one(conn, pipeline.name, tip.ref, commit)
    if missed is None:
        return None
    remotes.told(conn, pipeline.name, tip.ref, commit, now)
    if tip.commit != commit:
        # Late, or the branch was set back just now: the repository itself is asked which it is.
        remotes.doubt(conn, pipeline.name)
        text = f"{_short(tip.ref)} was seen past this commit; the repository is looked at again"
        return Found(missed.build, text)
    if missed.build is None:
        return None
    text = f"build {missed.build} is of this commit; it was found by asking the repository"
    return Found(missed.build, text)


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
    if tests(pipeline, branch, tag) and payload.skip(head.message) is None:
        build = enter(
            conn,
            context,
            pipeline,
            actor=f"poll@{context.host_name}",
            trigger=POLL,
            forge=pipeline.forge,
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


def note_gone(
    conn: Connection, context: Context, pipeline: Pipeline, ref: str, *, actor: str
) -> str:
    """A branch or tag (its tip locked) is not there any more: its builds end; in words."""
    remotes.see(conn, pipeline.name, ref, None, None, context.clock.now())
    branch, tag = parts(ref)
    gone = builds.unfinished_of(conn, pipeline.name, branch=branch, tag=tag)
    return end(conn, context, gone, actor, f"{branch or tag} was deleted")


def end(conn: Connection, context: Context, found: Sequence[Build], actor: str, reason: str) -> str:
    """Cancel what waits, stop what is being tested; a deploy that runs goes on to its end."""
    ended = 0
    for build in found:
        if build.state is State.building:
            if build.stop_at is None:
                builds.ask_to_stop(conn, build, context.clock.now(), actor, reason)
                ended += 1
        else:
            common.move(conn, context, build, Move.cancel, actor=actor, reason=reason)
            ended += 1
    return f"{reason}; builds cancelled: {ended}" if ended else reason


def tests(pipeline: Pipeline, branch: str | None, tag: str | None) -> bool:
    """Whether a push of that branch or tag is one that the pipeline tests."""
    if matches(pipeline.branches, branch or tag or ""):
        return True
    return tag is not None and any(
        deploy.tags is not None and matches(deploy.tags, tag) for deploy in pipeline.deploys
    )


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
