"""The log that a writer leaves when it is killed is the file's own, at every moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from leeroy.db import leftover
from tests import templates
from tests.servers import ROOT

KILLS = 200 if os.environ.get("LEEROY_TORTURE") == "1" else 6
WRITER = """
import sys
from leeroy.db import house
from leeroy.db.engine import Database
database = Database(f"sqlite:///{sys.argv[1]}")
for number in range(10**9):
    # Some commits fill the log, and have it brought into the file; most are small.
    text = "x" * (400_000 if number % 5 == 0 else 10)
    database.transact(lambda conn: house.set_setting(conn, f"key {number % 7}", text))
    print(number, flush=True)
"""


def test_a_log_is_never_taken_for_anothers(tmp_path: Path) -> None:
    """Killed between any two system calls, also in a checkpoint; an older copy is told apart."""
    folder = tmp_path / "db"
    file, older = folder / "leeroy.db", folder / "older.db"
    templates.put(file)
    shutil.copy(file, older)
    seen = set()
    for _ in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert writer.stdout is not None
        for _ in range(random.randrange(1, 60)):
            writer.stdout.readline()
        assert leftover.sort_out(file) is None, "it is in use: nothing is looked at"
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
        writer.stdout.close()
        if leftover._has_log(file):
            belongs = leftover._belongs(file)
            assert belongs is True
            seen.add(belongs)
        assert leftover.sort_out(file) is None
    assert seen, "a kill leaves a log"
    assert not list(folder.glob("*.of-before-*"))
    kept = Path(f"{file}-wal").read_bytes()
    shutil.copy(older, file)
    assert leftover.sort_out(file) is None
    assert kept == (folder / "leeroy.db-wal.of-before-1").read_bytes()


@pytest.mark.parametrize("content", [b"", b"no database at all, whatever its name says" * 200])
def test_what_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    """Put beside a log it is looked at as a whole; put right, it is taken again."""
    file, good = tmp_path / "leeroy.db", tmp_path / "db" / "good.db"
    templates.put(good)
    file.write_bytes(content)
    leftover.doubt(file, leftover.Damaged("it was damaged"))
    why = leftover.sort_out(file)
    assert why is not None and "is damaged (" in why
    assert why == leftover.sort_out(file), "looked at once for each file that lies there"
    good.replace(file)
    assert leftover.sort_out(file) is None
    assert not (tmp_path / "leeroy.db.damaged").exists()
