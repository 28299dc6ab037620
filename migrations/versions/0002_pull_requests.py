"""
Where a build came from: its forge, and what is known of its pull request.

Every column may be empty: builds and deliveries of before have nothing in
them, nor have those of an older server that still runs beside this schema.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("forge", "base_branch", "head_repository", "pull_request_ref"):
        op.add_column("builds", sa.Column(column, sa.Text(), nullable=True))
    for column in ("event", "about"):
        op.add_column("deliveries", sa.Column(column, sa.Text(), nullable=True))
    partial_index("ix_builds_pull_request", "builds", ["pipeline", "pull_request"])
    partial_index("ix_deliveries_about", "deliveries", ["about"])


def partial_index(name: str, table: str, columns: list[str]) -> None:
    """An index of the rows that have something in the last of *columns*."""
    only = sa.text(f"{columns[-1]} IS NOT NULL")
    op.create_index(name, table, columns, sqlite_where=only, postgresql_where=only)
