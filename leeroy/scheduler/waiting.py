"""What becomes of a deploy that waits, of one whose end nobody saw, and of a wish to stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from leeroy import gates, guard, onward, windows
from leeroy.advance import advance
from leeroy.context import Context
from leeroy.db import builds, chronicle, deploys, steps
from leeroy.model import Build, Step
from leeroy.scheduler import ending, starting
from leeroy.scheduler.acts import (
    Act,
    DropWatch,
    Launch,
    StartTrying,
    StartWatch,
    Stop,
    TryKey,
    WatchKey,
)
from leeroy.terms import Kind, Move, Stage, State, StepState

LOOKED_AT = (
    State.passed,
    State.deploy_pending,
    State.interrupted,
    State.building,
    State.deploying,
)
_AGAIN_S = 5.0
_SHIFTED = timedelta(seconds=0.5)
"""By so much what people are shown of a deploy's start may be wrong."""
_HELD_S = 60.0
"""A person is asked and nothing waits for it, so this often is enough to look what is left."""


@dataclass(frozen=True)
class Watching:
    """
    What this process has watched.

    `name` is this process's own (a new one after every interruption), `away_s`
    how long nobody watched before it began.  `watched` holds for how many
    seconds each deploy has been watched, `tried` for how many nobody could be
    told of it; `room` says why nothing may start.
    `cleared` are the lost deploys' runs of which provably nothing is left.
    """

    name: str
    away_s: float
    watched: Mapping[WatchKey, float]
    room: str | None
    cleared: frozenset[str]
    tried: Mapping[TryKey, float] = field(default_factory=dict)


def due(conn: Connection, now: datetime) -> tuple[list[Build], datetime | None]:
    """What is due, and when the next one is, in one picture; most often nothing is."""
    next_at = builds.next_due(conn)
    if next_at is None or next_at > now:
        return [], next_at
    return builds.due(conn, now, LOOKED_AT), next_at


def look(conn: Connection, context: Context, build_id: int, watching: Watching) -> list[Act]:
    """What is due for one build."""
    build = builds.get(conn, build_id, lock=True)
    context = context.at_one_moment()
    if build is None or build.due_at is None or build.due_at > context.clock.now():
        return []
    if build.state in (State.building, State.deploying):
        return _stop(conn, context, build)
    if build.state is State.passed:
        now, actor = context.clock.now(), context.scheduler
        onward.onward(conn, build, now=now, actor=actor, house=context.house)
        return []
    if build.state is State.deploy_pending:
        return _pending(conn, context, build, watching)
    if build.state is State.interrupted:
        return _interrupted(conn, context, build, watching)
    builds.change(conn, build.id, due_at=None)
    return []


def _stop(conn: Connection, context: Context, build: Build) -> list[Act]:
    builds.change(conn, build.id, due_at=None)
    if build.stop_at is None:
        return []
    running = [s for s in steps.of(conn, build.id) if s.state is StepState.running]
    reason = f"stopped by {build.stop_actor}"
    return [Stop(s.run_id, reason) for s in running if s.run_id and s.host == context.host_id]


def _move(conn: Connection, context: Context, build: Build, move: Move, **options: Any) -> Build:
    options = {"actor": context.scheduler} | options
    return advance(conn, build, move, now=context.clock.now(), house=context.house, **options)


# --- a deploy that waits


