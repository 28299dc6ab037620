"""
What people and programs are shown of a build: its JSON, why it waits, its log.

Reads rows and decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection

from leeroy import gates, onward
from leeroy.context import Context
from leeroy.db import builds, deploys, house, logs, steps
from leeroy.errors import ConfigError, Invalid, NotFound
from leeroy.model import Build, Event, Notice, Step
from leeroy.notify import targets
from leeroy.terms import Stage, State, StepState

_WHOLE: Final = 10**18 - 1
"""A cursor's byte once all of a step's log was read, and the line below it."""
UNSEEN_S = 30.0
"""A host that did not beat for so long does not count as running."""
PIECE = 1 << 20


def instant(at: datetime | None) -> str | None:
    """A moment as the API writes it."""
    if at is None:
        return None
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def find(conn: Connection, build_id: int, *, lock: bool = False) -> Build:
    """The build; raises NotFound."""
    build = builds.get(conn, build_id, lock=lock) if build_id < 2**63 else None
    if build is None:
        raise NotFound(f"there is no build {build_id}; `leeroy list` shows the latest ones")
    return build


def build_json(conn: Connection, context: Context, build: Build) -> dict[str, Any]:
    """A build as `show --json` and the API answer it."""
    deploy = None
    if build.environment is not None and build.state is State.deploy_pending:
        deploy = deploys.get(conn, build.id, build.environment)
    return {
        "id": build.id,
        "place": build.place,
        "pipeline": build.pipeline,
        "repository": build.repository,
        "branch": build.branch,
        "tag": build.tag,
        "commit": build.commit,
        "pull_request": build.pull_request,
        "message": build.message,
        "author": build.author,
        "trigger": build.trigger,
        "source": build.source,
        "state": str(build.state),
        "version": build.version,
        "host": house.host_name(conn, build.host),
        "environment": build.environment,
        "deploy_at": instant(deploy.deploy_at) if deploy else None,
        "waiting_for": waiting_for(conn, context, build),
        "stop_requested": instant(build.stop_at),
        "created_at": instant(build.created_at),
        "started_at": instant(build.started_at),
        "finished_at": instant(build.finished_at),
        "steps": [step_json(step) for step in steps.of(conn, build.id)],
    }


def step_json(step: Step) -> dict[str, Any]:
    """A step as the API answers it."""
    return {
        "id": step.id,
        "stage": str(step.stage),
        "name": step.name,
        "environment": step.environment,
        "attempt": step.attempt,
        "state": str(step.state),
        "exit_code": step.exit_code,
        "signal": step.signal,
        "reason": step.reason,
        "started_at": instant(step.started_at),
        "finished_at": instant(step.finished_at),
    }


def event_json(event: Event) -> dict[str, Any]:
    """An event as the API answers it."""
    return {
        "seq": event.seq,
        "at": instant(event.at),
        "move": str(event.move),
        "from": None if event.from_state is None else str(event.from_state),
        "to": str(event.to_state),
        "environment": event.environment,
        "actor": event.actor,
        "reason": event.reason,
    }


def notice_json(notice: Notice, state: State) -> dict[str, Any]:
    """A notice as the API answers it; the target's name shows no secret."""
    return {
        "id": notice.id,
        "seq": notice.seq,
        "told": str(state),
        "target": target_name(notice.target),
        "state": notice.state,
        "attempts": notice.attempts,
        "last_error": notice.last_error,
        "sent_at": instant(notice.sent_at),
    }


def target_name(to: str) -> str:
    """A target as people see it: its reference, or its service without what is secret."""
    return targets.label(to) if "://" in to else to


