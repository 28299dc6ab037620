"""Every row that tells what happened, as they were at one moment; for checks, not for serving."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from leeroy.db import builds, deploys, outbox, steps, tables
from leeroy.model import Build, Deploy, Environment, Event, Notice, Step


@dataclass(frozen=True)
class Taken:
    """A webhook delivery that was stored, and the builds it made."""

    forge: str
    id: str
    builds: tuple[int, ...]
    reason: str | None


@dataclass(frozen=True)
class Picture:
    """
    The rows of one moment.

    Events and steps are grouped by build, in the order in which they were
    written; deploys are known by (build, environment), environments by
    (pipeline, name).
    """

    builds: Mapping[int, Build]
    events: Mapping[int, Sequence[Event]]
    steps: Mapping[int, Sequence[Step]]
    deploys: Mapping[tuple[int, str], Deploy]
    environments: Mapping[tuple[str, str], Environment]
    notices: Sequence[Notice]
    deliveries: Sequence[Taken]


def look(conn: Connection) -> Picture:
    """The rows as this transaction sees them."""
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
    taken = conn.execute(select(tables.deliveries).order_by(tables.deliveries.c.at))
    return Picture(
        builds=found,
        events=events,
        steps=ran,
        deploys={(d.build_id, d.environment): d for d in map(deploys.deploy_of, going)},
        environments={(p.pipeline, p.name): p for p in deploys.everywhere(conn)},
        notices=[outbox.notice_of(row) for row in told],
        deliveries=[
            Taken(row.forge, row.id, tuple(json.loads(row.builds)), row.reason) for row in taken
        ],
    )
