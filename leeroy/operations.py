"""
What people ask for: trigger, cancel, hold, approve, retry, deploy, resolve, freeze, thaw.

Each is a function of an open connection and the process's context; the caller
owns the transaction, and nobody is answered before its commit.  `DO` names
them as `leeroy.calls` does.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from leeroy import durations, onward, shelf, stoplink, views
from leeroy.advance import accept, advance
from leeroy.context import Context
from leeroy.db import builds, deploys, house, outbox
from leeroy.errors import Invalid, NotFound, NotPossible
from leeroy.model import Build, Delivery, Move, Push, Role, State
from leeroy.pipelines import Pipeline, matches
from leeroy.views import find

Json = dict[str, Any]

_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_NO_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|[/.]\Z")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,99}")
_RUNNING = (State.building, State.deploying)


# --- builds that begin


def enter(
    conn: Connection, context: Context, pipeline: Pipeline, *, actor: str, **columns: Any
) -> Build:
    """A new build of a pipeline in force; with `only_newest` the older queued ones give way."""
    build = accept(
        conn,
        now=context.clock.now(),
        actor=actor,
        house=context.house,
        pipeline=pipeline.name,
        pipeline_text=pipeline.text,
        repository=pipeline.repository,
        **columns,
    )
    if pipeline.only_newest and build.branch is not None:
        for older in builds.queued_on_branch(conn, build):
            reason = f"build {build.id} of {build.branch} is newer (only_newest)"
            _move(conn, context, older, Move.supersede, actor=actor, reason=reason)
    return build


def push(
    conn: Connection, context: Context, delivery: Delivery, pipelines: list[Pipeline]
) -> tuple[list[int], str | None]:
    """
    The builds of one webhook delivery, or the reason why it starts none.

    A delivery that was seen before gives the same builds again, and makes none.
    """
    seen = house.delivery(conn, delivery.forge, delivery.id)
    if seen is not None:
        return seen[0], "seen before"
    made: list[int] = []
    reasons: list[str] = [] if delivery.ignored is None else [delivery.ignored]
    for pipeline in pipelines:
        for ref in delivery.pushes:
            reason = _unwanted(pipeline, ref)
            if reason is not None:
                reasons.append(reason)
                continue
            build = enter(
                conn,
                context,
                pipeline,
                actor=delivery.forge,
                trigger="push",
                branch=ref.branch,
                tag=ref.tag,
                commit=ref.commit,
                message=ref.message,
                author=ref.author,
                author_email=ref.author_email,
                default_branch=ref.default_branch,
            )
            made.append(build.id)
    text = None
    if not made:
        text = "; ".join(dict.fromkeys(reasons)) or "nothing was pushed"
    house.add_delivery(conn, delivery.forge, delivery.id, context.clock.now(), made, text)
    return made, text


def _unwanted(pipeline: Pipeline, ref: Push) -> str | None:
    name = ref.branch or ref.tag or ""
    if ref.deleted:
        return f"{name} was deleted"
    if matches(pipeline.branches, name):
        return None
    if ref.tag is not None and any(
        deploy.tags is not None and matches(deploy.tags, name) for deploy in pipeline.deploys
    ):
        return None
    return f"pipeline {pipeline.name} does not test {name}"


def trigger(
    conn: Connection,
    context: Context,
    actor: str,
    *,
    name: str,
    branch: str | None = None,
    commit: str | None = None,
    deploys: bool = True,
) -> Json:
    """A build that a person asks for; a commit without its branch is tested only."""
    pipeline = shelf.get(conn, name)
    if branch is not None and (not branch or _NO_REF.search(branch) or len(branch) > 1000):
        raise Invalid(f"{branch!r} is no name of a branch")
    if commit is not None and not _COMMIT.fullmatch(commit.lower()):
        raise Invalid(f"{commit!r} is no commit; write 7 to 40 hex digits of its number")
    if pipeline.repository is None and (branch is not None or commit is not None):
        raise Invalid(f"pipeline {name} has no repository, so no branch and no commit either")
    build = enter(
        conn,
        context,
        pipeline,
        actor=actor,
        trigger="manual",
        branch=branch,
        commit=None if commit is None else commit.lower(),
        deploys=deploys and not (commit is not None and branch is None),
    )
    return views.build_json(conn, context, build)


def retry(conn: Connection, context: Context, actor: str, *, id: int) -> Json:
    """A build once more: the same commit and place, today's pipeline."""
    old = find(conn, id)
    if not old.state.over:
        raise NotPossible(f"build {id} is {old.state}, so it cannot be run again yet")
    build = enter(
        conn,
        context,
        shelf.get(conn, old.pipeline),
        actor=actor,
        trigger="retry",
        place=old.place,
        source=old.id,
        deploy_to=old.deploy_to,
        without_grace=old.without_grace,
        deploys=old.deploys,
        approved_by=actor if old.fork else None,
        **_same_code(old),
    )
    return views.build_json(conn, context, build)