def waiting_for(conn: Connection, context: Context, build: Build) -> str | None:
    """The sentence that says what a build waits for; None when it does not wait."""
    if build.state is State.queued:
        return _queued(conn, context, build)
    if build.state is State.deploy_pending:
        return _pending(conn, context, build)
    if build.state is State.interrupted:
        return (
            f"nobody saw how its deploy to {build.environment} ended; look, then "
            f"`leeroy resolve {build.id} done|failed|again --environment {build.environment} "
            "--reason …`"
        )
    if build.state is State.passed:
        return _unseen(conn, context) or "what comes next is being decided"
    return None


def why(conn: Connection, context: Context, build: Build) -> str:
    """What a build waits for, or why it does not; never empty."""
    sentence = waiting_for(conn, context, build)
    if sentence is not None:
        return sentence
    if build.state in (State.building, State.deploying):
        running = [s for s in steps.of(conn, build.id) if s.state is StepState.running]
        what = ", ".join(f"{step.stage} {step.name}" for step in running) or "its next script"
        stop = "; it was asked to stop" if build.stop_at else ""
        unseen = _unseen(conn, context)
        return f"it does not wait: {what} runs{stop}" + (f"; but {unseen}" if unseen else "")
    last = builds.history(conn, build.id)[-1]
    reason = f": {last.reason}" if last.reason else ""
    return f"it is over: {build.state} by {last.actor}{reason}"


def _queued(conn: Connection, context: Context, build: Build) -> str:
    if build.fork and build.approved_by is None:
        whose = build.head_repository or "a repository that is gone"
        return (
            f"a person must let a fork's code run: `leeroy approve {build.id}` "
            f"(pull request {build.pull_request} of {whose})"
        )
    unseen = _unseen(conn, context)
    if unseen is not None:
        return unseen
    room = context.short_of_room()
    if room is not None:
        return room
    try:
        at_once = onward.pipeline_of(build).at_once
    except ConfigError as exc:
        return f"its pipeline's text cannot be used any more: {exc}"
    if at_once and builds.running_of(conn, build.pipeline) >= at_once:
        return f"{at_once} of {build.pipeline} run already (at_once = {at_once})"
    running = builds.building_ids(conn, 5)
    if running:
        listed = ", ".join(str(number) for number in running)
        return f"a free slot; running: build {listed}"
    return "it is next"


def _pending(conn: Connection, context: Context, build: Build) -> str:
    room = context.short_of_room()
    facts = gates.facts(conn, build, onward.plan_of(build), now=context.clock.now())
    wait = gates.closed(facts)
    unseen = _unseen(conn, context)
    if unseen is not None:
        return unseen if wait is None else f"{wait.sentence}; and {unseen}"
    if room is not None and (wait is None or wait.gate == "grace"):
        return room  # no grace period begins or ends while nothing may start
    if wait is not None:
        return wait.sentence
    return "every gate is open; it starts at once"


def _unseen(conn: Connection, context: Context) -> str | None:
    seen = house.last_beat(conn)
    if seen is None:
        return "no server has ever run here; start `leeroy serve`"
    ago = (context.clock.now() - seen).total_seconds()
    if ago <= UNSEEN_S:
        return None
    return f"no server has been seen for {_long(ago)}; start `leeroy serve`"


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def environments_json(conn: Connection, now: datetime) -> list[dict[str, Any]]:
    """What runs where, who holds it, what is frozen; the freeze of all comes as `*`."""
    rows = deploys.everywhere(conn)
    found = []
    for place in rows:
        every = (place.pipeline, place.name) == deploys.EVERY
        frozen = place.frozen_at is not None and (
            place.frozen_until is None or place.frozen_until > now
        )
        if every and not frozen:
            continue
        found.append(
            {
                "pipeline": place.pipeline or None,
                "environment": place.name,
                "lock": place.lock or None,
                "runs": place.runs_build,
                "commit": place.runs_commit,
                "since": instant(place.runs_at),
                "held_by": place.holder,
                "frozen": {
                    "by": place.frozen_by,
                    "reason": place.frozen_reason,
                    "since": instant(place.frozen_at),
                    "until": instant(place.frozen_until),
                }
                if frozen
                else None,
            }
        )
    return found


