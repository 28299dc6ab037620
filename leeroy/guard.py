"""
The restore guard: a database that is older than this host knows, or came from
elsewhere, freezes everything until a person has looked (`leeroy thaw --all`).

Each host keeps a journal in its data folder (`leeroy.journal`).  It is written
after the commit and before anybody is answered, so it is never ahead of the
database it belongs to: a crash raises no alarm.  A thaw begins a new era, so
that two databases which were one never pass for each other again.
"""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from pathlib import Path
from secrets import token_hex

from sqlalchemy import Connection

from leeroy import pipelines
from leeroy.context import Context
from leeroy.db import alarms, deploys, house, lineage, steps
from leeroy.db.engine import Database
from leeroy.db.lineage import Lineage, Standing
from leeroy.errors import ConfigError
from leeroy.journal import Entry
from leeroy.terms import State

log = logging.getLogger(__name__)

WHO = "leeroy"
"""Who froze everything, where no person did."""
_NO_JOURNAL = "none"
_GAP = 100
"""So many numbers of builds are left out where it is not known which were given."""


def arrive(database: Database, context: Context, boot_id: str) -> str | None:
    """
    Compare the database with this host's journal, before anything else is done.

    Returns why everything is frozen now; None when it is not by the guard.
    """

    return beat(database, context, boot_id)


def beat(database: Database, context: Context, boot_id: str | None = None) -> str | None:
    """Compare again, and note what is committed; as `arrive`."""
    journal = context.journal
    if journal is None:
        return None
    entry, doubt = database.transact(partial(_beat, context=context, boot_id=boot_id))
    journal.doubted = entry is None
    kept = journal.read()
    if entry is not None and (kept is None or kept.era != entry.era or _moved(kept, entry)):
        journal.adopt(entry)
    elif entry is not None:
        journal.note(entry.era, entry.mark, entry.build)
        journal.sync()
    return doubt


def _moved(kept: Entry, entry: Entry) -> bool:
    return kept.incarnation != entry.incarnation


def _beat(
    conn: Connection, context: Context, boot_id: str | None
) -> tuple[Entry | None, str | None]:
    # All in the first transaction: a commit before it would count as one the host has missed.
    if boot_id is not None and house.host_name(conn, context.host_id) == context.host_id:
        house.beat(conn, context.host_id, context.host_name, boot_id, context.clock.now())
    doubt = look(conn, context)
    if doubt is not None:
        return None, doubt
    found = lineage.get(conn)
    mark = found.mark if conn.dialect.name == "sqlite" else lineage.bump(conn)
    assert found.era is not None and context.journal is not None
    kept = context.journal.read()
    if (kept is not None and kept.era == found.era) and (
        lineage.standing(conn, context.host_id).journal != found.era
    ):
        # Only now: a journal that a crash kept from being made must not be missed later.
        lineage.stand(conn, context.host_id, journal=found.era, cleared=None)
    return Entry(found.era, mark, found.incarnation, lineage.last_build(conn)), None


def look(conn: Connection, context: Context) -> str | None:
    """
    Why this database is not to be trusted by this host; then everything is frozen.

    None: it is the one this host knows, as new as this host knows it.
    """
    if context.journal is None:
        return None
    kept = context.journal.read()
    # In this order: of a thaw that is committed meanwhile whatever is read later knows.
    known, standing = frozen(conn), lineage.standing(conn, context.host_id)
    found, now = lineage.get(conn), lineage.incarnation(conn)
    if found.era is None and (kept is None or kept.mark == 0):
        era = token_hex(16)
        lineage.change(conn, era=era, incarnation=now)
        return None
    text = kept.text if kept is not None else _NO_JOURNAL
    doubt = standing.doubted and known
    if doubt is None:
        doubt = _doubt(conn, kept, found, now, standing)
        if doubt is not None:
            _freeze(conn, context, doubt, text, kept)
    return doubt


