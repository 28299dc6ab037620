"""What the rows say at one moment, and the pipelines of the histories."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, select

from leeroy import pipelines
from leeroy.db import builds, deploys, outbox, steps, tables
from leeroy.model import (
    Build,
    Deploy,
    Environment,
    Event,
    Notice,
    Step,
    StepState,
)

SHOP = """
repository = "/srv/shop.git"
secret = "env:HOOK"
[[test]]
name = "unit"
run = "true"
[[build]]
name = "wheel"
run = "true"
[[deploy]]
environment = "staging"
tags = ["*"]
branches = ["main"]
run = "true"
verify = "true"
[[deploy]]
environment = "production"
branches = ["main"]
run = "true"
status = "true"
interrupted = "again"
lock = "rack"
[[deploy]]
environment = "moon"
branches = ["main"]
run = "true"
approve = true
[[notify]]
to = "env:OPS"
on = ["deploy_pending", "done", "queued"]
"""
TOOL = """
[[test]]
name = "unit"
run = "true"
[[deploy]]
environment = "rack"
run = "true"
interrupted = "fail"
lock = "rack"
[[deploy]]
environment = "shelf"
run = "true"
unheard = "deploy"
[[notify]]
to = "env:TOOL"
on = ["deploy_pending"]
"""
BOOK = """
repository = "/srv/book.git"
secret = "env:HOOK"
only_newest = true
at_once = 1
[[test]]
name = "spelling"
run = "true"
"""
TEXTS = {"shop": SHOP, "tool": TOOL, "book": BOOK}
ENVIRONMENTS = ["shop/staging", "shop/production", "shop/moon", "tool/rack", "tool/shelf", "*"]
SETTINGS = """
slots = 2
min_free = "0B"
[[notify]]
to = "env:HOUSE"
on = ["failed", "done", "interrupted", "cancelled"]
"""


@dataclass(frozen=True)
class Picture:
    """Every row that counts, of one moment."""

    builds: dict[int, Build]
    events: dict[int, list[Event]]
    steps: dict[int, list[Step]]
    notices: list[Notice]
    deploys: dict[tuple[int, str], Deploy]
    places: dict[tuple[str, str], Environment]

    def running(self) -> list[Step]:
        """The steps that run, as far as the rows say."""
        every = (step for of in self.steps.values() for step in of)
        return sorted((s for s in every if s.state is StepState.running), key=lambda s: s.id)

    def tested_by(self, build: Build) -> Build:
        """The build whose tests count: its own, or those of the one it deploys again."""
        while build.deploy_to is not None and build.source is not None:
            build = self.builds[build.source]
        return build


def look(conn: Connection) -> Picture:
    """The rows as they are."""
    rows = conn.execute(select(tables.builds).order_by(tables.builds.c.id))
    found = {build.id: build for build in map(builds.build_of, rows)}
    events: dict[int, list[Event]] = {number: [] for number in found}
    ran: dict[int, list[Step]] = {number: [] for number in found}
    columns = tables.events.c
    for row in conn.execute(select(tables.events).order_by(columns.build_id, columns.seq)):
        events[row.build_id].append(builds.event_of(row))
    for row in conn.execute(select(tables.steps).order_by(tables.steps.c.id)):
        ran[row.build_id].append(steps.step_of(row))
    told = conn.execute(select(tables.outbox).order_by(tables.outbox.c.id))
    going = conn.execute(select(tables.deploys))
    return Picture(
        builds=found,
        events=events,
        steps=ran,
        notices=[outbox.notice_of(row) for row in told],
        deploys={(d.build_id, d.environment): d for d in map(deploys.deploy_of, going)},
        places={(p.pipeline, p.name): p for p in deploys.everywhere(conn)},
    )


@cache
def pipeline(name: str) -> pipelines.Pipeline:
    """A pipeline in force."""
    return pipelines.parse(TEXTS[name], name=name, file=name)


def plan(build: Build, environment: str) -> pipelines.Deploy:
    """What the pipeline says of a deploy."""
    return next(d for d in pipeline(build.pipeline).deploys if d.environment == environment)
