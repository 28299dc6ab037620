"""How alembic reaches the database: on the connection `leeroy.db.schema` hands over."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, make_url

from leeroy.db.engines import postgres_engine, sqlite_engine
from leeroy.db.tables import metadata


def run(connection: Connection) -> None:
    """Run the migrations in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is not None:
    run(connection)
else:
    url = make_url(os.environ["LEEROY_DATABASE"])
    sqlite = url.get_backend_name() == "sqlite"
    with (
        sqlite_engine(url, "BEGIN IMMEDIATE") if sqlite else postgres_engine(url, 1)
    ).connect() as c:
        run(c)