def deploy(
    conn: Connection, context: Context, actor: str, *, id: int, to: str, now: bool = False
) -> Json:
    """
    A build that passed, deployed to one environment again: a rollback.

    It has a new place, and freezes the automatic deploys of that environment
    until `thaw`.
    """
    old = find(conn, id)
    if old.fork or old.pull_request is not None:
        raise NotPossible(f"build {id} is of a pull request; those are never deployed")
    if not any(event.to_state is State.passed for event in builds.history(conn, old.id)):
        raise NotPossible(f"build {id} never passed its tests, so it cannot be deployed")
    pipeline = shelf.get(conn, old.pipeline)
    plan = next((d for d in pipeline.deploys if d.environment == to), None)
    if plan is None:
        known = ", ".join(d.environment for d in pipeline.deploys) or "none"
        raise NotFound(f"pipeline {old.pipeline} has no environment {to!r}; it has: {known}")
    build = enter(
        conn,
        context,
        pipeline,
        actor=actor,
        trigger="deploy",
        source=old.id,
        deploy_to=to,
        without_grace=now,
        **_same_code(old),
    )
    deploys.ensure_every(conn)
    deploys.ensure(conn, old.pipeline, [(to, plan.lock)])
    deploys.locked(conn, plan.lock)
    deploys.change(
        conn,
        old.pipeline,
        to,
        frozen_at=context.clock.now(),
        frozen_by=actor,
        frozen_reason=f"build {build.id} was put there by hand; `leeroy thaw` ends it",
        frozen_until=None,
        frozen_except=build.id,
    )
    _note(conn, context, actor, "freeze", f"{old.pipeline}/{to}", f"by deploy of build {build.id}")
    return views.build_json(conn, context, build)


def _same_code(old: Build) -> dict[str, Any]:
    return {
        "branch": old.branch,
        "tag": old.tag,
        "commit": old.commit,
        "default_branch": old.default_branch,
        "pull_request": old.pull_request,
        "fork": old.fork,
        "message": old.message,
        "author": old.author,
        "author_email": old.author_email,
    }


# --- builds that are stopped, held, let go


def cancel(
    conn: Connection,
    context: Context,
    actor: str,
    *,
    id: int,
    reason: str | None = None,
    force: bool = False,
) -> Json:
    """
    Stop a build: at once where nothing of it runs, else as soon as its processes are dead.

    Raises:
        NotPossible: It is over otherwise, or its deploy runs and *force* was not given.
    """
    build = find(conn, id, lock=True)
    if build.state is State.cancelled:
        return _told(conn, context, build, f"build {id} is cancelled already")
    if build.state.over:
        when = views.instant(build.finished_at)
        raise NotPossible(f"too late: build {id} is {build.state} since {when}")
    if build.state is State.interrupted:
        raise NotPossible(
            f"nothing of build {id} can be stopped: nobody saw how its deploy to "
            f"{build.environment} ended; look, then `leeroy resolve {id} done|failed`"
        )
    if build.state in _RUNNING:
        return _stop_running(conn, context, build, actor, reason, force=force)
    moved = _move(conn, context, build, Move.cancel, actor=actor, reason=reason)
    return _told(conn, context, moved, f"build {id} is cancelled; nothing of it runs")


