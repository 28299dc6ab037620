"""`leeroy backup`: one whole moment of a database that is being written to."""

from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

from leeroy.db import copying, schema
from leeroy.db.engine import Database
from tests.db.story import pending, push


def test_a_copy_under_load_is_one_moment(tmp_path: Path) -> None:
    """While builds are made as fast as they can be: sound, legal, alone, and private."""
    url = f"sqlite:///{tmp_path}/leeroy.db"
    schema.ensure(url, migrate=True)
    database = Database(url)
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            database.transact(lambda conn: pending(conn, push(conn)))

    writer = threading.Thread(target=load)
    writer.start()
    try:
        for number in range(5):
            copying.copy(tmp_path / "leeroy.db", tmp_path / f"copy{number}")
    finally:
        stop.set()
        writer.join()
        database.close()
    for number in range(5):
        file = tmp_path / f"copy{number}"
        with sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True) as conn:
            assert [("ok",)] == conn.execute("PRAGMA integrity_check").fetchall()
            assert [] == conn.execute("PRAGMA foreign_key_check").fetchall()
        conn.close()
        assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert {f"copy{n}" for n in range(5)} == {p.name for p in tmp_path.glob("*copy*")}
