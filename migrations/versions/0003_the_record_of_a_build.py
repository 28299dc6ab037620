"""
What a build's record needs besides its moves, and what tells that a database was restored.

`chronicle` is added to only, like `events`.  `lineage` has one row: who this
database is and how much was ever committed to it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NO_CHANGE = "history is never changed: the chronicle is only ever added to"


def upgrade() -> None:
    for name in ("begun_seq", "ended_seq"):
        op.add_column("steps", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("steps", sa.Column("given", sa.Text(), nullable=True))
    op.add_column("hosts", sa.Column("stopped_at", sa.BigInteger(), nullable=True))
    for name in ("journal", "doubted", "cleared"):
        op.add_column("hosts", sa.Column(name, sa.Text(), nullable=True))
    lineage = op.create_table(
        "lineage",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("era", sa.Text(), nullable=True),
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_lineage_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lineage")),
    )
    op.bulk_insert(lineage, [{"id": 1, "mark": 0}])
    op.create_table(
        "chronicle",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("build_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=True),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('accepted', 'gate', 'approved', 'started')", name=op.f("ck_chronicle_kind")
        ),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name=op.f("fk_chronicle_build_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chronicle")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chronicle_build_id_id", "chronicle", ["build_id", "id"])
    if op.get_bind().dialect.name == "sqlite":
        still_there = "WHEN EXISTS (SELECT 1 FROM builds WHERE id = OLD.build_id)"
        for name, when, condition in (
            ("chronicle_no_update", "UPDATE ON chronicle", ""),
            ("chronicle_no_delete", "DELETE ON chronicle", still_there),
        ):
            op.execute(
                f"CREATE TRIGGER {name} BEFORE {when} {condition} "
                f"BEGIN SELECT RAISE(ABORT, '{NO_CHANGE}'); END"
            )
        return
    for name, when, each, function in (
        ("chronicle_no_update", "UPDATE ON chronicle", "ROW", "leeroy_no_change"),
        ("chronicle_no_delete", "DELETE ON chronicle", "ROW", "leeroy_events_with_build"),
        ("chronicle_no_truncate", "TRUNCATE ON chronicle", "STATEMENT", "leeroy_no_change"),
    ):
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {when} FOR EACH {each} EXECUTE FUNCTION {function}()"
        )
