"""
The tables of what was seen in the pipelines' repositories.

`remotes` has a row for each pipeline: what asking its repository gave, and
when a delivery last came.  `tips` is where each branch and tag was last seen,
by a delivery or by asking; `version` grows by every change, so that whoever
looked before he asked the repository knows whether somebody was faster.
`missed` are the commits that asking found and no delivery had told of.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, PrimaryKeyConstraint, Table, Text

from leeroy.db.tables import Instant, metadata

remotes = Table(
    "remotes",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("repository", Text),
    Column("first_at", Instant),
    Column("asked_at", Instant),
    Column("failed_at", Instant),
    Column("failures", Integer, nullable=False),
    Column("trouble", Text),
    Column("delivered_at", Instant),
    Column("delivered_by", Text),
    Column("doubted", Boolean(create_constraint=False), nullable=False),
)

tips = Table(
    "tips",
    metadata,
    Column("pipeline", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("commit", Text),
    Column("build", BigInteger),
    Column("version", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Column("found_at", Instant),
    PrimaryKeyConstraint("pipeline", "ref"),
)

missed = Table(
    "missed",
    metadata,
    Column("pipeline", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("build", BigInteger),
    Column("head", Boolean(create_constraint=False), nullable=False),
    Column("at", Instant, nullable=False),
    Column("told_at", Instant),
    PrimaryKeyConstraint("pipeline", "ref", "commit"),
)
