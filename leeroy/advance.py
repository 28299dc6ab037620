"""
The one function that moves a build: the new state, its event and its notices, or nothing at all.

The caller owns the transaction.  A crash before its commit leaves the build
where it was, with nobody told; after the commit the notices wait in the
outbox, whatever happens to this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from leeroy import machine, pipelines, subjects
from leeroy.db import builds, deploys, outbox, reports
from leeroy.errors import ConfigError, Overtaken
from leeroy.model import Build, Event
from leeroy.pipelines import Target
from leeroy.terms import HOLDING, Move, State

_PLACED = frozenset({State.deploy_pending, *HOLDING})
_LOOKED_AT = frozenset({State.passed, State.deploy_pending, State.interrupted})
_STOPPABLE = frozenset({State.queued, State.passed, State.deploy_pending})
_OUTCOMES = {
    Move.finish: "done",
    Move.announce: "done",
    Move.resolve_done: "done",
    Move.fail: "failed",
    Move.resolve_failed: "failed",
    Move.lose: "lost",
    Move.cancel: "cancelled",
}


def accept(
    conn: Connection,
    *,
    now: datetime,
    actor: str,
    house: Sequence[Target],
    reason: str | None = None,
    **columns: Any,
) -> Build:
    """
    A new build in `queued`, with its first event and notices.

    *columns* are those of `builds`; without a `place` it is the newest.
    """
    build_id = builds.next_id(conn)
    row: dict[str, Any] = {
        "id": build_id,
        "place": build_id,
        "fork": False,
        "deploys": True,
        "without_grace": False,
        "requeues": 0,
        "state": State.queued,
        "version": 1,
        "created_at": now,
    }
    build = builds.add(conn, **(row | {k: v for k, v in columns.items() if v is not None}))
    event = Event(
        build_id=build.id,
        seq=1,
        move=Move.accept,
        from_state=None,
        to_state=State.queued,
        environment=None,
        actor=actor,
        reason=reason,
        at=now,
    )
    builds.add_event(conn, event)
    _tell(conn, build, event, house)
    reports.want(conn, build, subjects.touched(None, build), now)
    return build


def advance(
    conn: Connection,
    build: Build,
    move: Move,
    *,
    now: datetime,
    actor: str,
    house: Sequence[Target],
    reason: str | None = None,
    environment: str | None = None,
    more_to_deploy: bool = False,
    landed: bool | None = None,
    changes: dict[str, Any] | None = None,
) -> Build:
    """
    Make one move, its event and one notice for each target that listens.

    *house* are the targets that hear every pipeline.  *environment* is needed
    where a move leads to another one.  *landed* says that a deploy that ends
    is what runs there now; by default that follows from the move.  *changes*
    are further columns of the build.  A build that arrives where nothing of
    it runs, with a request to stop, is cancelled in the same transaction.

    Raises:
        IllegalMove: The table has no such move.
        Overtaken: Somebody moved the build, or asked it to stop, first.
    """
    to = machine.decide(build.id, build.state, move, more_to_deploy=more_to_deploy)
    place = environment or build.environment
    values: dict[str, Any] = {
        "due_at": now if to in _LOOKED_AT else None,
        "finished_at": now if to.over else None,
        "environment": place if to in _PLACED else build.environment,
    }
    if build.state is State.building:
        values["slot"] = None
    if move is Move.start and build.started_at is None:
        values["started_at"] = now
    if move is Move.requeue:
        values["environment"] = None
    values |= changes or {}
    if not builds.move(conn, build, to, values, move):
        raise Overtaken(build.id, build.version)
    moved = replace(build, state=to, version=build.version + 1, **values)
    event = Event(
        build_id=build.id,
        seq=moved.version,
        move=move,
        from_state=build.state,
        to_state=to,
        environment=place,
        actor=actor,
        reason=reason,
        at=now,
    )
    builds.add_event(conn, event)
    if build.state in HOLDING:
        _leave(conn, build, move, to, now, landed)
    if build.state is State.deploy_pending:
        outbox.drop_announcements(conn, build.id)
    if to in _PLACED:
        _enter(conn, moved, event, now)
    if (build.state in HOLDING and to not in HOLDING) or (to.over and build.tag is not None):
        # Somebody may have waited for just this.
        builds.nudge(conn, now)
    _tell(conn, moved, event, house)
    reports.want(conn, moved, subjects.touched(build, moved), now)
    if to in _STOPPABLE and moved.stop_at is not None:
        return advance(
            conn,
            moved,
            Move.cancel,
            now=now,
            actor=moved.stop_actor or actor,
            house=house,
            reason=moved.stop_reason,
        )
    return moved


def _leave(
    conn: Connection, build: Build, move: Move, to: State, now: datetime, landed: bool | None
) -> None:
    """A deploy ends, or its end was not seen."""
    assert build.environment is not None
    outcome = _OUTCOMES.get(move)
    if outcome is not None:
        deploys.put(conn, build, build.environment, ended_at=now, outcome=outcome)
    changes: dict[str, Any] = {}
    if to not in HOLDING:
        changes["holder"] = None
    if outcome == "done" if landed is None else landed:
        changes |= {
            "runs_build": build.id,
            "runs_place": build.place,
            "runs_commit": build.commit,
            "runs_at": now,
        }
    if changes:
        deploys.change(conn, build.pipeline, build.environment, **changes)


def _enter(conn: Connection, build: Build, event: Event, now: datetime) -> None:
    """A deploy waits, runs, or is lost: what its own row and its environment's say of it."""
    assert build.environment is not None
    if event.move is Move.hold:
        deploys.put(
            conn,
            build,
            build.environment,
            held_at=now,
            held_by=event.actor,
            held_reason=event.reason,
            approved_at=None,
            approved_by=None,
        )
    elif build.state is State.deploy_pending:
        values: dict[str, Any] = {
            "announced_seq": event.seq,
            "announced_at": now,
            "watcher": None,
            "heard_at": None,
            "heard_by": None,
            "deploy_at": None,
        }
        if event.move is Move.resolve_again:
            values |= {"approved_at": None, "approved_by": None}
        if event.move is Move.withdraw:
            found = deploys.get(conn, build.id, build.environment)
            values["withdrawals"] = (found.withdrawals if found else 0) + 1
        deploys.put(conn, build, build.environment, **values)
    elif build.state is State.deploying:
        deploys.put(conn, build, build.environment, started_at=now, ended_at=None, outcome=None)
        deploys.change(conn, build.pipeline, build.environment, holder=build.id)


def listeners(build: Build, state: State, house: Sequence[Target]) -> list[str]:
    """The `to` of every target that hears a build of this pipeline arrive in *state*."""
    try:
        own = pipelines.parse(build.pipeline_text, name=build.pipeline, file=build.pipeline).notify
    except ConfigError:
        own = ()  # a text an older version accepted: the house still hears
    return [
        target.to
        for target in (*own, *house)
        if target.hears(state) and (target.to != "author" or build.author_email)
    ]


def _tell(conn: Connection, build: Build, event: Event, house: Sequence[Target]) -> None:
    targets = listeners(build, event.to_state, house)
    if event.seq == 1 and build.fork and build.approved_by is None:
        # Only a person lets it start, so whoever is asked about deploys is asked here, too.
        targets += listeners(build, State.deploy_pending, house)
    ended = event.to_state.over or event.to_state is State.interrupted
    if ended and build.environment is not None:
        # Whoever was told that a deploy is coming is also told how it ended.
        targets += outbox.announced_to(conn, build.id)
    outbox.add(conn, event, targets, urgent=event.to_state is State.deploy_pending)