@dataclass(frozen=True)
class LogPiece:
    """Some of a log: `cursor` is where the next piece starts, `over` that none will follow."""

    text: bytes
    cursor: str
    over: bool


def log_piece(conn: Connection, build: Build, step_name: str | None, cursor: str) -> LogPiece:
    """
    The log from *cursor* on ("" is its start), about a megabyte of it at most.

    Without *step_name* every step has a heading.  What ended a step besides
    its script stands below its log.  Raises NotFound for a step that the build
    does not have, Invalid for what is no cursor.
    """
    every = steps.of(conn, build.id)
    chosen = [s for s in every if s.name == step_name] if step_name is not None else every
    if step_name is not None and not chosen:
        names = ", ".join(dict.fromkeys(step.name for step in every)) or "none yet"
        raise NotFound(f"build {build.id} has no step {step_name!r}; it has: {names}")
    at_step, at_byte = _cursor(cursor)
    parts: list[bytes] = []
    size = 0
    for step in chosen:
        if step.id < at_step or not has_log(step):
            continue
        if step.id > at_step:
            at_step, at_byte = step.id, 0
            if step_name is None:
                parts.append(heading(step))
        while size < PIECE:
            chunks = logs.read(conn, step.id, at_byte, 16)
            if not chunks:
                break
            for data in logs.text(chunks, at_byte):
                parts.append(data)
                size += len(data)
            at_byte = chunks[-1].stop
        if size >= PIECE:
            break
        if at_byte < _WHOLE and (last := footer(conn, build, step)):
            parts.append(last)
            at_byte = _WHOLE
    over = build.state.over and size < PIECE
    return LogPiece(b"".join(parts), f"{at_step}:{at_byte}", over)


def has_log(step: Step) -> bool:
    """Whether there is anything to be read of a step: its output, or why there is none."""
    return step.started_at is not None or step.reason is not None


def heading(step: Step) -> bytes:
    """The line above a step's log."""
    return f"== {_titled(step)} ==\n".encode()


def footer(conn: Connection, build: Build, step: Step) -> bytes:
    """
    The line below a step's log that says what ended it besides its script; empty if nothing did.

    An interrupted step has it only once its build is over: more of its log may come.
    """
    if step.reason is None or (step.state is StepState.interrupted and not build.state.over):
        return b""
    start = "" if logs.tail(conn, step.id, 1) in (b"", b"\n") else "\n"
    return f"{start}== {_titled(step)}: {' '.join(step.reason.split())} ==\n".encode()


def log_end(conn: Connection, build: Build, step: Step) -> str:
    """The cursor at the end of a step's log as it is now."""
    return f"{step.id}:{_WHOLE if footer(conn, build, step) else logs.end(conn, step.id)}"


def _titled(step: Step) -> str:
    again = f" (attempt {step.attempt})" if step.attempt > 1 else ""
    name = "" if step.stage is Stage.checkout else f" {step.name}"
    return f"{step.stage}{name}{again}"


def whole_log(conn: Connection, build: Build, step_name: str | None = None) -> Iterator[bytes]:
    """The log as it is now, piece by piece."""
    cursor = ""
    while True:
        piece = log_piece(conn, build, step_name, cursor)
        if piece.cursor == cursor or not piece.text:
            return
        yield piece.text
        cursor = piece.cursor


def _cursor(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    step, _, byte = text.partition(":")
    if not (re.fullmatch(r"[0-9]{1,18}", step) and re.fullmatch(r"[0-9]{1,18}", byte)):
        raise Invalid(f"{text!r} is no place in a log")
    return int(step), int(byte)


def failed_step(every: list[Step]) -> Step | None:
    """The step that made a build fail, the last one that did."""
    wrong = [s for s in every if s.state in (StepState.failed, StepState.interrupted)]
    return wrong[-1] if wrong else None
