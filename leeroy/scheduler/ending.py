"""What the end of a script means for its build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from leeroy import ends, guard, onward, subjects
from leeroy.advance import advance
from leeroy.context import Context
from leeroy.db import artifacts, builds, deploys, logs, reports, steps
from leeroy.model import Build, Step
from leeroy.notify.words import one_line
from leeroy.operations.resolving import resolved
from leeroy.runner.runner import Run
from leeroy.scheduler import starting
from leeroy.scheduler.acts import Act, End, Launch, Tidy
from leeroy.scheduler.specs import workspace_name
from leeroy.terms import Move, Stage, State, StepState

MOST_REQUEUES = 3
MOST_WITHDRAWALS = 3
MOST_REPEATS = 3
"""So often a lost deploy is run again by itself in an environment, with `interrupted = "again"`."""


def record(conn: Connection, context: Context, end: End) -> list[Act]:
    """
    Write down how a run ended, and make the move that follows from it.

    Twice the same end changes nothing the second time: the step is not
    running any more.
    """
    build = builds.of_run(conn, end.run_id)
    if build is None:
        return []
    # Only behind the build's lock: another look at the same run may have been recorded meanwhile.
    planned = steps.of(conn, build.id)
    step = next((one for one in planned if one.run_id == end.run_id), None)
    if step is None or step.state is not StepState.running:
        return []
    context = context.at_one_moment()
    kept = logs.end(conn, step.id) if end.chunks else 0
    for chunk in end.chunks:
        if chunk.start >= kept:
            logs.add(conn, step.id, chunk.start, chunk.stop, chunk.data)
    if end.result is not None:
        half = context.config.max_log // 2
        if end.result.raw_bytes > 2 * half:
            # The script was faster than the log was followed: one gap, and a tail of its size.
            logs.cut(conn, step.id, half, end.result.raw_bytes - half)
    if step.stage is Stage.status and build.state is not State.interrupted:
        # A person knew sooner; what it says counts for nothing any more.
        _set_aside(conn, context, build, step, end)
        return []
    if end.run is Run.lost:
        return _lost(conn, context, build, step, end.trouble or ends.UNSEEN)
    if end.run is Run.absent and guard.frozen(conn) is not None:
        # Its directory may have gone when its end was recorded, in the time that is lost.
        return _lost(conn, context, build, step, ends.OLDER)
    if end.run is not Run.ended:
        return _never_began(conn, context, build, step, planned)
    step = _ended(conn, context, build, step, end)
    if build.state is State.building:
        return _of_building(conn, context, build, step, end, planned)
    if build.state is State.deploying:
        return _of_deploying(conn, context, build, step, planned)
    if build.state is State.interrupted and step.stage is Stage.status:
        return _of_status(conn, context, build, step)
    return []


def _set_aside(conn: Connection, context: Context, build: Build, step: Step, end: End) -> None:
    if end.run is Run.ended:
        _ended(conn, context, build, step, end)
        return
    state = StepState.interrupted if end.run is Run.lost else StepState.cancelled
    now = context.clock.now()
    steps.change(conn, step.id, state=state, finished_at=now, ended_seq=build.version)


def _ended(conn: Connection, context: Context, build: Build, step: Step, end: End) -> Step:
    values: dict[str, Any] = {"finished_at": context.clock.now(), "ended_seq": build.version}
    result = end.result
    good = result is not None and result.exit_code == 0 and result.reason is None
    if result is not None and result.reason == ends.OUTSIDE:
        # Nobody of ours wanted it to end: its own word counts.  A test's would not, see finding.
        good = ends.landed(replace(step, exit_code=result.exit_code, reason=result.reason))
    if result is not None:
        values |= {
            "exit_code": result.exit_code,
            "signal": result.signal,
            "reason": result.reason,
            "raw_bytes": result.raw_bytes,
            "dropped_bytes": result.dropped_bytes,
            "sha256": result.sha256,
            "started_at": datetime.fromtimestamp(result.started_at, UTC),
            "finished_at": datetime.fromtimestamp(result.finished_at, UTC),
        }
    if end.trouble is not None:
        values["reason"] = end.trouble
    if good and end.trouble is None:
        state = StepState.passed
    elif build.stop_at is not None and result is not None and result.reason == ends.STOPPED:
        state = StepState.cancelled
    else:
        state = StepState.failed
    if state is StepState.failed and step.stage is Stage.checkout and not values.get("signal"):
        # Its last words say what is wrong, and with whose part; its number says neither.
        values["reason"] = values.get("reason") or _last_line(conn, step)
    steps.change(conn, step.id, state=state, **values)
    if state is StepState.passed and end.kept:
        artifacts.keep(conn, build.id, end.kept)
    return replace(step, state=state, **values)


def _last_line(conn: Connection, step: Step) -> str | None:
    rows = logs.tail(conn, step.id, 4096).decode("utf-8", "replace").splitlines()
    said = [line for line in (one_line(row, 300) for row in rows) if line]
    if not said:
        return None
    # It may be a git server's, which must not pass for one of the sentences that are Leeroy's own.
    ours = said[-1] in (ends.TIMEOUT, ends.STOPPED, ends.OUTSIDE)
    return f"it said: {said[-1]}" if ours or said[-1].startswith("cannot start") else said[-1]


def _move(conn: Connection, context: Context, build: Build, move: Move, **options: Any) -> Build:
    options = {"actor": context.scheduler} | options
    return advance(conn, build, move, now=context.clock.now(), house=context.house, **options)


def _stopped(
    conn: Connection, context: Context, build: Build, landed: bool | None = None
) -> list[Act]:
    """Nothing of it runs any more, as was asked."""
    steps.give_up_waiting(conn, build.id)
    _move(
        conn,
        context,
        build,
        Move.cancel,
        actor=build.stop_actor or context.scheduler,
        reason=build.stop_reason,
        landed=landed,
    )
    return []


def _failed(
    conn: Connection, context: Context, build: Build, reason: str, landed: bool | None = None
) -> list[Act]:
    steps.give_up_waiting(conn, build.id)
    _move(conn, context, build, Move.fail, reason=reason, landed=landed)
    return []


def say(step: Step) -> str:
    """How a step ended, for people."""
    what = f"{step.stage} {step.name}"
    if step.stage in (Stage.checkout, Stage.verify, Stage.status):
        what = str(step.stage)
    if step.reason == ends.TIMEOUT:
        return f"{what} took too long"
    if step.reason == ends.STOPPED:
        return f"{what} was stopped"
    if step.reason is not None:
        return f"{what}: {step.reason}"
    if step.signal is not None:
        return f"{what} was killed by signal {step.signal}"
    return f"{what} exited {step.exit_code}"


# --- tests and builds


def _of_building(
    conn: Connection, context: Context, build: Build, step: Step, end: End, planned: Sequence[Step]
) -> list[Act]:
    if step.stage is Stage.checkout and step.state is StepState.passed and end.checkout:
        build = _resolved_checkout(conn, context, build, end.checkout)
    if build.stop_at is not None:
        return _stopped(conn, context, build)
    if step.state is not StepState.passed:
        return _failed(conn, context, build, say(step))
    following = _next(planned, step)
    if following is not None:
        return _launch(conn, context, build, following)
    tidy: list[Act] = [Tidy(workspace_name(build, None))]
    return starting.passed(conn, context, build) + tidy


def _resolved_checkout(
    conn: Connection, context: Context, build: Build, found: dict[str, str | None]
) -> Build:
    values: dict[str, Any] = {"commit": found.get("commit") or build.commit}
    for name in ("branch", "default_branch", "message", "author", "author_email"):
        if getattr(build, name) is None and found.get(name):
            values[name] = found[name]
    if build.tag is not None or (build.commit is not None and build.branch is None):
        values.pop("branch", None)  # a tag's, or a bare commit's: no branch asked for it
    if build.fork:
        values.pop("author_email", None)  # a stranger's word: nobody is mailed because of it
    builds.change(conn, build.id, **values)
    resolved = replace(build, **values)
    if resolved.commit != build.commit:
        # Only now there is a commit that a forge can be told of.
        reports.want(conn, resolved, subjects.touched(None, resolved), context.clock.now())
    return resolved


def _next(planned: Sequence[Step], step: Step) -> Step | None:
    for other in planned:
        if other.state is StepState.waiting and other.environment == step.environment:
            return other
    return None


# --- deploys


def _of_deploying(
    conn: Connection, context: Context, build: Build, step: Step, planned: Sequence[Step]
) -> list[Act]:
    good = step.state is StepState.passed
    if step.stage is Stage.checkout:
        if build.stop_at is not None:
            return _stopped(conn, context, build, landed=False)
        if not good:
            return _failed(conn, context, build, say(step), landed=False)
    if step.stage is Stage.deploy:
        if build.stop_at is not None:
            return _stopped(conn, context, build, landed=ends.landed(step))
        if not good:
            return _failed(conn, context, build, say(step), landed=ends.landed(step))
    if step.stage is Stage.verify:
        if build.stop_at is not None:
            return _stopped(conn, context, build, landed=True)
        if not good:
            return _failed(conn, context, build, say(step), landed=True)
    following = _next(planned, step)
    if following is not None:
        return _launch(conn, context, build, following)
    acts: list[Act] = [Tidy(workspace_name(build, build.environment))]
    onward.onward(
        conn, build, now=context.clock.now(), actor=context.scheduler, house=context.house
    )
    return acts


# --- ends that nobody saw, and beginnings that never were


def _never_began(
    conn: Connection, context: Context, build: Build, step: Step, planned: Sequence[Step]
) -> list[Act]:
    now = context.clock.now()
    if build.stop_at is not None and build.state in (State.building, State.deploying):
        cancelled = StepState.cancelled
        steps.change(conn, step.id, state=cancelled, finished_at=now, ended_seq=build.version)
        return _stopped(conn, context, build, landed=step.stage is Stage.verify)
    if build.state is State.deploying and step.stage in (Stage.checkout, Stage.deploy):
        return _withdraw(conn, context, build, step, StepState.cancelled)
    # Nothing of it happened, so it is simply done: under a name of its own.
    earlier = [s for s in planned if s.id < step.id]
    fresh = not any(
        s.state is StepState.passed and s.environment == step.environment for s in earlier
    )
    return _launch(conn, context, build, step, fresh=fresh)


def _launch(
    conn: Connection, context: Context, build: Build, step: Step, *, fresh: bool = False
) -> list[Act]:
    begun = starting.begin(conn, context, build, step, context.clock.now())
    return [starting.launch(conn, build, begun, fresh=fresh)]


def _withdraw(
    conn: Connection, context: Context, build: Build, step: Step, state: StepState
) -> list[Act]:
    assert build.environment is not None
    reason = ends.NEVER_BEGAN
    values = {"finished_at": context.clock.now(), "reason": reason, "ended_seq": build.version}
    steps.change(conn, step.id, state=state, **values)
    found = deploys.get(conn, build.id, build.environment)
    if found is not None and found.withdrawals >= MOST_WITHDRAWALS:
        again = f"its deploy was withdrawn {MOST_WITHDRAWALS} times already; look at this host"
        return _failed(conn, context, build, again, landed=False)
    steps.give_up_waiting(conn, build.id)
    moved = _move(conn, context, build, Move.withdraw, reason=reason)
    if moved.state is State.deploy_pending:
        plan, now, actor = onward.plan_of(moved), context.clock.now(), context.scheduler
        onward.settle(conn, moved, plan, now=now, actor=actor, house=context.house)
    return []


def _lost(conn: Connection, context: Context, build: Build, step: Step, reason: str) -> list[Act]:
    now = context.clock.now()
    values = {"finished_at": now, "reason": reason, "ended_seq": build.version}
    steps.change(conn, step.id, state=StepState.interrupted, **values)
    if build.state is State.building:
        steps.give_up_waiting(conn, build.id)
        if build.stop_at is not None:
            return _stopped(conn, context, build)
        if build.requeues >= MOST_REQUEUES:
            return _failed(
                conn, context, build, f"{step.stage} {step.name} was lost {MOST_REQUEUES + 1} times"
            )
        text = f"{step.stage} {step.name} is lost: {reason}"
        changes = {"requeues": build.requeues + 1, "host": None}
        _move(conn, context, build, Move.requeue, reason=text, changes=changes)
        return []
    if build.state is State.deploying:
        if step.stage is Stage.checkout:
            return _withdraw(conn, context, build, step, StepState.interrupted)
        if step.stage is Stage.verify and build.stop_at is None:
            # To look once more whether it is well changes nothing.
            plan = [(Stage.verify, step.name)]
            again = starting.add_steps(
                conn, context, build, plan, environment=step.environment, now=now
            )
            return [Launch(build, again[0])]
        if step.stage is Stage.verify:
            return _stopped(conn, context, build, landed=True)
        steps.give_up_waiting(conn, build.id)
        if _lost_too_often(conn, build):
            often = f"it was lost more than {MOST_REPEATS} times here"
            reason = f"{reason}; {often}, so it is not repeated by itself"
        _move(conn, context, build, Move.lose, reason=reason)
        return []
    if build.state is State.interrupted and step.stage is Stage.status:
        return by_rule(conn, context, build, "the status script was lost")
    return []


# --- what becomes of an interrupted deploy


def _lost_too_often(conn: Connection, build: Build) -> bool:
    """Whether the rule "again" has done what it may for this build at its environment."""
    if onward.plan_of(build).interrupted != "again":
        return False
    mine = [s for s in steps.of(conn, build.id) if s.environment == build.environment]
    lost = [s for s in mine if (s.stage, s.state) == (Stage.deploy, StepState.interrupted)]
    return len(lost) > MOST_REPEATS


def _of_status(conn: Connection, context: Context, build: Build, step: Step) -> list[Act]:
    rule = onward.plan_of(build).interrupted
    if step.state is StepState.passed:
        reason = "the status script says that it landed"
        resolved(conn, context, build, Move.resolve_done, actor="status script", reason=reason)
        return []
    if step.exit_code == 1 and step.reason is None:
        again = rule == "again" and not _lost_too_often(conn, build)
        how = Move.resolve_again if again else Move.resolve_failed
        reason = "the status script says that it did not land"
        resolved(conn, context, build, how, actor="status script", reason=reason)
        return []
    return by_rule(conn, context, build, f"the status script does not know ({say(step)})")


def by_rule(conn: Connection, context: Context, build: Build, why: str) -> list[Act]:
    """What the pipeline says about a deploy of which nobody knows how it ended."""
    rule = onward.plan_of(build).interrupted
    if rule == "hold" or _lost_too_often(conn, build):
        builds.change(conn, build.id, due_at=None)
        return []
    how = Move.resolve_failed if rule == "fail" else Move.resolve_again
    reason = f'{why}; interrupted = "{rule}"'
    resolved(conn, context, build, how, actor=f"pipeline {build.pipeline}", reason=reason)
    return []
