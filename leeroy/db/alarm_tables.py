"""
The table of alarms: what people are told that is no move of a build.

A row for each target, like in `outbox`; the words are those of the moment.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Integer, String, Table, Text

from leeroy.db.tables import BigId, Instant, metadata

alarms = Table(
    "alarms",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("accepted", Text, nullable=False),
    Column("claimed_by", Text),
    Column("next_try_at", Instant, nullable=False),
    Column("last_error", Text),
    Column("created_at", Instant, nullable=False),
    Column("sent_at", Instant),
    CheckConstraint("state IN ('waiting', 'sent', 'dead', 'obsolete')", name="state"),
    sqlite_autoincrement=True,
)
