"""Migrations: many may start at once, one migrates, nobody sees half a schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from leeroy.db import schema

_ENSURE = (
    "import sys; from leeroy.db import schema; print(schema.ensure(sys.argv[1], migrate=True))"
)


def test_four_processes_start_at_once(tmp_path: Path) -> None:
    """One of them fills the empty database, the others wait and find it done."""
    url = f"sqlite:///{tmp_path}/leeroy.db"
    started = [
        subprocess.Popen([sys.executable, "-c", _ENSURE, url], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=60)[0].strip() for process in started]
    assert ["False", "False", "False", "True"] == sorted(answers)


def test_the_program_knows_its_newest_migration() -> None:
    """`HEAD` is the last file of the folder."""
    files = sorted(path.name for path in (schema.migrations() / "versions").glob("[0-9]*.py"))
    assert schema.HEAD == files[-1].split("_")[0]
