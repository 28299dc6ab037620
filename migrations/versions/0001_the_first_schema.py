# ruff: noqa: E501
"""
The first schema.

Moments are whole microseconds since 1970 UTC.  The triggers at the end keep
events and the table of legal moves as they are: an event goes only together
with its build.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


LEGAL_MOVES = (
    ("start", "queued", "building"),
    ("requeue", "building", "queued"),
    ("pass", "building", "passed"),
    ("fail", "building", "failed"),
    ("fail", "deploying", "deploy_failed"),
    ("announce", "passed", "deploy_pending"),
    ("announce", "deploying", "deploy_pending"),
    ("announce", "deploy_pending", "deploy_pending"),
    ("hold", "deploy_pending", "deploy_pending"),
    ("deploy", "deploy_pending", "deploying"),
    ("withdraw", "deploying", "deploy_pending"),
    ("finish", "passed", "done"),
    ("finish", "deploying", "done"),
    ("lose", "deploying", "interrupted"),
    ("resolve_done", "interrupted", "done"),
    ("resolve_done", "interrupted", "deploy_pending"),
    ("resolve_failed", "interrupted", "deploy_failed"),
    ("resolve_again", "interrupted", "deploy_pending"),
    ("cancel", "queued", "cancelled"),
    ("cancel", "passed", "cancelled"),
    ("cancel", "deploy_pending", "cancelled"),
    ("cancel", "building", "cancelled"),
    ("cancel", "deploying", "cancelled"),
    ("supersede", "queued", "superseded"),
    ("supersede", "passed", "superseded"),
    ("supersede", "deploy_pending", "superseded"),
)

NO_CHANGE = "history is never changed: events and legal moves are only ever added"


def upgrade() -> None:
    tables()
    if op.get_bind().dialect.name == "sqlite":
        sqlite_triggers()
    else:
        postgres_triggers()


def tables() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "builds",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("pipeline_text", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("tag", sa.Text(), nullable=True),
        sa.Column("commit", sa.Text(), nullable=True),
        sa.Column("default_branch", sa.Text(), nullable=True),
        sa.Column("pull_request", sa.BigInteger(), nullable=True),
        sa.Column("fork", sa.Boolean(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("author", sa.Text(), nullable=True),
        sa.Column("author_email", sa.Text(), nullable=True),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("source", sa.BigInteger(), nullable=True),
        sa.Column("deploys", sa.Boolean(), nullable=False),
        sa.Column("deploy_to", sa.Text(), nullable=True),
        sa.Column("without_grace", sa.Boolean(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("slot", sa.Integer(), nullable=True),
        sa.Column("requeues", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("stop_at", sa.BigInteger(), nullable=True),
        sa.Column("stop_actor", sa.Text(), nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(state IN ('cancelled', 'deploy_failed', 'done', 'failed', 'superseded')) = (finished_at IS NOT NULL)",
            name=op.f("ck_builds_finished"),
        ),
        sa.CheckConstraint("state <> 'building' OR slot IS NOT NULL", name=op.f("ck_builds_slot")),
        sa.CheckConstraint(
            "state IN ('queued', 'building', 'passed', 'deploy_pending', 'deploying', 'done', 'failed', 'deploy_failed', 'cancelled', 'superseded', 'interrupted')",
            name=op.f("ck_builds_state"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('deploy_pending', 'deploying', 'interrupted') OR environment IS NOT NULL",
            name=op.f("ck_builds_environment"),
        ),
        sa.CheckConstraint("branch IS NULL OR tag IS NULL", name=op.f("ck_builds_ref")),
        sa.CheckConstraint("requeues BETWEEN 0 AND 3", name=op.f("ck_builds_requeues")),
        sa.ForeignKeyConstraint(
            ["id", "version", "state"],
            ["events.build_id", "events.seq", "events.to_state"],
            name="fk_builds_last_event",
            initially="DEFERRED",
            deferrable=True,
            use_alter=True,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_builds")),
    )
    with op.batch_alter_table("builds", schema=None) as batch_op:
        batch_op.create_index(
            "ix_builds_due",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.create_index("ix_builds_pipeline_id", ["pipeline", "id"], unique=False)
        batch_op.create_index("ix_builds_state_id", ["state", "id"], unique=False)
        batch_op.create_index(
            "uq_builds_holder",
            ["pipeline", "environment"],
            unique=True,
            sqlite_where=sa.text("state IN ('deploying', 'interrupted')"),
            postgresql_where=sa.text("state IN ('deploying', 'interrupted')"),
        )

    op.create_table(
        "deliveries",
        sa.Column("forge", sa.String(length=16), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("builds", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("forge", "id", name=op.f("pk_deliveries")),
    )
    op.create_table(
        "environments",
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("lock", sa.Text(), nullable=False),
        sa.Column("runs_build", sa.BigInteger(), nullable=True),
        sa.Column("runs_place", sa.BigInteger(), nullable=True),
        sa.Column("runs_commit", sa.Text(), nullable=True),
        sa.Column("runs_at", sa.BigInteger(), nullable=True),
        sa.Column("holder", sa.BigInteger(), nullable=True),
        sa.Column("frozen_at", sa.BigInteger(), nullable=True),
        sa.Column("frozen_by", sa.Text(), nullable=True),
        sa.Column("frozen_reason", sa.Text(), nullable=True),
        sa.Column("frozen_until", sa.BigInteger(), nullable=True),
        sa.Column("frozen_except", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("pipeline", "name", name=op.f("pk_environments")),
    )
    with op.batch_alter_table("environments", schema=None) as batch_op:
        batch_op.create_index("ix_environments_lock", ["lock"], unique=False)

    op.create_table(
        "hosts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hosts")),
    )
    op.create_table(
        "legal_moves",
        sa.Column("move", sa.String(length=16), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=False),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("move", "from_state", "to_state", name=op.f("pk_legal_moves")),
    )
    op.create_table(
        "pipelines",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("mistakes", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pipelines")),
    )
    op.create_table(
        "settings",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_settings")),
    )
    op.create_table(
        "tokens",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'admin')", name=op.f("ck_tokens_role")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tokens")),
        sa.UniqueConstraint("sha256", name=op.f("uq_tokens_sha256")),
    )
    op.create_table(
        "deploys",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("announced_seq", sa.BigInteger(), nullable=True),
        sa.Column("announced_at", sa.BigInteger(), nullable=True),
        sa.Column("watcher", sa.Text(), nullable=True),
        sa.Column("heard_at", sa.BigInteger(), nullable=True),
        sa.Column("heard_by", sa.Text(), nullable=True),
        sa.Column("deploy_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("held_at", sa.BigInteger(), nullable=True),
        sa.Column("held_by", sa.Text(), nullable=True),
        sa.Column("held_reason", sa.Text(), nullable=True),
        sa.Column("withdrawals", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.CheckConstraint("withdrawals BETWEEN 0 AND 3", name=op.f("ck_deploys_withdrawals")),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name=op.f("fk_deploys_build_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("build_id", "environment", name=op.f("pk_deploys")),
    )
    op.create_table(
        "events",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("prev_seq", sa.BigInteger(), nullable=True),
        sa.Column("move", sa.String(length=16), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=True),
        sa.Column("to_state", sa.String(length=16), nullable=False),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(seq = 1) = (move = 'accept')", name=op.f("ck_events_accept")),
        sa.CheckConstraint(
            "move IN ('accept', 'start', 'requeue', 'pass', 'fail', 'announce', 'hold', 'deploy', 'withdraw', 'finish', 'lose', 'resolve_done', 'resolve_failed', 'resolve_again', 'cancel', 'supersede')",
            name=op.f("ck_events_move"),
        ),
        sa.CheckConstraint("seq <> 1 OR to_state = 'queued'", name=op.f("ck_events_starts_queued")),
        sa.CheckConstraint("(seq = 1) = (prev_seq IS NULL)", name=op.f("ck_events_prev")),
        sa.CheckConstraint(
            "prev_seq IS NULL OR prev_seq = seq - 1", name=op.f("ck_events_gapless")
        ),
        sa.CheckConstraint(
            "seq >= 1 AND (seq = 1) = (from_state IS NULL)", name=op.f("ck_events_first")
        ),
        sa.ForeignKeyConstraint(
            ["build_id", "prev_seq", "from_state"],
            ["events.build_id", "events.seq", "events.to_state"],
            name="fk_events_previous",
        ),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name="fk_events_build", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["move", "from_state", "to_state"],
            ["legal_moves.move", "legal_moves.from_state", "legal_moves.to_state"],
            name="fk_events_legal",
        ),
        sa.PrimaryKeyConstraint("build_id", "seq", name=op.f("pk_events")),
        sa.UniqueConstraint("build_id", "seq", "to_state", name="uq_events_to"),
    )
    op.create_table(
        "steps",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("raw_bytes", sa.BigInteger(), nullable=True),
        sa.Column("dropped_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state <> 'passed' OR exit_code = 0", name=op.f("ck_steps_passed")),
        sa.CheckConstraint(
            "state <> 'running' OR run_id IS NOT NULL", name=op.f("ck_steps_running")
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'running', 'passed', 'failed', 'cancelled', 'interrupted')",
            name=op.f("ck_steps_state"),
        ),
        sa.CheckConstraint("exit_code IS NULL OR signal IS NULL", name=op.f("ck_steps_end")),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name=op.f("fk_steps_build_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_steps")),
        sa.UniqueConstraint(
            "build_id", "stage", "name", "environment", "attempt", name="uq_steps_attempt"
        ),
        sa.UniqueConstraint("run_id", name=op.f("uq_steps_run_id")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("steps", schema=None) as batch_op:
        batch_op.create_index(
            "ix_steps_running",
            ["host"],
            unique=False,
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        )

    op.create_table(
        "log_chunks",
        sa.Column("step_id", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("stop", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("start >= 0 AND stop >= start", name=op.f("ck_log_chunks_span")),
        sa.ForeignKeyConstraint(
            ["step_id"], ["steps.id"], name=op.f("fk_log_chunks_step_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("step_id", "start", name=op.f("pk_log_chunks")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.Text(), nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("next_try_at", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(state = 'sent') = (sent_at IS NOT NULL)", name=op.f("ck_outbox_sent")),
        sa.CheckConstraint(
            "state IN ('waiting', 'sent', 'dead', 'obsolete')", name=op.f("ck_outbox_state")
        ),
        sa.ForeignKeyConstraint(
            ["build_id", "seq"],
            ["events.build_id", "events.seq"],
            name="fk_outbox_event",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("build_id", "seq", "target", name="uq_outbox_once"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(
            "ix_outbox_waiting",
            ["next_try_at"],
            unique=False,
            sqlite_where=sa.text("state = 'waiting'"),
            postgresql_where=sa.text("state = 'waiting'"),
        )
    if op.get_bind().dialect.name != "sqlite":
        # SQLite has it in the table already; elsewhere it has to wait for `events`.
        op.create_foreign_key(
            "fk_builds_last_event",
            "builds",
            "events",
            ["id", "version", "state"],
            ["build_id", "seq", "to_state"],
            deferrable=True,
            initially="DEFERRED",
        )
    moves = sa.table(
        "legal_moves", sa.column("move"), sa.column("from_state"), sa.column("to_state")
    )
    op.bulk_insert(moves, [{"move": m, "from_state": a, "to_state": b} for m, a, b in LEGAL_MOVES])


def sqlite_triggers() -> None:
    still_there = "WHEN EXISTS (SELECT 1 FROM builds WHERE id = OLD.build_id)"
    for name, when, condition in (
        ("events_no_update", "UPDATE ON events", ""),
        ("events_no_delete", "DELETE ON events", still_there),
        ("legal_moves_no_insert", "INSERT ON legal_moves", ""),
        ("legal_moves_no_update", "UPDATE ON legal_moves", ""),
        ("legal_moves_no_delete", "DELETE ON legal_moves", ""),
    ):
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {when} {condition} "
            f"BEGIN SELECT RAISE(ABORT, '{NO_CHANGE}'); END"
        )


def postgres_triggers() -> None:
    refuse = f"RAISE EXCEPTION '{NO_CHANGE}' USING ERRCODE = 'integrity_constraint_violation';"
    op.execute(
        "CREATE FUNCTION leeroy_no_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {refuse} END $$"
    )
    op.execute(
        "CREATE FUNCTION leeroy_events_with_build() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF EXISTS (SELECT 1 FROM builds WHERE id = OLD.build_id) "
        f"THEN {refuse} END IF; RETURN OLD; END $$"
    )
    for name, when, each, function in (
        ("events_no_update", "UPDATE ON events", "ROW", "leeroy_no_change"),
        ("events_no_delete", "DELETE ON events", "ROW", "leeroy_events_with_build"),
        ("events_no_truncate", "TRUNCATE ON events", "STATEMENT", "leeroy_no_change"),
        (
            "legal_moves_no_change",
            "INSERT OR UPDATE OR DELETE OR TRUNCATE ON legal_moves",
            "STATEMENT",
            "leeroy_no_change",
        ),
    ):
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {when} FOR EACH {each} EXECUTE FUNCTION {function}()"
        )
