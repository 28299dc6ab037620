"""A row of `reports`, with all it takes to tell it: today's facts, today's token."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from leeroy import onward, shelf, subjects
from leeroy.context import Context
from leeroy.db import builds, deploys, logs, steps
from leeroy.forges import FORGES, place
from leeroy.forges.github import deployment, deployment_status
from leeroy.forges.place import Place
from leeroy.forges.talk import Talk
from leeroy.forges.values import Comment, Deployment, Status, Word
from leeroy.model import Build, Event, Report, Step
from leeroy.pipelines import Pipeline
from leeroy.reporting import comment, standing
from leeroy.terms import Move, Stage, State
from leeroy.views import failed_step

_TAIL = 8000


@dataclass(frozen=True)
class Close:
    """A pull request to close, unless it has a newer commit."""

    number: int
    commit: str


@dataclass(frozen=True)
class Errand:
    """
    What is to be told: where, with which token (by its reference), and how.

    `making` gives the id of the thing to be made first (a deployment), and
    `telling` the id of what was told, where it has one.
    """

    where: Place
    token: str
    told: Status | Comment | Deployment | Close

    def making(self) -> Talk[str] | None:
        """What makes the thing that is told about; None where nothing is made first."""
        return deployment(self.where, self.told) if isinstance(self.told, Deployment) else None

    def telling(self, remote_id: str | None) -> Talk[str | None]:
        """What tells it; gives its id, or (a pull request left open) None."""
        forge = FORGES[self.where.forge]
        if isinstance(self.told, Status):
            yield from forge.status(self.where, self.told)
            return None
        if isinstance(self.told, Comment):
            return (yield from forge.comment(self.where, self.told))
        if isinstance(self.told, Close):
            return (yield from forge.close(self.where, self.told.number, self.told.commit))
        yield from deployment_status(self.where, remote_id or "", self.told)
        return None


def fingerprint(where: Place, token: str) -> str:
    """What tells a token from another without telling it."""
    return hashlib.sha256(f"{where.api}\n{token}".encode()).hexdigest()


def in_force(conn: Connection, build: Build) -> Pipeline:
    """
    The pipeline as it is today, so that a mended token counts; else as the build knew it.

    Raises:
        ConfigError: This version understands neither.
    """
    found: Mapping[str, Pipeline] = shelf.current(conn)
    today = found.get(build.pipeline)
    return today if today is not None and today.token is not None else onward.pipeline_of(build)


def errand(conn: Connection, context: Context, report: Report) -> Errand | str:
    """
    What *report* is to say now; a sentence where there is nothing to say.

    Raises:
        ConfigError: The pipeline's text cannot be read.
    """
    build = builds.get(conn, report.build_id)
    if build is None:
        return "the build is gone"
    pipeline = in_force(conn, build)
    where = subjects.place_of(build, pipeline)
    if where is None or pipeline.token is None:
        return "the pipeline has no token any more"
    told = _told(conn, context, build, report, where)
    if isinstance(told, Status) and where.forge == "gitlab":
        # GitLab knows a fork's commits in the fork only.
        head = place.find(build.head_repository, pipeline.api, "gitlab")
        where = where if head is None else where.beside(head.path)
    return told if isinstance(told, str) else Errand(where, pipeline.token, told)


def _told(
    conn: Connection, context: Context, build: Build, report: Report, where: Place
) -> Status | Comment | Deployment | Close | str:
    last = builds.event(conn, build.id, build.version)
    assert last is not None, f"build {build.id} has no event {build.version}"
    url = f"{context.config.url}/builds/{build.id}"
    if report.kind in ("comment", "close"):
        return _of_pull(conn, build, report, last, url)
    tests = subjects.tests_context(build.pipeline)
    if report.kind == "status" and report.context == tests:
        stands, _ = _tests(conn, build, last)
    else:
        environment = report.context.rpartition("/")[2]
        deploy = deploys.get(conn, build.id, environment)
        stands = standing.of_deploy(build, deploy, environment, last)
    if report.kind == "status":
        return Status(
            commit=report.subject,
            context=report.context,
            word=stands.word,
            description=stands.sentence,
            url=url,
            ref=build.branch or build.tag or build.default_branch,
        )
    return Deployment(
        commit=build.commit or "",
        environment=report.context,
        word=stands.word,
        description=stands.sentence,
        log_url=url,
        marker=report.marker,
        known=report.remote_id,
        look=report.look,
    )


def _tests(conn: Connection, build: Build, last: Event) -> tuple[standing.Standing, Step | None]:
    passed = any(event.move is Move.pass_ for event in builds.history(conn, build.id))
    step = failed_step(steps.of(conn, build.id)) if build.state is State.failed else None
    return standing.of_tests(build, last, step, passed=passed), step


def _of_pull(
    conn: Connection, build: Build, report: Report, last: Event, url: str
) -> Comment | Close | str:
    number = int(report.subject)
    stands, step = _tests(conn, build, last)
    if report.kind == "close":
        if builds.newest_of_pull(conn, build.pipeline, number) != build.id:
            return "a newer commit of the pull request is tested"
        if stands.word is not Word.failed or build.commit is None:
            return "it did not fail by its own fault"
        return Close(number, build.commit)
    log = None
    if step is not None and step.stage is not Stage.checkout:
        log = logs.tail(conn, step.id, _TAIL).decode("utf-8", "replace")
    words = comment.text(build, stands, url=url, marker=report.marker, step=step, log=log)
    return Comment(
        number=number,
        text=words,
        marker=f"leeroy-{report.marker}",
        known=report.remote_id,
        look=report.look,
    )