def _stop_running(
    conn: Connection, context: Context, build: Build, actor: str, reason: str | None, *, force: bool
) -> Json:
    if build.stop_at is not None:
        return _told(conn, context, build, f"build {build.id} is being stopped already")
    if build.state is State.deploying and not force:
        started = deploys.get(conn, build.id, build.environment or "")
        since = views.instant(started.started_at) if started else "some time ago"
        raise NotPossible(
            f"too late: the deploy of build {build.id} to {build.environment} started {since}; "
            "`--force` ends its script in the middle"
        )
    if not builds.ask_to_stop(conn, build, context.clock.now(), actor, reason):
        raise NotPossible(f"build {build.id} was moved at this moment; look at it again")
    what = f"deploy to {build.environment}" if build.state is State.deploying else "build"
    stopped = find(conn, build.id)
    return _told(conn, context, stopped, f"{what} {build.id} is being stopped; no deploy follows")


def hold(
    conn: Connection, context: Context, actor: str, *, id: int, reason: str | None = None
) -> Json:
    """Keep the deploy that waits until a person lets it go on."""
    build = find(conn, id, lock=True)
    if build.state is not State.deploy_pending:
        raise NotPossible(f"build {id} is {build.state}, and no deploy of it waits")
    _lock_environment(conn, build)
    held = _deploy_row(conn, build)
    if held.held_at is not None:
        return _told(conn, context, build, f"build {id} is held already by {held.held_by}")
    moved = _move(conn, context, build, Move.hold, actor=actor, reason=reason)
    text = f"the deploy of build {id} to {build.environment} is held until `leeroy approve {id}`"
    return _told(conn, context, moved, text)


def approve(
    conn: Connection, context: Context, actor: str, *, id: int, environment: str | None = None
) -> Json:
    """
    Let a fork's tests start; or lift approval, hold and the rest of the grace period.

    It lifts no freeze.
    """
    build = find(conn, id, lock=True)
    now = context.clock.now()
    if build.state is State.queued and build.fork:
        builds.change(conn, id, approved_by=actor)
        builds.wake(conn)
        _note(conn, context, actor, "approve", f"build {id}", f"commit {build.commit}")
        return _told(conn, context, find(conn, id), f"build {id} may run")
    if build.state is not State.deploy_pending:
        raise NotPossible(f"build {id} is {build.state}, and nothing of it waits for approval")
    _same_environment(build, environment, "approve")
    _lock_environment(conn, build)
    assert build.environment is not None
    deploys.put(
        conn,
        build,
        build.environment,
        approved_at=now,
        approved_by=actor,
        held_at=None,
        held_by=None,
        held_reason=None,
    )
    builds.change(conn, id, due_at=now)
    builds.wake(conn)
    _note(conn, context, actor, "approve", f"build {id}", f"deploy to {build.environment}")
    text = f"the deploy of build {id} to {build.environment} goes on"
    return _told(conn, context, find(conn, id), text)


def confirm(conn: Connection, context: Context, actor: str, *, id: int, seq: int) -> Json:
    """A client that waits has shown the announcement to its person, who thereby was told."""
    build = find(conn, id, lock=True)
    if build.state is State.deploy_pending and build.environment is not None:
        found = deploys.get(conn, id, build.environment)
        if found is not None and found.announced_seq == seq and found.heard_at is None:
            now = context.clock.now()
            deploys.put(conn, build, build.environment, heard_at=now, heard_by=actor)
            builds.change(conn, id, due_at=now)
            builds.wake(conn)
    return views.build_json(conn, context, find(conn, id))