def _pending(conn: Connection, context: Context, build: Build, watching: Watching) -> list[Act]:
    now = context.clock.now()
    plan = onward.plan_of(build)
    facts = gates.facts(conn, build, plan, now=now, lock=True)
    heard = facts.deploy.heard_at is not None
    announced: TryKey = (build.id, plan.environment, facts.deploy.announced_seq or 0)
    key: WatchKey = (*announced, heard)
    facts = replace(facts, tried_s=watching.tried.get(announced, 0.0))
    older = gates.overtaken_by(conn, build, facts.environment)
    if older is not None:
        _move(conn, context, build, Move.supersede, reason=older)
        return [DropWatch(build.id)]
    wait = gates.closed(facts, gates.BEFORE_GRACE)
    if wait is None or wait.gate != "window":  # outside its window nothing needs to be watched
        if _interrupted_watch(facts, watching, context.config.stale_after_s):
            return _watch_anew(conn, context, build, facts, watching)
        if _opened_since(facts):
            return _announce_anew(
                conn, context, build, watching, "its window is open; the grace period begins anew"
            )
    if facts.deploy.watcher != watching.name:
        deploys.put(conn, build, plan.environment, watcher=watching.name)
    if wait is not None:
        _note(conn, build, plan.environment, wait.gate, wait.sentence, now)
        if wait.gate == "heard" and wait.until is not None and wait.until <= now:
            minutes = int(gates.UNHEARD_S // 60)
            reason = f"nobody could be told for {minutes} minutes"
            _move(conn, context, build, Move.hold, reason=reason)
        else:
            if facts.deploy.deploy_at is not None:  # it will not be then
                deploys.put(conn, build, plan.environment, deploy_at=None)
            builds.change(conn, build.id, due_at=wait.until)
        if gates.untold(facts) and announced not in watching.tried:
            return [DropWatch(build.id), StartTrying(announced)]
        return [DropWatch(build.id)]
    if watching.room is not None:
        builds.change(conn, build.id, due_at=now + timedelta(seconds=_AGAIN_S))
        return []
    grace = gates.grace(replace(facts, watched_s=watching.watched.get(key)))
    if grace is None:
        if guard.look(conn, context) is not None:
            return [DropWatch(build.id)]  # frozen in this very transaction
        _open(conn, build, facts, watching.watched.get(key), now)
        return [DropWatch(build.id), *_deploy(conn, context, build, facts)]
    if key in watching.watched:
        left = plan.grace_s - watching.watched[key]
        until = now + timedelta(seconds=max(left, 0.001))
        if facts.deploy.deploy_at is None or abs(until - facts.deploy.deploy_at) > _SHIFTED:
            # Not all of the time counted, or the clock was set.
            deploys.put(conn, build, plan.environment, deploy_at=until)
        builds.change(conn, build.id, due_at=until)
        return []
    until = now + timedelta(seconds=plan.grace_s)
    deploys.put(conn, build, plan.environment, deploy_at=until)
    begins = f"the grace period of {plan.grace_s:g} s begins"
    _note(conn, build, plan.environment, "grace", begins, now)
    builds.change(conn, build.id, due_at=until)
    return [StartWatch(key)]


def _note(
    conn: Connection, build: Build, environment: str, gate: str, sentence: str, now: datetime
) -> None:
    """Write down which gate is closed, once for each change."""
    last = chronicle.last(conn, build.id, Kind.gate)
    if last is None or (last.seq, last.who, last.said) != (build.version, gate, sentence):
        chronicle.add(
            conn, build.id, build.version, Kind.gate, gate, now, said=sentence,
            environment=environment,
        )  # fmt: skip


def _open(
    conn: Connection, build: Build, facts: gates.Facts, watched_s: float | None, now: datetime
) -> None:
    """Write down that every gate is open, and the grace period as it was really watched."""
    deploy, grace_s = facts.deploy, facts.plan.grace_s
    if deploy.approved_at is not None:
        why = f"approved by {deploy.approved_by}"
    elif build.without_grace:
        why = "no grace period was asked for (--now)"
    elif grace_s <= 0:
        why = 'no grace period (grace = "0s")'
    elif facts.listening == 0:
        why = "no grace period: nobody hears deploy_pending"
    elif deploy.heard_at is None:
        minutes = int(gates.UNHEARD_S // 60)
        lets = 'its pipeline lets it go all the same (unheard = "deploy")'
        why = f"nobody could be told for {minutes} minutes, and {lets}"
    else:
        why = f"the grace period of {grace_s:g} s was watched to its end"
    number = None if watched_s is None else round(watched_s * 1_000_000)
    chronicle.add(
        conn, build.id, build.version, Kind.gate, "open", now, said=why, number=number,
        environment=facts.plan.environment,
    )  # fmt: skip


def _interrupted_watch(facts: gates.Facts, watching: Watching, stale_after_s: float) -> bool:
    deploy = facts.deploy
    if deploy.approved_at is not None or deploy.held_at is not None:
        return False
    if deploy.announced_at is None:
        return True  # after a thaw
    if deploy.watcher is None or deploy.watcher == watching.name:
        return False
    # What nobody has heard yet is still being told: to announce it again would tell it twice.
    begun = deploy.heard_at is not None or deploy.deploy_at is not None
    return begun or watching.away_s > stale_after_s


def _opened_since(facts: gates.Facts) -> bool:
    """
    Whether the window opened after the announcement.

    Whoever was told on Friday evening of a deploy on Monday morning is told again on Monday
    morning, and then has the whole grace period.
    """
    deploy = facts.deploy
    if not facts.plan.windows or facts.build.deploy_to is not None or deploy.held_at is not None:
        return False
    if deploy.approved_at is not None or deploy.announced_at is None:
        return False
    since = windows.open_since(facts.plan.windows, facts.now)
    return since is not None and deploy.announced_at < since


def _announce_anew(
    conn: Connection, context: Context, build: Build, watching: Watching, why: str
) -> list[Act]:
    moved = _move(conn, context, build, Move.announce, reason=why)
    assert moved.environment is not None
    deploys.put(conn, moved, moved.environment, watcher=watching.name)
    return [DropWatch(build.id)]


def _watch_anew(
    conn: Connection, context: Context, build: Build, facts: gates.Facts, watching: Watching
) -> list[Act]:
    """Nobody watched for a while: announce again with the full grace period, or hold."""
    if facts.deploy.announced_at is not None and watching.away_s > context.config.stale_after_s:
        hours = watching.away_s / 3600
        reason = f"stale: Leeroy could not watch it for {hours:.1f} h"
        moved = _move(conn, context, build, Move.hold, reason=reason)
        assert moved.environment is not None
        deploys.put(conn, moved, moved.environment, watcher=watching.name)
        return [DropWatch(build.id)]
    why = "Leeroy could not watch it for a while; the grace period begins anew"
    if facts.deploy.announced_at is None:
        why = "thawed; the grace period begins anew"
    return _announce_anew(conn, context, build, watching, why)


def _deploy(conn: Connection, context: Context, build: Build, facts: gates.Facts) -> list[Act]:
    plan = facts.plan
    moved = _move(conn, context, build, Move.deploy)
    builds.change(conn, build.id, host=context.host_id)
    scripts: list[tuple[Stage, str]] = []
    if build.repository is not None:
        scripts.append((Stage.checkout, starting.CHECKOUT))
    scripts.append((Stage.deploy, plan.environment))
    if plan.verify is not None:
        scripts.append((Stage.verify, plan.environment))
    planned = starting.add_steps(
        conn,
        context,
        moved,
        scripts,
        environment=plan.environment,
        now=context.clock.now(),
    )
    return [starting.launch(conn, moved, planned[0], fresh=True)]


# --- a deploy whose end nobody saw


def _interrupted(conn: Connection, context: Context, build: Build, watching: Watching) -> list[Act]:
    plan = onward.plan_of(build)
    deployed, asked = _last(conn, build)
    if deployed is None or deployed.host != context.host_id:
        builds.change(conn, build.id, due_at=None)
        return []
    held = plan.interrupted == "hold" and plan.status is None
    if deployed.run_id not in watching.cleared:
        # Something of it may still live; nobody is asked, and nothing follows, before that is over.
        later = timedelta(seconds=_HELD_S if held else _AGAIN_S)
        builds.change(conn, build.id, due_at=context.clock.now() + later)
        return []
    builds.change(conn, build.id, due_at=None)
    if held:
        return []
    if plan.status is not None and (asked is None or asked.id < deployed.id):
        planned = starting.add_steps(
            conn,
            context,
            build,
            [(Stage.status, plan.environment)],
            environment=plan.environment,
            now=context.clock.now(),
        )
        return [Launch(build, planned[0])]
    if asked is not None and asked.state is StepState.running:
        return []
    return ending.by_rule(conn, context, build, "nobody saw its end")


def _last(conn: Connection, build: Build) -> tuple[Step | None, Step | None]:
    """The last deploy and the last status step of the environment the build is at."""
    mine = [s for s in steps.of(conn, build.id) if s.environment == build.environment]
    deployed = [s for s in mine if s.stage is Stage.deploy]
    asked = [s for s in mine if s.stage is Stage.status]
    return (deployed[-1] if deployed else None, asked[-1] if asked else None)