def _doubt(
    conn: Connection,
    kept: Entry | None,
    found: Lineage,
    now: str | None,
    standing: Standing,
) -> str | None:
    if not lineage.same(found.incarnation, now):
        return "the database was restored, copied or moved to another PostgreSQL"
    if standing.cleared is not None and _covers(standing.cleared, kept):
        return None
    if kept is None:
        if standing.journal is not None:
            return "this host's journal is gone from its data folder, so nobody can tell its age"
        if now is None and lineage.has_journals(conn):
            return "the database came from elsewhere: this data folder has never seen it"
        return None
    if kept.era != found.era:
        return "the database is not the one that this data folder was used with"
    if kept.mark > found.mark:
        return (
            "the database is older than this host knows it: it was put back from a copy, and "
            f"{kept.mark - found.mark} commits are missing"
        )
    return None


def _covers(cleared: str, kept: Entry | None) -> bool:
    """Whether what a person has thawed is this entry, or a later one of its era."""
    if kept is None:
        return cleared == _NO_JOURNAL
    era, _, mark = cleared.partition("@")
    return era == kept.era and mark.isdigit() and kept.mark <= int(mark)


def _freeze(conn: Connection, context: Context, doubt: str, text: str, kept: Entry | None) -> None:
    known = frozen(conn) is not None
    deploys.ensure_every(conn)
    every = deploys.lock_all(conn)[0]
    unknown = unknown_runs(conn, context.config.data)
    reason = f"{doubt}. Look at what runs where, then `leeroy thaw --all`"
    if unknown:
        listed = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        reason += f"; {len(unknown)} runs that it does not know are kept in data/runs: {listed}"
    if every.frozen_at is not None and every.frozen_by != WHO:
        reason += f"; before, {every.frozen_by} had frozen everything"
    pipeline, name = deploys.EVERY
    deploys.change(
        conn,
        pipeline,
        name,
        frozen_at=context.clock.now(),
        frozen_by=WHO,
        frozen_reason=reason,
        frozen_until=None,
    )
    house.note(conn, context.clock.now(), WHO, "freeze", "/*", reason)
    if not known:
        title = f"Leeroy on {context.host_name}: everything is frozen"
        alarms.add(conn, context.clock.now(), _listeners(conn, context), title, reason)
    lineage.stand(conn, context.host_id, doubted=text)
    # Numbers that builds of the lost time had are not given again: links, keys and artifacts of
    # those are still about.
    highest = max(kept.build if kept is not None else 0, _highest(context.config.data))
    if kept is None or kept.incarnation is not None:
        highest = max(highest, lineage.last_build(conn)) + _GAP
    if highest > lineage.last_build(conn):
        lineage.skip_builds(conn, highest)
    log.error("everything is frozen: %s", reason)


def _listeners(conn: Connection, context: Context) -> list[str]:
    """Everybody who is told when a deploy waits for people; an author is nobody here."""
    every = list(context.house)
    for kept in house.shelf(conn).values():
        if kept.present and kept.text is not None:
            with contextlib.suppress(ConfigError):  # what an older version accepted
                every += pipelines.parse(kept.text, name=kept.name, file=kept.name).notify
    asked = (State.deploy_pending, State.interrupted)
    return [t.to for t in every if t.to != "author" and any(t.hears(state) for state in asked)]


def _highest(data: Path) -> int:
    """The highest number of a build that left something in the data folder."""
    highest = 0
    for kind in ("runs", "artifacts", "workspaces"):
        with contextlib.suppress(FileNotFoundError):
            for path in (data / kind).iterdir():
                number = path.name.partition("-")[0]
                if number.isdigit():
                    highest = max(highest, int(number))
    return highest


def unknown_runs(conn: Connection, data: Path) -> list[str]:
    """The run directories that the database knows nothing of."""
    try:
        names = sorted(path.name for path in (data / "runs").iterdir())
    except FileNotFoundError:
        return []
    return [n for n in names if n[:1].isdigit() and steps.of_run(conn, n) is None]


def frozen(conn: Connection) -> str | None:
    """Why the guard has frozen everything; None when it has not."""
    every = deploys.environment(conn, *deploys.EVERY)
    if every is None or every.frozen_at is None or every.frozen_by != WHO:
        return None
    return every.frozen_reason or "the database is not to be trusted"


def thawed(conn: Connection) -> None:
    """A person has looked: a new era begins with the database as it is."""
    lineage.clear(conn)
    lineage.change(conn, era=token_hex(16), incarnation=lineage.incarnation(conn))