def by_link(
    conn: Connection, context: Context, right: stoplink.Right, *, action: str
) -> tuple[Build, str]:
    """
    What the holder of a stop link asks for: "cancel" or "hold" that one deploy.

    Raises:
        NotPossible: It started, or is over; the sentence says since when.
    """
    build, environment = linked(conn, right, lock=True)
    sent = outbox.announced_to(conn, build.id)
    whom = next((to for to in sent if stoplink.target_code(to) == right.target), "somebody")
    actor = f"stop link ({views.target_name(whom)})"
    if build.state is State.cancelled:
        return build, f"build {build.id} is cancelled already"
    if build.state is not State.deploy_pending or build.environment != environment:
        raise NotPossible(too_late(conn, build, environment))
    what = hold if action == "hold" else cancel
    reason = None if action == "hold" else "stopped by link"
    answer = what(conn, context, actor, id=build.id, reason=reason)
    return find(conn, build.id), str(answer["answer"])


def linked(conn: Connection, right: stoplink.Right, *, lock: bool = False) -> tuple[Build, str]:
    """The build and the environment a stop link is about; raises NotFound."""
    build = builds.get(conn, right.build_id, lock=lock)
    if build is None:
        raise NotFound("this link is not known here, or its build was removed")
    planned = onward.pipeline_of(build).deploys
    if right.environment >= len(planned):
        raise NotFound("this link is not known here")
    return build, planned[right.environment].environment


def too_late(conn: Connection, build: Build, environment: str) -> str:
    """Why a deploy cannot be stopped any more, and since when."""
    found = deploys.get(conn, build.id, environment)
    if found is not None and found.started_at is not None:
        text = f"too late: the deploy to {environment} started {views.instant(found.started_at)}"
        if found.ended_at is not None:
            return f"{text} and ended {views.instant(found.ended_at)} ({found.outcome})"
        return f"{text} and runs; `leeroy cancel {build.id} --force` ends its script in the middle"
    return f"too late: build {build.id} is {build.state}"


_OUTCOMES: Final = {
    "done": Move.resolve_done,
    "failed": Move.resolve_failed,
    "again": Move.resolve_again,
}


def resolve(
    conn: Connection,
    context: Context,
    actor: str,
    *,
    id: int,
    outcome: str,
    environment: str | None = None,
    reason: str | None = None,
) -> Json:
    """Say how an interrupted deploy ended, or that it is to be run again."""
    if outcome not in _OUTCOMES:
        raise Invalid(f"{outcome!r} is no outcome; it is done, failed or again")
    if not reason:
        raise Invalid("say why: --reason TEXT")
    build = find(conn, id, lock=True)
    if build.state is not State.interrupted:
        raise NotPossible(f"build {id} is {build.state}, not interrupted; there is nothing to say")
    _same_environment(build, environment, "resolve")
    moved = resolved(conn, context, build, _OUTCOMES[outcome], actor=actor, reason=reason)
    return _told(conn, context, moved, f"build {id} is {moved.state}")


def resolved(
    conn: Connection, context: Context, build: Build, how: Move, *, actor: str, reason: str
) -> Build:
    """An interrupted build after its end became known, at its next environment if it has one."""
    plan = onward.next_plan(build) if how is Move.resolve_done else None
    if how is Move.resolve_again:
        plan = onward.plan_of(build)
    moved = _move(
        conn,
        context,
        build,
        how,
        actor=actor,
        reason=reason,
        more_to_deploy=plan is not None,
        environment=None if plan is None else plan.environment,
    )
    if plan is None:
        return moved
    now = context.clock.now()
    return onward.settle(conn, moved, plan, now=now, actor=actor, house=context.house)


# --- environments


def freeze(
    conn: Connection,
    context: Context,
    actor: str,
    *,
    which: str,
    reason: str | None = None,
    until: str | None = None,
) -> Json:
    """Let no automatic deploy start in an environment (`pipeline/name`, `name`, or `*` for all)."""
    now = context.clock.now()
    ends = None if until is None else moment(until, now)
    if ends is not None and ends <= now:
        raise Invalid(f"{until} is over already")
    for pipeline, name in _which(conn, which):
        deploys.change(
            conn,
            pipeline,
            name,
            frozen_at=now,
            frozen_by=actor,
            frozen_reason=reason,
            frozen_until=ends,
            frozen_except=None,
        )
        _note(conn, context, actor, "freeze", f"{pipeline}/{name}", reason)
    builds.nudge(conn, now)
    return {"environments": views.environments_json(conn, now)}


