"""Migrations: many may start at once, one migrates, nobody sees half a schema."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from leeroy.db import remote_tables, schema
from leeroy.db.tables import metadata
from leeroy.errors import Unavailable
from tests.servers import Leeroy

_ENSURE = (
    "import sys; from leeroy.db import schema; print(schema.ensure(sys.argv[1], migrate=True))"
)


def test_four_processes_start_at_once(empty: str) -> None:
    """One of them fills the empty database, the others wait and find it done."""
    started = [
        subprocess.Popen([sys.executable, "-c", _ENSURE, empty], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=60)[0].strip() for process in started]
    assert ["False", "False", "False", "True"] == sorted(answers)


def test_the_migrations_make_the_tables(url: str) -> None:
    """The schema that the migrations make is the one the statements are written for."""
    engine = sa.create_engine(url)
    with engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert remote_tables.metadata is metadata  # its tables count
        assert [] == compare_metadata(context, metadata)
    engine.dispose()


def test_a_server_does_not_migrate_what_others_share(empty: str, leeroy: Leeroy) -> None:
    """With PostgreSQL a person says when; with SQLite the start does it, after a copy."""
    leeroy.settings["database"] = empty
    if empty.startswith("sqlite"):
        leeroy.start()
        return
    leeroy.write_settings()
    done = leeroy.cli("serve", check=False)
    assert 5 == done.returncode
    assert "`leeroy migrate`" in done.stderr
    leeroy.cli("migrate")
    leeroy.start()


def test_a_newer_schema_is_refused(empty: str) -> None:
    """A database that a newer version has changed is left alone."""
    schema.ensure(empty, migrate=True)
    engine = sa.create_engine(empty)
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(Unavailable, match="newer"):
        schema.ensure(empty, migrate=False)


def test_the_program_knows_its_newest_migration() -> None:
    """`HEAD` is the last file of the folder."""
    files = sorted(path.name for path in (schema.migrations() / "versions").glob("[0-9]*.py"))
    assert schema.HEAD == files[-1].split("_")[0]
