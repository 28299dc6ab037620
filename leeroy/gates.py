"""
Why a deploy waits.

Each gate is a small function of the facts; it is open (None) or gives the
sentence that `leeroy why`, the page and the notices show.  The gates are
asked again inside the transaction of the `deploy` move, with the rows of all
environments of the same lock locked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from leeroy import pipelines, windows, zones
from leeroy.db import builds, deploys, outbox
from leeroy.model import Build, Deploy, Environment
from leeroy.terms import State

UNHEARD_S = 300.0
"""After so long without anybody told, `unheard` says what happens."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """
    All that decides whether a deploy may start.

    `plan` is the deploy as the pipeline says it; `places` are the environments
    that share its lock, its own and the row for all included.  `listening` is
    how many targets the announcement goes to.  `watched_s` is how long the
    asking process has watched the announced, heard and otherwise free deploy,
    `tried_s` for how long it has tried in vain to tell anybody; None: it has not.
    """

    build: Build
    deploy: Deploy
    plan: pipelines.Deploy
    places: Sequence[Environment]
    older_tags: Sequence[int]
    listening: int
    watched_s: float | None
    tried_s: float | None = None
    now: datetime

    @property
    def environment(self) -> Environment | None:
        """The row of the environment itself."""
        for place in self.places:
            if (place.pipeline, place.name) == (self.build.pipeline, self.plan.environment):
                return place
        return None


@dataclass(frozen=True)
class Wait:
    """Which gate is closed, the sentence for people, and when to look again (None: on change)."""

    gate: str
    sentence: str
    until: datetime | None = None


Gate = Callable[[Facts], Wait | None]


def order(facts: Facts) -> Wait | None:
    """Tags are deployed one after the other, in the order in which they were accepted."""
    if facts.build.tag is None or not facts.older_tags or facts.build.deploy_to is not None:
        return None
    first = facts.older_tags[0]
    return Wait("order", f"the older tag build {first} goes first")


def freeze(facts: Facts) -> Wait | None:
    """Nothing is deployed to a frozen environment but what a person asked for."""
    for place in facts.places:
        mine = place is facts.environment
        every = (place.pipeline, place.name) == deploys.EVERY
        if place.frozen_at is None or not (mine or every):
            continue
        if place.frozen_until is not None and place.frozen_until <= facts.now:
            continue
        if facts.build.deploy_to is not None and not (every and place.frozen_by == "leeroy"):
            continue
        what = "everything is" if every else f"{place.pipeline}/{place.name} is"
        why = f": {place.frozen_reason}" if place.frozen_reason else ""
        until = f" until {place.frozen_until:%Y-%m-%d %H:%M} UTC" if place.frozen_until else ""
        return Wait("freeze", f"{what} frozen by {place.frozen_by}{until}{why}", place.frozen_until)
    return None


def window(facts: Facts) -> Wait | None:
    """
    A deploy starts only while one of its environment's windows is open.

    What a person asked for by `leeroy deploy` passes: a rollback cannot wait for Monday.
    A window that closes before the grace period can be over counts as closed: nobody is
    told of a start that would not come.
    """
    plan, now = facts.plan, facts.now
    if not plan.windows or facts.build.deploy_to is not None:
        return None
    why, closes = "", windows.closes(plan.windows, now)
    if closes is not None and closes > now:
        if _hurried(facts) or closes - now >= _left(facts):
            return None
        why, now = "its window closes before the grace period is over; ", closes
    opens = windows.opens(plan.windows, now)
    if opens is None:
        return Wait("window", f"{why}none of its windows opens in the next two weeks")
    if opens <= facts.now:
        return None
    when = zones.local(opens, plan.windows[0].zone)
    return Wait("window", f"{why}its window opens {when}", opens)


def _left(facts: Facts) -> timedelta:
    """How much of the grace period is to come, as far as it has begun."""
    if facts.deploy.deploy_at is not None and facts.deploy.heard_at is not None:
        return max(facts.deploy.deploy_at - facts.now, timedelta())
    return timedelta(seconds=facts.plan.grace_s)


def holder(facts: Facts) -> Wait | None:
    """One deploy at a time in an environment, and in all that share its lock."""
    for place in facts.places:
        if place.holder is not None and place.holder != facts.build.id:
            return Wait("lock", f"build {place.holder} is at {place.pipeline}/{place.name}")
    return None


def held(facts: Facts) -> Wait | None:
    """What was held goes on only when a person says so."""
    if facts.deploy.held_at is None:
        return None
    why = f": {facts.deploy.held_reason}" if facts.deploy.held_reason else ""
    return Wait(
        "hold",
        f"held by {facts.deploy.held_by}{why}; `{_approve(facts)}` lets it go on",
    )


def approval(facts: Facts) -> Wait | None:
    """Where the pipeline says so, a person must say go."""
    if not facts.plan.approve or facts.deploy.approved_at is not None:
        return None
    return Wait("approval", f"a person must say go: `{_approve(facts)}` (approve = true)")


def _approve(facts: Facts) -> str:
    # With its environment: so it is taken whatever else the build goes to, and never for another.
    return f"leeroy approve {facts.build.id} --environment {facts.plan.environment}"


def _hurried(facts: Facts) -> bool:
    """Whether nobody is owed a grace period."""
    return (
        facts.deploy.approved_at is not None
        or facts.build.without_grace
        or facts.plan.grace_s <= 0
        or facts.listening == 0
    )


def untold(facts: Facts) -> bool:
    """Whether people are owed a grace period, and nobody has been told yet."""
    return not _hurried(facts) and facts.deploy.heard_at is None


def heard(facts: Facts) -> Wait | None:
    """
    The grace period starts when somebody was told.

    What counts is the time in which it was really tried: while the server was
    down or stopped, or its database away, nobody could have been told.
    """
    if not untold(facts):
        return None
    left = UNHEARD_S - (facts.tried_s or 0.0)
    # Whoever only looks has not tried: that the period runs says that it was tried long enough.
    enough = left <= 0 if facts.tried_s is not None else facts.deploy.deploy_at is not None
    if enough and facts.plan.unheard == "deploy":
        return None
    return Wait(
        "heard",
        "nobody could be told yet; the grace period starts when somebody was",
        facts.now + timedelta(seconds=max(left, 0.0)),
    )


def grace(facts: Facts) -> Wait | None:
    """The grace period, as watched from its start to its end."""
    if _hurried(facts):
        return None
    if facts.watched_s is not None and facts.watched_s >= facts.plan.grace_s:
        return None
    if facts.watched_s is None:
        left = facts.plan.grace_s
        if facts.deploy.deploy_at is not None:
            left = (facts.deploy.deploy_at - facts.now).total_seconds()
    else:
        left = facts.plan.grace_s - facts.watched_s
    left = max(left, 0.0)
    # rounded up: "in 0 s" would be a lie while it waits
    return Wait(
        "grace",
        f"the grace period ends in {int(left) + 1} s",
        facts.now + timedelta(seconds=left),
    )


GATES: tuple[Gate, ...] = (order, freeze, window, holder, held, approval, heard, grace)
"""In the order in which they are asked; the first that is closed is why a deploy waits."""

BEFORE_GRACE: tuple[Gate, ...] = (order, freeze, window, holder, held, approval, heard)
"""The grace period is watched only while all of these are open."""


def closed(facts: Facts, gates: Sequence[Gate] = GATES) -> Wait | None:
    """The first gate that is closed."""
    for gate in gates:
        if (wait := gate(facts)) is not None:
            return wait
    return None


def facts(
    conn: Connection,
    build: Build,
    plan: pipelines.Deploy,
    *,
    now: datetime,
    watched_s: float | None = None,
    lock: bool = False,
) -> Facts:
    """What the rows say about a waiting deploy; with *lock* nobody changes it until the commit."""
    deploys.ensure_every(conn) if lock else None
    if lock:
        deploys.ensure(conn, build.pipeline, [(plan.environment, plan.lock)])
    places = deploys.locked(conn, plan.lock) if lock else deploys.sharing(conn, plan.lock)
    deploy = deploys.get(conn, build.id, plan.environment)
    assert deploy is not None, f"build {build.id} waits without a row in deploys"
    return Facts(
        build=build,
        deploy=deploy,
        plan=plan,
        places=places,
        older_tags=builds.older_tags(conn, build) if build.tag is not None else (),
        listening=outbox.announcement_targets(conn, build.id, deploy.announced_seq or 0),
        watched_s=watched_s,
        now=now,
    )


def overtaken_by(conn: Connection, build: Build, environment: Environment | None) -> str | None:
    """
    Why a build may not be deployed there at all: something newer is there, or announced.

    None: it may.  Tags never give way to each other; what a person asked for
    by `leeroy deploy` gives way only to what runs there, or to a person's newer
    wish: the environment is frozen for whatever else is announced.
    """
    if environment is None:
        return None
    runs = environment.runs_place
    if runs is not None and runs > build.place:
        return f"build {environment.runs_build} runs in {environment.name}, and is newer"
    waiting = builds.at_environment(
        conn, build.pipeline, environment.name, State.deploy_pending, State.deploying
    )
    for other in waiting:
        tags = other.tag is not None and build.tag is not None
        asked = build.deploy_to is not None and other.deploy_to is None
        if other.place > build.place and not tags and not asked:
            return f"build {other.id} is announced for {environment.name}, and is newer"
    return None
