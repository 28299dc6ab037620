"""What counts as a commit: the mark by which a host knows how old a database is."""

from __future__ import annotations

from pathlib import Path

from leeroy.db import builds, lineage, schema
from leeroy.db.engine import Database
from leeroy.journal import Entry, Journal
from tests.db import story


def test_only_a_commit_that_changed_something_counts(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/leeroy.db"
    schema.ensure(url, migrate=True)
    journal = Journal(tmp_path)
    journal.adopt(Entry("era", 0, None, 0))
    journal.doubted = False
    database = Database(url, journal=journal)
    try:
        database.transact(lambda conn: lineage.change(conn, era="era", incarnation=None))
        before = journal.read()
        looks = [lambda conn: builds.queued(conn, 1) for _ in range(3)]
        for look in database.submit_all(looks):
            assert look.result() == []
        assert journal.read() == before  # the loop looks all the time; that writes nothing
        build = database.transact(story.push)
        after = journal.read()
        assert before is not None
        assert after == Entry("era", before.mark + 1, None, build.id)
        assert database.read(lineage.get).mark == after.mark
    finally:
        database.close()