def thaw(conn: Connection, context: Context, actor: str, *, which: str) -> Json:
    """Let deploys go on: each that waits is announced again, with its full grace period."""
    now = context.clock.now()
    for pipeline, name in _which(conn, which):
        found = deploys.environment(conn, pipeline, name)
        if found is None or found.frozen_at is None:
            continue
        deploys.change(
            conn,
            pipeline,
            name,
            frozen_at=None,
            frozen_by=None,
            frozen_reason=None,
            frozen_until=None,
            frozen_except=None,
        )
        every = (pipeline, name) == deploys.EVERY
        deploys.unannounce(
            conn, pipeline=None if every else pipeline, environment=None if every else name
        )
        _note(conn, context, actor, "thaw", f"{pipeline}/{name}")
    builds.nudge(conn, now)
    return {"environments": views.environments_json(conn, now)}


def moment(text: str, now: datetime) -> datetime:
    """A moment as people write it: "2h" from *now*, "18:30" today or tomorrow, or ISO 8601."""
    if re.fullmatch(r"([0-9.]+(ms|s|m|h|d))+", text):
        return now + timedelta(seconds=durations.seconds(text))
    clock = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text)
    if clock is not None:
        local = now.astimezone()
        at = local.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return (at if at > local else at + timedelta(days=1)).astimezone(UTC)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as exc:
        example = 'write "2h", "18:30" or "2026-01-31T18:30"'
        raise Invalid(f"{text!r} is no moment; {example}") from exc


def _which(conn: Connection, which: str) -> list[tuple[str, str]]:
    deploys.ensure_every(conn)
    if which in ("*", "--all"):
        deploys.lock_all(conn)
        return [deploys.EVERY]
    pipeline, slash, name = which.rpartition("/")
    known = deploys.all_environments(conn)
    found = [e for e in known if e.name == name and (not slash or e.pipeline == pipeline)]
    if not found:
        listed = ", ".join(f"{e.pipeline}/{e.name}" for e in known) or "none"
        raise NotFound(f"there is no environment {which!r}; there are: {listed}")
    for lock in sorted({e.lock for e in found}):
        deploys.locked(conn, lock)
    return [(e.pipeline, e.name) for e in found]


# --- what is only looked at, and tokens


def list_(
    conn: Connection,
    context: Context,
    actor: str,
    *,
    pipeline: str | None = None,
    branch: str | None = None,
    state: str | None = None,
    limit: int = 30,
    before: int | None = None,
) -> list[Json]:
    """The newest builds first."""
    if state is not None and state not in {str(s) for s in State}:
        raise Invalid(f"{state!r} is no state; `leeroy states` lists them")
    if not 1 <= limit <= 1000:
        raise Invalid("limit is from 1 to 1000")
    found = builds.latest(
        conn,
        pipeline=pipeline,
        branch=branch,
        state=None if state is None else State(state),
        limit=limit,
        before=before,
    )
    return [views.build_json(conn, context, build) for build in found]


def show(conn: Connection, context: Context, actor: str, *, id: int) -> Json:
    """One build."""
    return views.build_json(conn, context, find(conn, id))


def events(conn: Connection, context: Context, actor: str, *, id: int) -> list[Json]:
    """Every move of a build."""
    find(conn, id)
    return [views.event_json(event) for event in builds.history(conn, id)]


def notices(conn: Connection, context: Context, actor: str, *, id: int) -> list[Json]:
    """Whom a build's moves were told to, and how that went."""
    find(conn, id)
    return [views.notice_json(notice, state) for notice, state in outbox.of(conn, id)]


def why(conn: Connection, context: Context, actor: str, *, id: int) -> Json:
    """Why a build waits."""
    build = find(conn, id)
    return {"id": id, "state": str(build.state), "why": views.why(conn, context, build)}


def environments(conn: Connection, context: Context, actor: str) -> list[Json]:
    """What runs where."""
    return views.environments_json(conn, context.clock.now())


