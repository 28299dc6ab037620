"""
What each build left for its deploys: every file with its size and hash.

Builds of before have no rows, nor have those of an older server that still
runs beside this schema: their files are deployed as they are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "artifacts",
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.CheckConstraint("size >= 0", name=op.f("ck_artifacts_size")),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name=op.f("fk_artifacts_build_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("build_id", "path", name=op.f("pk_artifacts")),
    )
