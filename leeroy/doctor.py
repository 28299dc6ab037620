"""How this Leeroy is, and whether people can be told; looks and changes nothing."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from leeroy import check, guard, pushes, replay, shelf, views
from leeroy.clock import Clock
from leeroy.config import Config, Secrets, load
from leeroy.context import Context, host_name, make
from leeroy.db import alarms, deploys, house, lineage, outbox, reports, schema
from leeroy.db.engine import Database
from leeroy.errors import ConfigError, LeeroyError
from leeroy.notify import targets
from leeroy.notify.compose import Message
from leeroy.notify.courier import Courier
from leeroy.pipelines import parse


@dataclass(frozen=True)
class Line:
    """One thing that was looked at."""

    well: bool
    text: str


def examine(path: str | None, environ: Mapping[str, str], clock: Clock) -> list[Line]:
    """Everything worth a look, what is not well with what to do about it."""
    mistakes = [m for m in check.everything(path, [], environ) if not m.warning]
    found = [Line(False, str(mistake)) for mistake in mistakes]
    try:
        config = load(path, environ)
    except ConfigError:
        return found
    if not mistakes:
        found.append(Line(True, f"the settings ({config.file or 'defaults'}) and pipelines"))
    found += _user()
    file = config.database.removeprefix("sqlite:///")
    if file != config.database and not Path(file).exists():
        return [*found, Line(False, f"there is no database {file} yet; `leeroy serve` makes it")]
    try:
        schema.ensure(config.database, migrate=False)
    except LeeroyError as exc:
        return [*found, Line(False, str(exc))]
    context = make(config, clock, environ, new=False)
    room = context.short_of_room()
    found.append(Line(room is None, room or f"there is room on the disk of {config.data}"))
    database = Database(config.database, even_full=True)
    try:
        found += database.read(lambda conn: _database(conn, context, database.label))
    finally:
        database.close()
    return found


def _user() -> list[Line]:
    if os.geteuid() == 0:
        text = "it runs as root, and so do all scripts; `leeroy init --system` makes a user for it"
        return [Line(False, text)]
    text = (
        "scripts of the local executor run as this user and can read what it can; where that "
        "is too much, name an executor (docs/configuration.md)"
    )
    return [Line(True, text)]


def _database(conn: Connection, context: Context, label: str) -> list[Line]:
    found = [Line(True, f"the database {label} answers, with the schema of this version")]
    seen = house.last_beat(conn)
    ago = None if seen is None else (context.clock.now() - seen).total_seconds()
    if ago is None or ago > views.UNSEEN_S:
        found.append(Line(False, "no server runs; start `leeroy serve`"))
    else:
        found.append(Line(True, f"a server was seen {max(ago, 0):.0f} s ago"))
    for name, shelved in house.shelf(conn).items():
        if shelved.mistakes and shelved.present:
            text = f"pipeline {name} is broken, an older text is in force: {shelved.mistakes}"
            found.append(Line(False, text))
    differences = replay.part(conn, max(lineage.last_build(conn) - replay.AT_ONCE, 0))[
        "differences"
    ]
    found += [Line(False, text) for text in differences[:20]]
    if not differences:
        found.append(Line(True, "the newest builds are what their events make of them"))
    now = context.clock.now()
    told = pushes.examine(conn, shelf.current(conn), context.config.url, now)
    found += [Line(well, text) for well, text in told]
    trouble = outbox.trouble(conn)
    for notice in trouble:
        state = "was given up" if notice.state == "dead" else "does not get through"
        name = views.target_name(notice.target)
        text = f"a notice of build {notice.build_id} to {name} {state}: {notice.last_error}"
        found.append(Line(False, text))
    unheard = alarms.trouble(conn)
    for alarm, error in unheard:
        name = views.target_name(alarm.target)
        found.append(Line(False, f"{alarm.title}; {name} could not be told: {error}"))
    if not trouble and not unheard:
        found.append(Line(True, "no notice is in trouble"))
    found += _reports(conn)
    for place in deploys.everywhere(conn):
        if place.frozen_at is not None:
            name = f"{place.pipeline}/{place.name}" if place.pipeline else "everything"
            why = f": {place.frozen_reason}" if place.frozen_reason else ""
            well = place.frozen_by != guard.WHO
            found.append(Line(well, f"{name} is frozen by {place.frozen_by}{why}"))
    return found


def _reports(conn: Connection) -> list[Line]:
    """What forges do not hear."""
    found: list[Line] = []
    dead = reports.buried(conn)
    waiting = reports.waiting(conn)
    for token in dead:
        count = waiting.get(token.pipeline, 0)
        text = (
            f"the token {token.reference} of pipeline {token.pipeline} is dead since "
            f"{token.at:%Y-%m-%d %H:%M} UTC: {token.said}; make a new one and put it there "
            f"({count} reports wait for it)"
        )
        found.append(Line(False, text))
    mute = {token.pipeline for token in dead}
    for report in reports.trouble(conn):
        if report.state == "waiting" and report.pipeline in mute:
            continue
        state = "was given up" if report.state == "dead" else "does not get through"
        what = f"{report.kind} {report.context or report.subject}"
        text = f"a report of build {report.build_id} ({what}) {state}: {report.last_error}"
        found.append(Line(False, text))
    if not found:
        found.append(Line(True, "no report to a forge is in trouble"))
    return found


def tell_everybody(path: str | None, environ: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """Send a message to each target; their names, with what went wrong (None: accepted)."""
    config = load(path, environ)
    return asyncio.run(_tell(config, Secrets(config, environ)))


async def _tell(config: Config, secrets: Secrets) -> list[tuple[str, str | None]]:
    listed = [target.to for target in config.notify]
    for file in shelf.look(config.pipelines):
        if file.text is not None:
            read = parse(file.text, name=file.name, file=file.name)
            listed += [target.to for target in read.notify]
    text = f"This is a test by Leeroy on {host_name()}: whoever reads it is told of deploys."
    words = Message("Leeroy: a test", text, text, f"<p>{text}</p>")
    courier = Courier(sys.executable, 30.0)
    found: list[tuple[str, str | None]] = []
    try:
        for to in dict.fromkeys(listed):
            if to == "author":
                continue
            try:
                url = secrets.get(to) if to.startswith(("env:", "file:")) else to
                recipients = targets.split(url)
            except LeeroyError as exc:
                found.append((views.target_name(to), str(exc)))
                continue
            name = views.target_name(to)
            for recipient in recipients:
                error = await courier.deliver(recipient.url, words, {})
                whom = name if recipient.name == name else f"{name} ({recipient.name})"
                found.append((whom, error))
    finally:
        await courier.close()
    return found
