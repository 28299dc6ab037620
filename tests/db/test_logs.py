"""What is kept of a long log: no byte more than its limit, and no mask is cut."""

from __future__ import annotations

from sqlalchemy import Connection

from leeroy.db import logs, steps
from leeroy.db.engine import Database
from leeroy.terms import Stage
from tests.db import story


def test_a_log_is_cut_to_the_byte(database: Database) -> None:
    """A stretch that reaches beyond the head or before the tail is cut where it does."""

    def work(conn: Connection) -> tuple[list[logs.Chunk], str]:
        number = steps.add(conn, story.push(conn).id, Stage.test, "unit", run_id="r1", host="h")
        raw = bytes(range(65, 75)) * 10
        for start, stop in ((0, 30), (30, 55), (55, 80), (80, 100)):
            logs.add(conn, number, start, stop, logs.pack(raw[start:stop]))
        logs.cut(conn, number, 25, 75)
        kept = logs.read(conn, number)
        assert raw[:25] + raw[75:] == b"".join(chunk.data for chunk in kept)
        assert 100 == logs.end(conn, number)
        return kept, b"".join(logs.text(kept)).decode()

    kept, text = database.transact(work)
    assert [(0, 25), (75, 80), (80, 100)] == [(chunk.start, chunk.stop) for chunk in kept]
    assert "50 bytes dropped" in text


def test_one_stretch_is_cut_in_two(database: Database) -> None:
    """Where head and tail lie in the same one."""

    def work(conn: Connection) -> list[logs.Chunk]:
        number = steps.add(conn, story.push(conn).id, Stage.test, "unit", run_id="r1", host="h")
        logs.add(conn, number, 0, 26, logs.pack(b"abcdefghijklmnopqrstuvwxyz"))
        logs.cut(conn, number, 3, 23)
        return logs.read(conn, number)

    found = database.transact(work)
    assert [logs.Chunk(0, 3, b"abc"), logs.Chunk(23, 26, b"xyz")] == found


def test_a_mask_is_not_cut(database: Database) -> None:
    """What is shown has another length than what was written: nobody knows where to cut."""

    def work(conn: Connection) -> list[logs.Chunk]:
        number = steps.add(conn, story.push(conn).id, Stage.test, "unit", run_id="r1", host="h")
        logs.add(conn, number, 0, 10, logs.pack(b"0123456789"))
        logs.add(conn, number, 10, 40, logs.pack(b"a *** b"))
        logs.cut(conn, number, 10, 20)
        return logs.read(conn, number)

    assert [(0, 10), (10, 40)] == [(c.start, c.stop) for c in database.transact(work)]