def pipelines(conn: Connection, context: Context, actor: str) -> list[Json]:
    """The pipelines, and what is wrong with their files."""
    return [
        {"name": s.name, "in_force": s.text is not None, "mistakes": s.mistakes}
        for s in house.shelf(conn).values()
        if s.present
    ]


def token_add(conn: Connection, context: Context, actor: str, *, name: str, role: str) -> Json:
    """A new token; only its hash is kept, so this is the one time it is seen."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name; use letters, digits and . _ @ -")
    if role not in {str(r) for r in Role}:
        raise Invalid(f"{role!r} is no role; it is viewer, operator or admin")
    if any(token.name == name for token in house.all_tokens(conn)):
        raise Invalid(f"there is a token {name!r} already; remove it first")
    token = secrets.token_urlsafe(32)
    try:
        house.add_token(conn, name, Role(role), token_hash(token), context.clock.now())
    except IntegrityError as exc:
        raise Invalid(f"there is a token {name!r} already; remove it first") from exc
    _note(conn, context, actor, "token add", name, role)
    return {"name": name, "role": role, "token": token}


def token_list(conn: Connection, context: Context, actor: str) -> list[Json]:
    """The tokens' names and roles."""
    return [
        {"name": t.name, "role": str(t.role), "created_at": views.instant(t.created_at)}
        for t in house.all_tokens(conn)
    ]


def token_remove(conn: Connection, context: Context, actor: str, *, name: str) -> Json:
    """Forget a token."""
    if not house.remove_token(conn, name):
        raise NotFound(f"there is no token {name!r}; `leeroy token list` shows them")
    _note(conn, context, actor, "token remove", name)
    return {"name": name, "message": f"token {name} is of no use any more"}


def token_hash(token: str) -> str:
    """What is stored of a token: it has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


Operation = Callable[..., Any]

DO: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "list": list_,
        "show": show,
        "events": events,
        "notices": notices,
        "why": why,
        "environments": environments,
        "pipelines": pipelines,
        "trigger": trigger,
        "cancel": cancel,
        "hold": hold,
        "approve": approve,
        "confirm": confirm,
        "retry": retry,
        "deploy": deploy,
        "resolve": resolve,
        "freeze": freeze,
        "thaw": thaw,
        "token_list": token_list,
        "token_add": token_add,
        "token_remove": token_remove,
    }
)
"""The operations by the names of `leeroy.calls.CALLS`."""


def _told(conn: Connection, context: Context, build: Build, sentence: str) -> Json:
    return views.build_json(conn, context, build) | {"answer": sentence}


def _move(
    conn: Connection,
    context: Context,
    build: Build,
    move: Move,
    *,
    actor: str,
    reason: str | None = None,
    **options: Any,
) -> Build:
    return advance(
        conn,
        build,
        move,
        now=context.clock.now(),
        actor=actor,
        house=context.house,
        reason=reason,
        **options,
    )


def _deploy_row(conn: Connection, build: Build) -> Any:
    found = deploys.get(conn, build.id, build.environment or "")
    assert found is not None, f"build {build.id} waits without a row in deploys"
    return found


def _lock_environment(conn: Connection, build: Build) -> None:
    """Whoever decides about a waiting deploy has its environment's rows first."""
    plan = onward.plan_of(build)
    deploys.ensure_every(conn)
    deploys.ensure(conn, build.pipeline, [(plan.environment, plan.lock)])
    deploys.locked(conn, plan.lock)


def _same_environment(build: Build, environment: str | None, what: str) -> None:
    planned = [plan.environment for plan in onward.plans(build)]
    if environment is None and len(planned) > 1:
        listed = ", ".join(planned)
        raise Invalid(
            f"build {build.id} goes to several environments ({listed}); say which one you mean: "
            f"`leeroy {what} {build.id} … --environment {build.environment}`"
        )
    if environment is not None and environment != build.environment:
        raise NotPossible(f"it is {build.environment} that build {build.id} is at, not that one")


def _note(
    conn: Connection,
    context: Context,
    actor: str,
    act: str,
    subject: str,
    detail: str | None = None,
) -> None:
    house.note(conn, context.clock.now(), actor, act, subject, detail)
