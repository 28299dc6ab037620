"""The rows of a build made a record: what was written before its last move, and nothing later."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from leeroy.db import builds, chronicle, deploys, steps
from leeroy.model import Build, Deploy, Event, Note, Step
from leeroy.terms import StepState
from leeroy.verdict import chain, words
from leeroy.verdict.cause import cause
from leeroy.verdict.chain import Line

_NOT_SEEN = {
    "state": StepState.running,
    "exit_code": None,
    "signal": None,
    "reason": None,
    "raw_bytes": None,
    "dropped_bytes": None,
    "sha256": None,
    "finished_at": None,
}


def verdict(conn: Connection, build: Build) -> dict[str, Any]:
    """
    The record of a build, as `leeroy verdict --json` prints it.

    Of a build that is over it is the same whenever it is asked.
    """
    moves = builds.history(conn, build.id)
    # What came after the last move is no part of the story: it would change the record.
    end = moves[-1].seq if build.state.over else moves[-1].seq + 1
    ran = [_as_of(step, end) for step in steps.of(conn, build.id)]
    notes = [note for note in chronicle.of(conn, build.id) if note.seq < end]
    found = cause(build, moves, ran, notes)
    records = [_build(build), *_source(conn, build)]
    for event in moves:
        records.append(_move(event))
        records += [_step(step) for step in ran if (step.begun_seq or 1) == event.seq]
        records += [_note(note) for note in notes if note.seq == event.seq]
    places = sorted(deploys.of(conn, build.id), key=lambda deploy: deploy.environment)
    records += [_deploy(deploy) for deploy in places]
    records.append(
        {
            "kind": "end" if build.state.over else "open",
            "state": str(build.state),
            "fault": found.fault,
            "cause": found.sentence,
            "at": instant(moves[-1].at),
            "stop_at": instant(build.stop_at),
            "stop_actor": build.stop_actor,
            "stop_reason": build.stop_reason,
        }
    )
    return words.as_object(chain.chained(records), found.fault, found.sentence)


def head(conn: Connection, build: Build) -> str | None:
    """The head hash of the record of a build that is over; None before."""
    return str(verdict(conn, build)["head"]) if build.state.over else None


def instant(at: datetime | None) -> str | None:
    """A moment as records write it: to the microsecond, as the database has it."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _as_of(step: Step, end: int) -> Step:
    """The step as it was at the last move; one that still ran then has no end."""
    late = step.ended_seq is not None and step.ended_seq >= end
    return replace(step, **_NOT_SEEN) if late else step  # type: ignore[arg-type]


def _build(build: Build) -> Line:
    return {
        "kind": "build",
        "format": chain.FORMAT,
        "build": build.id,
        "place": build.place,
        "pipeline": build.pipeline,
        "snapshot": hashlib.sha256(build.pipeline_text.encode()).hexdigest(),
        "repository": build.repository,
        "branch": build.branch,
        "tag": build.tag,
        "commit": build.commit,
        "pull_request": build.pull_request,
        "fork": build.fork,
        "message": build.message,
        "author": build.author,
        "trigger": build.trigger,
        "source": build.source,
        "deploy_to": build.deploy_to,
        "without_grace": build.without_grace,
        "created_at": instant(build.created_at),
    }


def _source(conn: Connection, build: Build) -> list[Line]:
    """
    What a rollback relies on: the build it deploys again, and the checks that build passed.

    That build passed before this one was made, so they stand; and it is kept
    as long as this one.  Its head is here when it was over by then.
    """
    source = _tested(conn, build)
    if source is None:
        return []
    over = source.finished_at is not None and source.finished_at <= build.created_at
    found: list[Line] = [
        {
            "kind": "source",
            "build": source.id,
            "commit": source.commit,
            "snapshot": hashlib.sha256(source.pipeline_text.encode()).hexdigest(),
            "created_at": instant(source.created_at),
            "head": head(conn, source) if over else None,
        }
    ]
    checks = [step for step in steps.of(conn, source.id) if step.environment is None]
    return found + [{**_step(step), "kind": "check", "build": source.id} for step in checks]


def _tested(conn: Connection, build: Build) -> Build | None:
    """The build whose checks count for a rollback; a rollback of a rollback goes back further."""
    found: Build | None = None
    while build.deploy_to is not None and build.source is not None:
        source = builds.get(conn, build.source)
        if source is None:
            break
        found = build = source
    return found


def _move(event: Event) -> Line:
    return {
        "kind": "move",
        "seq": event.seq,
        "move": str(event.move),
        "from": None if event.from_state is None else str(event.from_state),
        "to": str(event.to_state),
        "environment": event.environment,
        "actor": event.actor,
        "reason": event.reason,
        "at": instant(event.at),
    }


def _step(step: Step) -> Line:
    given = json.loads(step.given) if step.given else {}
    return {
        "kind": "step",
        "stage": str(step.stage),
        "name": step.name,
        "environment": step.environment,
        "attempt": step.attempt,
        "state": str(step.state),
        "host": step.host,
        "exit_code": step.exit_code,
        "signal": step.signal,
        "reason": step.reason,
        "script": given.get("script"),
        "variables": given.get("variables"),
        "secrets": given.get("secrets"),
        "executor": given.get("executor"),
        "timeout_s": given.get("timeout_s"),
        "bytes": step.raw_bytes,
        "dropped": step.dropped_bytes,
        "log": step.sha256,
        "started_at": instant(step.started_at),
        "finished_at": instant(step.finished_at),
    }


def _note(note: Note) -> Line:
    return {
        "kind": str(note.kind),
        "environment": note.environment,
        "who": note.who,
        "said": note.said,
        "number": note.number,
        "at": instant(note.at),
    }


def _deploy(deploy: Deploy) -> Line:
    return {
        "kind": "deploy",
        "environment": deploy.environment,
        "key": deploy.key,
        "withdrawals": deploy.withdrawals,
        "started_at": instant(deploy.started_at),
        "ended_at": instant(deploy.ended_at),
        "outcome": deploy.outcome,
    }
