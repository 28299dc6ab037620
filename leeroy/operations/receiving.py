"""
What a forge's delivery starts and stops: builds of refs that moved and of pull requests.

All of a delivery, its own row among it, is one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from leeroy.context import Context
from leeroy.db import builds, house, remotes
from leeroy.db.house import Taken
from leeroy.model import Build, Delivery, Pull, Push
from leeroy.operations import arriving, common
from leeroy.operations.arriving import Found
from leeroy.operations.beginning import enter
from leeroy.pipelines import Pipeline, matches
from leeroy.terms import State, Turn


def receive(
    conn: Connection, context: Context, delivery: Delivery, pipelines: Sequence[Pipeline]
) -> tuple[list[int], str | None]:
    """
    The builds of one webhook delivery, or the reason why it starts none.

    A delivery that was seen before gives the same builds again, and makes
    none; nor does one that tells again what another event has told.  Who has
    seen it is a pipeline: one event has one id in every webhook (GitHub), and
    each of them may be for other pipelines.  None is told of another's builds.
    """
    seen = house.delivery(conn, delivery.forge, delivery.id)
    if seen is not None and not all(seen.seen_by(one.name) for one in pipelines):
        seen = house.delivery(conn, delivery.forge, delivery.id, lock=True)
    names = [one.name for one in pipelines]
    if seen is not None and all(map(seen.seen_by, names)):
        return _answered(seen, names), "seen before"
    reasons: list[str] = [] if delivery.ignored is None else [delivery.ignored]
    earlier: list[tuple[str, Taken]] = []
    if delivery.about is not None:
        house.alone(conn, delivery.about)
        earlier = house.deliveries_about(conn, delivery.forge, delivery.about)
    answers = {} if seen is None else dict(seen.answers or {})
    made: list[int] = []
    # By name, so that two deliveries take turns at the same pull requests in the same order.
    for pipeline in sorted(pipelines, key=lambda one: one.name):
        if pipeline.name in answers:
            continue
        there = _told_before(earlier, delivery.event, pipeline.name)
        found: list[int | str | Found] = []
        if there:
            reasons.append("another event has told of it before")
        else:
            found = [
                *(_push(conn, context, delivery, pipeline, push) for push in delivery.pushes),
                *(_pull(conn, context, delivery, pipeline, pull) for pull in delivery.pulls),
            ]
        mine = [one for one in found if isinstance(one, int)]
        there += [one.build for one in found if isinstance(one, Found) and one.build is not None]
        reasons += [
            one.reason if isinstance(one, Found) else one
            for one in found
            if not isinstance(one, int)
        ]
        made += mine
        answers[pipeline.name] = list(dict.fromkeys([*mine, *there]))
    text = None
    if not made:
        text = "; ".join(dict.fromkeys(reasons)) or "nothing was pushed"
    every = list(dict.fromkeys(number for numbers in answers.values() for number in numbers))
    if seen is None:
        taken = Taken(every, text, answers)
        house.add_delivery(
            conn,
            delivery.forge,
            delivery.id,
            context.clock.now(),
            taken,
            event=delivery.event,
            about=delivery.about,
        )
    else:
        taken = Taken(every, text if seen.reason is not None else None, answers)
        house.change_delivery(conn, delivery.forge, delivery.id, taken)
    return _answered(taken, names), text


def _answered(taken: Taken, names: Sequence[str]) -> list[int]:
    """The builds that the pipelines of those names have of a delivery."""
    if taken.answers is None:
        return taken.builds
    mine = taken.answers
    return [number for name in sorted(names) for number in mine.get(name, ())]


def _told_before(earlier: Sequence[tuple[str, Taken]], event: str, pipeline: str) -> list[int]:
    """
    The builds that another event's delivery of the same thing has made for the pipeline.

    The n-th delivery of one event belongs to the n-th of the other: a tag that
    is deleted and pushed once more is built once more.
    """
    mine = 0
    made: dict[tuple[int, ...], None] = {}
    for other, taken in earlier:
        if taken.seen_by(pipeline):
            mine += other == event
            if ids := tuple(_answered(taken, [pipeline])):
                made[ids] = None
    return list(list(made)[mine]) if mine < len(made) else []


def _push(
    conn: Connection, context: Context, delivery: Delivery, pipeline: Pipeline, push: Push
) -> int | str | Found:
    """The build of a ref that moved, or why there is none, or what asking found sooner."""
    name = push.branch or push.tag or ""
    ref, now = arriving.full_name(push.branch, push.tag), context.clock.now()
    tip = remotes.locked(conn, pipeline.name, ref, now)
    if push.deleted or push.commit is None:
        return arriving.note_gone(conn, context, pipeline, ref, actor=delivery.forge)
    found = arriving.found_before(conn, pipeline, tip, push.commit, now)
    if found is not None:
        return found
    if not arriving.tests(pipeline, push.branch, push.tag):
        remotes.see(conn, pipeline.name, ref, push.commit, None, now)
        return f"pipeline {pipeline.name} does not test {name}"
    build = enter(
        conn,
        context,
        pipeline,
        actor=delivery.forge,
        trigger="push",
        forge=delivery.forge,
        branch=push.branch,
        tag=push.tag,
        commit=push.commit,
        message=push.message,
        author=push.author,
        author_email=push.author_email,
        default_branch=push.default_branch,
    )
    remotes.see(conn, pipeline.name, ref, push.commit, build.id, now)
    return build.id


def _pull(
    conn: Connection, context: Context, delivery: Delivery, pipeline: Pipeline, pull: Pull
) -> int | str:
    """The build of a pull request, or why there is none."""
    what = f"pull request {pull.number}"
    house.alone(conn, f"{pipeline.name} {what}")
    if pull.turn is Turn.closed:
        open_ones = builds.unfinished_of(conn, pipeline.name, pull_request=pull.number)
        return arriving.end(conn, context, open_ones, delivery.forge, f"{what} was closed")
    if (reason := _unwanted(pipeline, pull)) is not None:
        return reason
    others = builds.of_pull_request(conn, pipeline.name, pull.number)
    for other in others:
        if _same(other.commit, pull.commit) and _counts(other, pull.turn):
            return f"build {other.id} is of this commit of {what} already"
    build = enter(
        conn,
        context,
        pipeline,
        actor=delivery.forge,
        trigger="pull_request",
        forge=delivery.forge,
        branch=pull.branch,
        commit=pull.commit,
        default_branch=pull.default_branch,
        pull_request=pull.number,
        fork=pull.fork,
        base_branch=pull.base_branch,
        head_repository=pull.head_repository,
        pull_request_ref=pull.ref,
        message=pull.title,
        author=pull.author,
        author_email=pull.author_email,
        approved_by=common.EVERY_FORK if pull.fork and pipeline.forks == "test" else None,
    )
    stale = [one for one in others if one.fork and one.state is State.queued]
    unasked = [one for one in stale if one.approved_by is None]
    arriving.end(
        conn, context, unasked, delivery.forge, f"build {build.id} has a newer commit of {what}"
    )
    return build.id


def _unwanted(pipeline: Pipeline, pull: Pull) -> str | None:
    """Why a pull request is not tested, whatever its commit is."""
    what = f"pull request {pull.number}"
    if not matches(pipeline.branches, pull.base_branch):
        return f"pipeline {pipeline.name} does not test pull requests into {pull.base_branch}"
    if not pull.fork:
        return None
    if pipeline.forks == "never":
        return (
            f'{what} comes from a fork, and pipeline {pipeline.name} tests none (forks = "never")'
        )
    if pull.commit is None:
        return f"{what} comes from a fork, and without its commit nobody can approve it"
    if pull.ref is None and pull.head_repository is None:
        return f"{what} comes from a repository that is gone, so its commit cannot be fetched"
    return None


def _same(known: str | None, told: str | None) -> bool:
    """Whether two names, one of which may be cut short, are of the same commit."""
    if not known or not told:
        return False
    return known.startswith(told) or told.startswith(known)


def _counts(other: Build, turn: Turn) -> bool:
    """Whether *other* makes a new build of its commit needless."""
    if turn is Turn.reopened:
        return not other.state.over and other.stop_at is None
    return other.state not in (State.cancelled, State.superseded) and other.stop_at is None
