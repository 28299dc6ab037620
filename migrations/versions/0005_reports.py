"""
What forges are told: statuses, comments, deployments; and the tokens they no longer know.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reports",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("marker", sa.Text(), nullable=False),
        sa.Column("remote_id", sa.Text()),
        sa.Column("began", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("wanted_at", sa.BigInteger(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=False),
        sa.Column("claimed_by", sa.Text()),
        sa.Column("claimed_until", sa.BigInteger()),
        sa.Column("last_error", sa.Text()),
        sa.Column("sent_at", sa.BigInteger()),
        sa.CheckConstraint(
            "kind IN ('status', 'comment', 'deployment', 'close')", name="ck_reports_kind"
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'sent', 'dead', 'obsolete')", name="ck_reports_state"
        ),
        sa.CheckConstraint("(state = 'sent') = (sent_at IS NOT NULL)", name="ck_reports_sent"),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name="fk_reports_build", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
        sa.UniqueConstraint("pipeline", "kind", "subject", "context", name="uq_reports_once"),
        sqlite_autoincrement=True,
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index("ix_reports_build_id", "reports", ["build_id"])
    op.create_index(
        "ix_reports_waiting",
        "reports",
        ["next_try_at"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_table(
        "dead_tokens",
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_dead_tokens"),
    )
