"""How builds begin: by a person, once more, or an older one put back."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection

from leeroy import shelf, views
from leeroy.advance import accept
from leeroy.context import Context
from leeroy.db import builds
from leeroy.db import deploys as rows
from leeroy.errors import Invalid, NotFound, NotPossible
from leeroy.model import Build
from leeroy.operations import common
from leeroy.operations.common import Json
from leeroy.pipelines import Pipeline
from leeroy.terms import Move, State
from leeroy.views import find

_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_NO_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|[/.]\Z|(?:^|/)\.|\.lock(?:/|\Z)")


def enter(
    conn: Connection, context: Context, pipeline: Pipeline, *, actor: str, **columns: Any
) -> Build:
    """A new build of a pipeline in force; with `only_newest` the older queued ones give way."""
    context = context.at_one_moment()
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
            common.move(conn, context, older, Move.supersede, actor=actor, reason=reason)
    return build


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
    """
    A build once more: the same commit and place, today's pipeline.

    A fork's code runs only after a person's approval of that very commit: the
    source's, or else it waits for one of its own.
    """
    old = find(conn, id)
    if not old.state.over:
        raise NotPossible(f"build {id} is {old.state}, so it cannot be run again yet")
    pipeline = shelf.get(conn, old.pipeline)
    build = enter(
        conn,
        context,
        pipeline,
        actor=actor,
        trigger="retry",
        place=old.place,
        source=old.id,
        deploy_to=old.deploy_to,
        without_grace=old.without_grace,
        deploys=old.deploys,
        approved_by=_approval(old, pipeline),
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
    rows.ensure_every(conn)
    rows.ensure(conn, old.pipeline, [(to, plan.lock)])
    rows.locked(conn, plan.lock)
    rows.change(
        conn,
        old.pipeline,
        to,
        frozen_at=context.clock.now(),
        frozen_by=actor,
        frozen_reason=f"build {build.id} was put there by hand; "
        f"`leeroy thaw {old.pipeline}/{to}` ends it",
        frozen_until=None,
    )
    common.note(
        conn, context, actor, "freeze", f"{old.pipeline}/{to}", f"by deploy of build {build.id}"
    )
    return views.build_json(conn, context, build)


def _approval(old: Build, pipeline: Pipeline) -> str | None:
    """Who lets the fork's code of *old* run once more; None: nobody yet."""
    if not old.fork:
        return None
    if pipeline.forks == "test":
        return common.EVERY_FORK
    return None if old.approved_by == common.EVERY_FORK else old.approved_by


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
        "forge": old.forge,
        "base_branch": old.base_branch,
        "head_repository": old.head_repository,
        "pull_request_ref": old.pull_request_ref,
    }
