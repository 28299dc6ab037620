"""
What each pipeline made of a delivery.

Deliveries of before have no such value, nor have those of an older server
that still runs beside this schema: they are seen by every pipeline.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("answers", sa.Text(), nullable=True))
