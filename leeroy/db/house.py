"""The rows around the builds: hosts, pipelines in force, deliveries, tokens, audit, settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, bindparam, select, update

from leeroy.db import upserts
from leeroy.db.engine import touch
from leeroy.db.tables import audit, deliveries, hosts, pipelines, settings, tokens
from leeroy.terms import Role

_DELIVERY = select(deliveries.c.builds, deliveries.c.reason, deliveries.c.answers).where(
    deliveries.c.forge == bindparam("forge"), deliveries.c.id == bindparam("id")
)
_ON_SHELF = select(pipelines.c.name, pipelines.c.text, pipelines.c.mistakes, pipelines.c.present)
_SHELF = _ON_SHELF.order_by(pipelines.c.name)
_SHELVED = _ON_SHELF.where(pipelines.c.name == bindparam("name"))
_LAST_BEAT = select(sa.func.max(hosts.c.beat_at))
_ADD_DELIVERY = deliveries.insert()
_MORE = (
    update(deliveries)
    .where(deliveries.c.forge == bindparam("f"), deliveries.c.id == bindparam("i"))
    .values(builds=bindparam("b"), reason=bindparam("r"), answers=bindparam("a"))
)


@dataclass(frozen=True)
class Shelved:
    """A pipeline as the database knows it: its last good text, and what is wrong with its file."""

    name: str
    text: str | None
    mistakes: str | None
    present: bool


@dataclass(frozen=True)
class Taken:
    """
    A delivery that came: its builds, the reason where it made none, and who made what of it.

    `answers` are the builds by pipeline; None of a delivery that was stored
    before that was written down.
    """

    builds: list[int]
    reason: str | None
    answers: dict[str, list[int]] | None

    def seen_by(self, pipeline: str) -> bool:
        """Whether the pipeline has had it."""
        return self.answers is None or pipeline in self.answers


@dataclass(frozen=True)
class Token:
    """A token's name and role; of the token itself only a hash is stored."""

    name: str
    role: Role
    sha256: str
    created_at: datetime


def _upsert(conn: Connection, table: sa.Table, keys: tuple[str, ...], row: dict[str, Any]) -> None:
    statement = upserts.insert(conn, table).values(**row)
    changes = {name: value for name, value in row.items() if name not in keys}
    conn.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=changes))


def beat(conn: Connection, host_id: str, name: str, boot_id: str, now: datetime) -> datetime | None:
    """Say that a host is alive; returns when it last said so."""
    before = conn.execute(select(hosts.c.beat_at).where(hosts.c.id == host_id)).scalar()
    row = {"id": host_id, "name": name, "boot_id": boot_id, "beat_at": now}
    _upsert(conn, hosts, ("id",), row)
    return before


def last_end(conn: Connection, host_id: str, boot_id: str) -> str:
    """
    How a host's server before this one ended: first (none), stop, crash, and with its host.

    That is a shutdown when the server had been stopped in order, else a reboot.
    """
    row = conn.execute(
        select(hosts.c.stopped_at, hosts.c.boot_id).where(hosts.c.id == host_id)
    ).first()
    if row is None:
        return "first"
    if row.stopped_at is not None:
        return "stop" if row.boot_id == boot_id else "shutdown"
    return "crash" if row.boot_id == boot_id else "reboot"


def stopped(conn: Connection, host_id: str, at: datetime | None) -> None:
    """A host's server stops in order (None: it runs)."""
    conn.execute(update(hosts).where(hosts.c.id == host_id).values(stopped_at=at))


def shelve(
    conn: Connection,
    name: str,
    now: datetime,
    *,
    text: str | None,
    mistakes: str | None,
    present: bool = True,
) -> None:
    """Write down a pipeline file as it was seen; without *text* its last good one stays."""
    row: dict[str, Any] = {
        "name": name,
        "mistakes": mistakes,
        "changed_at": now,
        "present": present,
    }
    if text is not None:
        row["text"] = text
    _upsert(conn, pipelines, ("name",), row)
    touch(conn, "builds")


def shelf(conn: Connection) -> dict[str, Shelved]:
    """Every pipeline that was ever seen, by name."""
    return {row.name: Shelved(*row) for row in conn.execute(_SHELF)}


def shelved(conn: Connection, name: str) -> Shelved | None:
    """One pipeline; None when it was never seen."""
    row = conn.execute(_SHELVED, {"name": name}).first()
    return None if row is None else Shelved(*row)


