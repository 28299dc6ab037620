"""Which queued build gets a slot, and which scripts it has to pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from leeroy import onward
from leeroy.advance import advance
from leeroy.context import Context
from leeroy.db import artifacts, builds, steps
from leeroy.errors import ConfigError
from leeroy.model import Build, Step
from leeroy.scheduler import specs
from leeroy.scheduler.acts import Act, Launch, run_id
from leeroy.terms import Move, Stage, StepState

_LOOK_AT = 50
"""So many queued builds are looked at together when the first few may not start."""
CHECKOUT = "checkout"


def pick(conn: Connection, context: Context) -> list[Act]:
    """Start as many queued builds as there are free slots, the oldest that may start first."""
    taken = builds.slots_taken(conn, context.host_id)
    free = [slot for slot in range(1, context.config.slots + 1) if slot not in taken]
    acts: list[Act] = []
    full: set[str] = set()  # pipelines of which as many builds run as may
    limit, after = len(free), 0
    while free:
        queued = builds.queued(conn, limit, after=after, but=full)
        for build in queued:
            if free and _may_start(conn, build, full):
                acts += start(conn, context, build, free.pop(0))
        if len(queued) < limit:
            break
        limit, after = _LOOK_AT, queued[-1].id
    return acts


def _may_start(conn: Connection, build: Build, full: set[str]) -> bool:
    """Whether a queued build needs nothing but a slot; notes pipelines that are at their limit."""
    if build.pipeline in full:
        return False
    try:
        at_once = onward.pipeline_of(build).at_once
    except ConfigError:
        return False  # `why` says it
    if at_once and builds.running_of(conn, build.pipeline) >= at_once:
        full.add(build.pipeline)
        return False
    return True


def start(conn: Connection, context: Context, build: Build, slot: int) -> list[Act]:
    """Give a build its slot and its steps; one without any has passed at once."""
    context = context.at_one_moment()
    now = context.clock.now()
    moved = advance(
        conn,
        build,
        Move.start,
        now=now,
        actor=context.scheduler,
        house=context.house,
        changes={"slot": slot, "host": context.host_id},
    )
    if build.requeues:
        artifacts.forget(conn, build.id)
    planned = add_steps(conn, context, moved, _scripts(moved), environment=None, now=now)
    if planned:
        return [launch(conn, moved, planned[0], fresh=True)]
    return passed(conn, context, moved)


def _scripts(build: Build) -> list[tuple[Stage, str]]:
    pipeline = onward.pipeline_of(build)
    found: list[tuple[Stage, str]] = []
    if build.repository is not None:
        found.append((Stage.checkout, CHECKOUT))
    if build.deploy_to is None:  # else the tests of its source count
        found += [(script.stage, script.name) for script in (*pipeline.tests, *pipeline.builds)]
    return found


def launch(conn: Connection, build: Build, step: Step, *, fresh: bool = False) -> Launch:
    """What there is to do for a step that its row says runs; a deploy's artifacts come along."""
    owner = artifacts.owner(conn, build)
    if step.stage is not Stage.deploy:
        return Launch(build, step, fresh, owner)
    return Launch(build, step, fresh, owner, _manifest(conn, owner))


def _manifest(conn: Connection, owner: int) -> tuple[artifacts.Artifact, ...] | None:
    """What a build left; None when it must have left something, and there was no list yet."""
    found = artifacts.of(conn, owner)
    build = builds.get(conn, owner)
    if found or build is None:
        return found
    try:
        left = any(script.artifacts for script in onward.pipeline_of(build).builds)
    except ConfigError:
        left = False  # nobody can say what it was to leave: then nothing is taken
    return None if left else found


def add_steps(
    conn: Connection,
    context: Context,
    build: Build,
    scripts: Sequence[tuple[Stage, str]],
    *,
    environment: str | None,
    now: datetime,
) -> list[Step]:
    """The rows of scripts to run one after the other; the first one runs, as far as rows say."""
    added: list[Step] = []
    for stage, name in scripts:
        attempt = 1
        if build.requeues or environment is not None:
            attempt += steps.last_attempt(conn, build.id, stage, name, environment)
        step_id = steps.add(conn, build.id, stage, name, environment=environment, attempt=attempt)
        added.append(
            Step(
                id=step_id,
                build_id=build.id,
                stage=stage,
                name=name,
                environment=environment,
                attempt=attempt,
                state=StepState.waiting,
                run_id=None,
                host=None,
                exit_code=None,
                signal=None,
                reason=None,
                raw_bytes=None,
                dropped_bytes=None,
                sha256=None,
                started_at=None,
                finished_at=None,
            )
        )
    if added:
        added[0] = begin(conn, context, build, added[0], now)
    return added


def begin(conn: Connection, context: Context, build: Build, step: Step, now: datetime) -> Step:
    """Intent first: the row says that the step runs, and where, before anything of it does."""
    values = {
        "state": StepState.running,
        "run_id": run_id(step.build_id, step.id),
        "host": context.host_id,
        "started_at": now,
        "begun_seq": build.version,
        "given": specs.given(context, build, step),
    }
    steps.change(conn, step.id, **values)
    return replace(step, **values)  # type: ignore[arg-type]  # one value per named column


def passed(conn: Connection, context: Context, build: Build) -> list[Act]:
    """Everything exited 0: announce the first deploy, or finish."""
    now, actor = context.clock.now(), context.scheduler
    moved = advance(conn, build, Move.pass_, now=now, actor=actor, house=context.house)
    if moved.state.over:
        return []
    onward.onward(conn, moved, now=now, actor=actor, house=context.house)
    return []
