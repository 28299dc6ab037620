"""
The tables, as SQLAlchemy Core sees them.

The schema itself makes an illegal history impossible: `events` refers to its
own previous line and to the table of legal moves, and a build's row refers to
its last event (checked at the commit), so no statement can put a build into a
state that its recorded moves do not lead to.  Triggers (made by the
migrations) keep events and legal moves from being changed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from leeroy.terms import HOLDING, OVER, Kind, Move, State, StepState

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """A moment, stored as whole microseconds since 1970 UTC: the same on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


def _one_of(column: str, words: Any) -> str:
    listed = ", ".join(f"'{word}'" for word in words)
    return f"{column} IN ({listed})"


BigId = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite counts up by itself only in an INTEGER PRIMARY KEY."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

builds = Table(
    "builds",
    metadata,
    # said aloud: a column with a foreign key does not count up by itself
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("place", BigInteger, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("pipeline_text", Text, nullable=False),
    Column("repository", Text),
    Column("branch", Text),
    Column("tag", Text),
    Column("commit", Text),
    Column("default_branch", Text),
    Column("pull_request", BigInteger),
    Column("fork", Boolean(create_constraint=False), nullable=False),
    Column("message", Text),
    Column("author", Text),
    Column("author_email", Text),
    Column("trigger", Text, nullable=False),
    Column("source", BigInteger),
    Column("deploys", Boolean(create_constraint=False), nullable=False),
    Column("deploy_to", Text),
    Column("without_grace", Boolean(create_constraint=False), nullable=False),
    Column("approved_by", Text),
    Column("state", String(16), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("host", Text),
    Column("environment", Text),
    Column("slot", Integer),
    Column("requeues", Integer, nullable=False),
    Column("due_at", Instant),
    Column("stop_at", Instant),
    Column("stop_actor", Text),
    Column("stop_reason", Text),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("forge", Text),
    Column("base_branch", Text),
    Column("head_repository", Text),
    Column("pull_request_ref", Text),
    ForeignKeyConstraint(
        ["id", "version", "state"],
        ["events.build_id", "events.seq", "events.to_state"],
        name="fk_builds_last_event",
        deferrable=True,
        initially="DEFERRED",
        use_alter=True,
    ),
    CheckConstraint(_one_of("state", State), name="state"),
    CheckConstraint(
        f"({_one_of('state', sorted(OVER))}) = (finished_at IS NOT NULL)", name="finished"
    ),
    CheckConstraint(
        f"state NOT IN ('deploy_pending', {', '.join(repr(str(s)) for s in sorted(HOLDING))})"
        " OR environment IS NOT NULL",
        name="environment",
    ),
    CheckConstraint("requeues BETWEEN 0 AND 3", name="requeues"),
    CheckConstraint("branch IS NULL OR tag IS NULL", name="ref"),
    CheckConstraint("state <> 'building' OR slot IS NOT NULL", name="slot"),
    Index("ix_builds_state_id", "state", "id"),
    Index("ix_builds_pipeline_id", "pipeline", "id"),
    Index(
        "ix_builds_pull_request",
        "pipeline",
        "pull_request",
        sqlite_where=text("pull_request IS NOT NULL"),
        postgresql_where=text("pull_request IS NOT NULL"),
    ),
    Index(
        "ix_builds_due",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
    Index(
        "uq_builds_holder",
        "pipeline",
        "environment",
        unique=True,
        sqlite_where=text("state IN ('deploying', 'interrupted')"),
        postgresql_where=text("state IN ('deploying', 'interrupted')"),
    ),
)

legal_moves = Table(
    "legal_moves",
    metadata,
    Column("move", String(16), nullable=False),
    Column("from_state", String(16), nullable=False),
    Column("to_state", String(16), nullable=False),
    PrimaryKeyConstraint("move", "from_state", "to_state"),
)

events = Table(
    "events",
    metadata,
    Column("build_id", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("prev_seq", BigInteger),
    Column("move", String(16), nullable=False),
    Column("from_state", String(16)),
    Column("to_state", String(16), nullable=False),
    Column("environment", Text),
    Column("actor", Text, nullable=False),
    Column("reason", Text),
    Column("at", Instant, nullable=False),
    PrimaryKeyConstraint("build_id", "seq"),
    UniqueConstraint("build_id", "seq", "to_state", name="uq_events_to"),
    ForeignKeyConstraint(["build_id"], ["builds.id"], name="fk_events_build", ondelete="CASCADE"),
    ForeignKeyConstraint(
        ["build_id", "prev_seq", "from_state"],
        ["events.build_id", "events.seq", "events.to_state"],
        name="fk_events_previous",
    ),
    ForeignKeyConstraint(
        ["move", "from_state", "to_state"],
        ["legal_moves.move", "legal_moves.from_state", "legal_moves.to_state"],
        name="fk_events_legal",
    ),
    CheckConstraint(_one_of("move", Move), name="move"),
    CheckConstraint("seq >= 1 AND (seq = 1) = (from_state IS NULL)", name="first"),
    CheckConstraint("(seq = 1) = (prev_seq IS NULL)", name="prev"),
    CheckConstraint("prev_seq IS NULL OR prev_seq = seq - 1", name="gapless"),
    CheckConstraint("(seq = 1) = (move = 'accept')", name="accept"),
    CheckConstraint("seq <> 1 OR to_state = 'queued'", name="starts_queued"),
)

steps = Table(
    "steps",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("build_id", BigInteger, ForeignKey("builds.id", ondelete="CASCADE"), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("run_id", Text, unique=True),
    Column("host", Text),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("reason", Text),
    Column("raw_bytes", BigInteger),
    Column("dropped_bytes", BigInteger),
    Column("sha256", String(64)),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("begun_seq", BigInteger),
    Column("ended_seq", BigInteger),
    Column("given", Text),
    UniqueConstraint(
        "build_id", "stage", "name", "environment", "attempt", name="uq_steps_attempt"
    ),
    CheckConstraint(_one_of("state", StepState), name="state"),
    CheckConstraint("exit_code IS NULL OR signal IS NULL", name="end"),
    CheckConstraint("state <> 'passed' OR exit_code = 0", name="passed"),
    CheckConstraint("state <> 'running' OR run_id IS NOT NULL", name="running"),
    Index(
        "ix_steps_running",
        "host",
        sqlite_where=text("state = 'running'"),
        postgresql_where=text("state = 'running'"),
    ),
    sqlite_autoincrement=True,
)

deploys = Table(
    "deploys",
    metadata,
    Column("build_id", BigInteger, ForeignKey("builds.id", ondelete="CASCADE"), nullable=False),
    Column("environment", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("announced_seq", BigInteger),
    Column("announced_at", Instant),
    Column("watcher", Text),
    Column("heard_at", Instant),
    Column("heard_by", Text),
    Column("deploy_at", Instant),
    Column("approved_at", Instant),
    Column("approved_by", Text),
    Column("held_at", Instant),
    Column("held_by", Text),
    Column("held_reason", Text),
    Column("withdrawals", Integer, nullable=False),
    Column("started_at", Instant),
    Column("ended_at", Instant),
    Column("outcome", String(16)),
    PrimaryKeyConstraint("build_id", "environment"),
    CheckConstraint("withdrawals BETWEEN 0 AND 3", name="withdrawals"),
)

environments = Table(
    "environments",
    metadata,
    Column("pipeline", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("lock", Text, nullable=False),
    Column("runs_build", BigInteger),
    Column("runs_place", BigInteger),
    Column("runs_commit", Text),
    Column("runs_at", Instant),
    Column("holder", BigInteger),
    Column("frozen_at", Instant),
    Column("frozen_by", Text),
    Column("frozen_reason", Text),
    Column("frozen_until", Instant),
    # Of no use: what a person deploys passes every freeze.  It stays because a host of an older
    # version, which shares the database during an update, still writes it.
    Column("frozen_except", BigInteger),
    PrimaryKeyConstraint("pipeline", "name"),
    Index("ix_environments_lock", "lock"),
)

hosts = Table(
    "hosts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("beat_at", Instant, nullable=False),
    Column("stopped_at", Instant),
    Column("journal", Text),
    Column("doubted", Text),
    Column("cleared", Text),
)

lineage = Table(
    "lineage",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("era", Text),
    Column("mark", BigInteger, nullable=False),
    Column("incarnation", Text),
    CheckConstraint("id = 1", name="one"),
)

chronicle = Table(
    "chronicle",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("build_id", BigInteger, ForeignKey("builds.id", ondelete="CASCADE"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("environment", Text),
    Column("who", Text, nullable=False),
    Column("said", Text),
    Column("number", BigInteger),
    Column("at", Instant, nullable=False),
    CheckConstraint(_one_of("kind", Kind), name="kind"),
    Index("ix_chronicle_build_id_id", "build_id", "id"),
    sqlite_autoincrement=True,
)

schedules = Table(
    "schedules",
    metadata,
    Column("pipeline", Text, nullable=False),
    Column("schedule", Text, nullable=False),
    Column("seen_to", Instant, nullable=False),
    PrimaryKeyConstraint("pipeline", "schedule"),
)

pipelines = Table(
    "pipelines",
    metadata,
    Column("name", Text, primary_key=True),
    Column("text", Text),
    Column("mistakes", Text),
    Column("changed_at", Instant, nullable=False),
    Column("present", Boolean(create_constraint=False), nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("build_id", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("target", Text, nullable=False),
    Column("urgent", Boolean(create_constraint=False), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("accepted", Text, nullable=False),
    Column("claimed_by", Text),
    Column("next_try_at", Instant, nullable=False),
    Column("last_error", Text),
    Column("created_at", Instant, nullable=False),
    Column("sent_at", Instant),
    UniqueConstraint("build_id", "seq", "target", name="uq_outbox_once"),
    ForeignKeyConstraint(
        ["build_id", "seq"],
        ["events.build_id", "events.seq"],
        name="fk_outbox_event",
        ondelete="CASCADE",
    ),
    CheckConstraint(_one_of("state", ("waiting", "sent", "dead", "obsolete")), name="state"),
    CheckConstraint("(state = 'sent') = (sent_at IS NOT NULL)", name="sent"),
    Index(
        "ix_outbox_waiting",
        "next_try_at",
        sqlite_where=text("state = 'waiting'"),
        postgresql_where=text("state = 'waiting'"),
    ),
    sqlite_autoincrement=True,
)

reports = Table(
    "reports",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject", Text, nullable=False),
    Column("context", Text, nullable=False),
    Column("build_id", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("marker", Text, nullable=False),
    Column("remote_id", Text),
    Column("began", Boolean(create_constraint=False), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("wanted_at", Instant, nullable=False),
    Column("next_try_at", Instant, nullable=False),
    Column("claimed_by", Text),
    Column("claimed_until", Instant),
    Column("last_error", Text),
    Column("sent_at", Instant),
    UniqueConstraint("pipeline", "kind", "subject", "context", name="uq_reports_once"),
    ForeignKeyConstraint(["build_id"], ["builds.id"], name="fk_reports_build", ondelete="CASCADE"),
    CheckConstraint(_one_of("kind", ("status", "comment", "deployment", "close")), name="kind"),
    CheckConstraint(_one_of("state", ("waiting", "sent", "dead", "obsolete")), name="state"),
    CheckConstraint("(state = 'sent') = (sent_at IS NOT NULL)", name="sent"),
    Index("ix_reports_build_id", "build_id"),
    Index(
        "ix_reports_waiting",
        "next_try_at",
        sqlite_where=text("state = 'waiting'"),
        postgresql_where=text("state = 'waiting'"),
    ),
    sqlite_autoincrement=True,
)

dead_tokens = Table(
    "dead_tokens",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("said", Text, nullable=False),
    Column("at", Instant, nullable=False),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("step_id", BigInteger, ForeignKey("steps.id", ondelete="CASCADE"), nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("stop", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("step_id", "start"),
    CheckConstraint("start >= 0 AND stop >= start", name="span"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", String(16), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    CheckConstraint(_one_of("role", ("viewer", "operator", "admin")), name="role"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text),
    sqlite_autoincrement=True,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("forge", String(16), nullable=False),
    Column("id", Text, nullable=False),
    Column("builds", Text, nullable=False),
    Column("reason", Text),
    Column("at", Instant, nullable=False),
    Column("event", Text),
    Column("about", Text),
    Column("answers", Text),
    PrimaryKeyConstraint("forge", "id"),
    Index(
        "ix_deliveries_about",
        "about",
        sqlite_where=text("about IS NOT NULL"),
        postgresql_where=text("about IS NOT NULL"),
    ),
)

settings = Table(
    "settings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("build_id", BigInteger, ForeignKey("builds.id", ondelete="CASCADE"), nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    PrimaryKeyConstraint("build_id", "path"),
    CheckConstraint("size >= 0", name="size"),
)
