"""
Which things on a forge show something else after a move; pure.

    leeroy/shop               how the tests of pipeline shop stand
    leeroy/shop/production    how its deploy to production stands
"""

from __future__ import annotations

import re

from leeroy import pipelines
from leeroy.errors import ConfigError
from leeroy.forges import FORGES, place
from leeroy.forges.place import Place
from leeroy.model import Build
from leeroy.pipelines import Pipeline
from leeroy.terms import State

Subject = tuple[str, str, str]
"""The kind of report, its subject and its context, as in `leeroy.db.reports`."""

_WHOLE = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_TESTED = frozenset({None, State.queued, State.building})
_PLACED = frozenset({State.deploy_pending, State.deploying, State.interrupted})


def tests_context(pipeline: str) -> str:
    """The name of the status of a pipeline's tests and builds."""
    return f"leeroy/{pipeline}"


def deploy_context(pipeline: str, environment: str) -> str:
    """The name of the status of a deploy; two pipelines of a repository never share one."""
    return f"leeroy/{pipeline}/{environment}"


def place_of(build: Build, pipeline: Pipeline) -> Place | None:
    """Where the build's forge is asked, by what *pipeline* says; None: nowhere."""
    return place.find(build.repository, pipeline.api, build.forge or pipeline.forge)


def touched(before: Build | None, after: Build) -> list[Subject]:
    """What shows something else after the move from *before* to *after* (None: it is new)."""
    try:
        pipeline = pipelines.parse(after.pipeline_text, name=after.pipeline, file=after.pipeline)
    except ConfigError:
        return []  # a text an older version accepted
    where = place_of(after, pipeline) if pipeline.token is not None else None
    if where is None:
        return []
    found: list[Subject] = []
    tested = (before.state if before else None) in _TESTED
    # A build that a person deploys again was tested under its own number.
    if tested and after.deploy_to is None:
        found += _status(after, tests_context(after.pipeline))
    for environment in dict.fromkeys(
        build.environment
        for build in (before, after)
        if build is not None and build.environment is not None and build.state in _PLACED
    ):
        assert environment is not None
        found += _status(after, deploy_context(after.pipeline, environment))
        if FORGES[where.forge].DEPLOYS and is_whole(after.commit):
            found.append(("deployment", str(after.id), environment))
    if after.pull_request is not None and tested:
        found.append(("comment", str(after.pull_request), ""))
        if pipeline.close_failing and after.state is State.failed:
            found.append(("close", str(after.pull_request), ""))
    return found


def is_whole(commit: str | None) -> bool:
    """Whether a commit's name is a whole one (Bitbucket tells 12 digits until the checkout)."""
    return commit is not None and _WHOLE.match(commit) is not None


def _status(build: Build, context: str) -> list[Subject]:
    if build.commit is None or not is_whole(build.commit):
        return []
    return [("status", build.commit, context)]
