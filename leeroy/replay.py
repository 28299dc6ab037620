"""
The states of builds rebuilt from their events alone, and compared with the rows.

`advance` writes both in one transaction and the schema ties them together; so
a difference means that somebody edited the database, or that a disk did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from leeroy import ends, machine
from leeroy.db import builds, deploys, steps
from leeroy.model import Build, Deploy, Event, Step
from leeroy.terms import HOLDING, Move, Stage, State

AT_ONCE = 200
_OUTCOMES = {
    Move.finish: "done",
    Move.announce: "done",
    Move.resolve_done: "done",
    Move.fail: "failed",
    Move.resolve_failed: "failed",
    Move.lose: "lost",
    Move.cancel: "cancelled",
}


@dataclass
class Rebuilt:
    """A build as its events make it."""

    state: State | None = None
    version: int = 0
    finished_at: datetime | None = None
    at: str | None = None
    outcomes: dict[str, str | None] = field(default_factory=dict)
    ended: dict[str, datetime | None] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def rebuilt(history: Sequence[Event]) -> Rebuilt:
    """Replay the moves of one build over the table of moves."""
    made = Rebuilt()
    for event in history:
        if event.seq != made.version + 1:
            made.wrong.append(f"event {made.version + 1} is missing")
        if event.from_state != made.state:
            made.wrong.append(f"event {event.seq} starts from {event.from_state}, not {made.state}")
        if made.state is None:
            legal = event.move is Move.accept and event.to_state is State.queued
        else:
            legal = event.to_state in machine.destinations(made.state, event.move)
        if not legal:
            made.wrong.append(
                f"event {event.seq}: no {event.move} leads from {made.state} to {event.to_state}"
            )
        if made.state in HOLDING and made.at is not None and event.move in _OUTCOMES:
            made.outcomes[made.at] = _OUTCOMES[event.move]
            made.ended[made.at] = event.at
        made.state, made.version = event.to_state, event.seq
        if event.to_state in (State.deploy_pending, *HOLDING):
            made.at = event.environment
        if event.to_state is State.deploying and made.at is not None:
            made.outcomes[made.at] = made.ended[made.at] = None
        made.finished_at = event.at if event.to_state.over else None
    return made


def compare(build: Build, history: Sequence[Event], rows: Sequence[Deploy]) -> list[str]:
    """A sentence for each difference between a build's rows and its events."""
    made = rebuilt(history)
    found = [f"build {build.id}: {text}" for text in made.wrong]
    for what, row, event in (
        ("state", str(build.state), str(made.state)),
        ("version", build.version, made.version),
        ("finished_at", build.finished_at, made.finished_at),
    ):
        if row != event:
            found.append(f"build {build.id}: its {what} is {row}, and its events say {event}")
    placed = build.state in (State.deploy_pending, *HOLDING)
    if placed and build.environment != made.at:
        found.append(f"build {build.id}: it is at {build.environment}, its events say {made.at}")
    outcomes = {row.environment: row.outcome for row in rows if row.started_at is not None}
    found += [
        f"build {build.id}: its deploy to {place} is {outcomes.get(place)}, "
        f"its events say {made.outcomes.get(place)}"
        for place in sorted(outcomes.keys() | made.outcomes.keys())
        if outcomes.get(place) != made.outcomes.get(place)
    ]
    found += [
        f"build {build.id}: its deploy to {row.environment} ended {row.ended_at}, "
        f"its events say {made.ended[row.environment]}"
        for row in rows
        if row.environment in made.ended and row.ended_at != made.ended[row.environment]
    ]
    return found


def part(conn: Connection, after: int, limit: int = AT_ONCE) -> dict[str, Any]:
    """
    Compare the builds that follow *after*, and at the end what the environments say.

    `last` is where the next part starts; None: this was the last.
    """
    listed = builds.after(conn, after, limit)
    differences: list[str] = []
    for build in listed:
        rows = deploys.of(conn, build.id)
        differences += compare(build, builds.history(conn, build.id), rows)
    last = listed[-1].id if len(listed) == limit else None
    if last is None:
        differences += environments(conn)
    return {"builds": len(listed), "last": last, "differences": differences}


def one(conn: Connection, build: Build) -> dict[str, Any]:
    """Compare one build."""
    found = compare(build, builds.history(conn, build.id), deploys.of(conn, build.id))
    return {"builds": 1, "last": None, "differences": found}


def environments(conn: Connection) -> list[str]:
    """A sentence for each environment that says something else than the builds that were there."""
    found: list[str] = []
    holding = builds.in_state(conn, *sorted(HOLDING))
    for place in deploys.all_environments(conn):
        name = f"{place.pipeline}/{place.name}"
        there = [
            b.id for b in holding if (b.pipeline, b.environment) == (place.pipeline, place.name)
        ]
        holder = there[0] if there else None
        if place.holder != holder:
            found.append(f"{name}: its holder is {place.holder}, and the builds say {holder}")
        build, deploy = _runs(conn, place.pipeline, place.name)
        runs = build and build.id
        if place.runs_build != runs:
            found.append(f"{name}: build {place.runs_build} runs there, and the builds say {runs}")
            continue
        for what, row, said in (
            ("place", place.runs_place, build and build.place),
            ("commit", place.runs_commit, build and build.commit),
            ("time", place.runs_at, deploy and deploy.ended_at),
        ):
            if row != said:
                found.append(
                    f"{name}: the {what} of what runs there is {row}, and the builds say {said}"
                )
    return found


def _runs(conn: Connection, pipeline: str, name: str) -> tuple[Build, Deploy] | tuple[None, None]:
    """What landed there last: places never fall, and a retry has a larger number."""
    for build, deploy in deploys.newest(conn, pipeline, name):
        if landed(deploy, steps.of(conn, build.id)):
            return build, deploy
    return None, None


def landed(deploy: Deploy, ran: Sequence[Step]) -> bool:
    """Whether a deploy is what runs there: it was done, or its script exited 0 all the same."""
    if deploy.outcome == "done":
        return True
    if deploy.outcome not in ("failed", "cancelled"):
        return False
    mine = [s for s in ran if s.stage is Stage.deploy and s.environment == deploy.environment]
    return bool(mine) and ends.landed(mine[-1])