def delivery(conn: Connection, forge: str, delivery_id: str, *, lock: bool = False) -> Taken | None:
    """A delivery as it is stored, and with *lock* nobody else's to change; None: never seen."""
    statement = _DELIVERY.with_for_update() if lock else _DELIVERY
    row = conn.execute(statement, {"forge": forge, "id": delivery_id}).first()
    return None if row is None else _taken(row)


def _taken(row: Any) -> Taken:
    answers = None if row.answers is None else json.loads(row.answers)
    return Taken(json.loads(row.builds), row.reason, answers)


def add_delivery(
    conn: Connection,
    forge: str,
    delivery_id: str,
    now: datetime,
    taken: Taken,
    *,
    event: str | None = None,
    about: str | None = None,
) -> None:
    """Write down a delivery with its answer, in the transaction of its builds."""
    conn.execute(
        _ADD_DELIVERY,
        {
            "forge": forge,
            "id": delivery_id,
            "at": now,
            "builds": json.dumps(taken.builds),
            "reason": taken.reason,
            "event": event,
            "about": about,
            "answers": None if taken.answers is None else json.dumps(taken.answers),
        },
    )


def change_delivery(conn: Connection, forge: str, delivery_id: str, taken: Taken) -> None:
    """Another webhook brought the same delivery, for other pipelines."""
    row = {
        "f": forge,
        "i": delivery_id,
        "b": json.dumps(taken.builds),
        "r": taken.reason,
        "a": json.dumps(taken.answers),
    }
    conn.execute(_MORE, row)


def deliveries_about(conn: Connection, forge: str, about: str) -> list[tuple[str, Taken]]:
    """Each delivery about the same thing, with its event, first to last."""
    columns = (deliveries.c.event, deliveries.c.builds, deliveries.c.reason, deliveries.c.answers)
    statement = select(*columns).where(deliveries.c.forge == forge, deliveries.c.about == about)
    return [(row.event, _taken(row)) for row in conn.execute(statement.order_by(deliveries.c.at))]


def alone(conn: Connection, what: str) -> None:
    """From here to its end, only this transaction decides about *what*."""
    if conn.dialect.name != "sqlite":  # whose writers are alone anyway
        conn.execute(select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(what, 0))))


def last_delivery(conn: Connection) -> datetime | None:
    """When the last delivery came."""
    return conn.execute(select(sa.func.max(deliveries.c.at))).scalar()


def setting(conn: Connection, key: str) -> str | None:
    """A setting Leeroy made for itself."""
    return conn.execute(select(settings.c.value).where(settings.c.key == key)).scalar()


def set_setting(conn: Connection, key: str, value: str) -> None:
    """Keep a setting."""
    _upsert(conn, settings, ("key",), {"key": key, "value": value})


def add_token(conn: Connection, name: str, role: Role, sha256: str, now: datetime) -> None:
    """Store a token's hash under a name; raises IntegrityError when the name is taken."""
    conn.execute(
        tokens.insert(), {"name": name, "role": str(role), "sha256": sha256, "created_at": now}
    )


def remove_token(conn: Connection, name: str) -> bool:
    """Forget a token; False means there was none of that name."""
    return conn.execute(sa.delete(tokens).where(tokens.c.name == name)).rowcount == 1


def all_tokens(conn: Connection) -> list[Token]:
    """Every token, by name."""
    statement = select(tokens).order_by(tokens.c.name)
    return [
        Token(row.name, Role(row.role), row.sha256, row.created_at)
        for row in conn.execute(statement)
    ]


def note(
    conn: Connection, now: datetime, actor: str, act: str, subject: str, detail: str | None = None
) -> None:
    """Add a line to the audit: what a person did that is no move of a build."""
    row = {"at": now, "actor": actor, "act": act, "subject": subject, "detail": detail}
    conn.execute(audit.insert(), row)


def notes(conn: Connection, limit: int = 100) -> list[dict[str, Any]]:
    """The newest lines of the audit."""
    statement = select(audit).order_by(audit.c.id.desc()).limit(limit)
    return [dict(row._mapping) for row in conn.execute(statement)]


def pretend_seen(conn: Connection, host_id: str, at: datetime) -> None:
    """Set when a host was last seen (a planned stop counts as seen)."""
    conn.execute(update(hosts).where(hosts.c.id == host_id).values(beat_at=at))


def last_beat(conn: Connection) -> datetime | None:
    """When any host last said that it is alive."""
    return conn.execute(_LAST_BEAT).scalar()


def host_name(conn: Connection, host_id: str | None) -> str | None:
    """The name of a host for people."""
    if host_id is None:
        return None
    name = conn.execute(select(hosts.c.name).where(hosts.c.id == host_id)).scalar()
    return host_id if name is None else str(name)
