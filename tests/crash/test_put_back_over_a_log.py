"""A copy put over `leeroy.db` while the log of a crash lies beside it, and a file that is damaged."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.test_disk import a_port, answer, serving
from tests.functional.test_restore_guard import database, freeze
from tests.servers import Leeroy
from tests.sinks import json_sink
from tests.waiting import until


def logged(leeroy: Leeroy) -> Path:
    return Path(f"{database(leeroy)}-wal")


def aside(leeroy: Leeroy) -> list[Path]:
    return sorted(database(leeroy).parent.glob("leeroy.db-wal.of-before-*"))


def quick(leeroy: Leeroy) -> None:
    leeroy.pipeline('untested = true\n[[deploy]]\nenvironment = "p"\ngrace = "0s"\nrun = "true"\n')


def builds(leeroy: Leeroy, count: int) -> int:
    last = 0
    for _ in range(count):
        last = int(leeroy.ask("trigger", name="shop")["id"])
        assert "done" == leeroy.until_over(last)
    return last


def checkpoint(leeroy: Leeroy) -> None:
    """What SQLite does after a thousand pages: the log goes into the file, and begins anew."""
    with closing(sqlite3.connect(database(leeroy))) as conn:
        assert 0 == conn.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0]


def sound(file: Path) -> None:
    with closing(sqlite3.connect(file)) as conn:
        assert ("ok",) == conn.execute("PRAGMA integrity_check").fetchone()


def in_file(leeroy: Leeroy) -> list[int]:
    return [build["id"] for build in leeroy.ask("list")]


@pytest.mark.parametrize(("checkpointed", "first"), [(False, "server"), (True, "command")])
def test_a_backup_put_over_a_crashed_database(
    leeroy: Leeroy, checkpointed: bool, first: str
) -> None:
    """It comes up with what the backup has, frozen, told once; the old log is kept, not applied."""
    with json_sink() as house:
        leeroy.env |= {"HOUSE": house.url}
        leeroy.tables = '[[notify]]\nto = "env:HOUSE"\non = ["deploy_pending"]\n'
        quick(leeroy)
        leeroy.start()
        kept = builds(leeroy, 1)
        copy = leeroy.folder / "backup.db"
        leeroy.cli("backup", str(copy))
        builds(leeroy, 2)
        if checkpointed:
            checkpoint(leeroy)
            builds(leeroy, 2)
        leeroy.kill()
        old = logged(leeroy).read_bytes()
        assert old, "what was committed last is in the log"
        shutil.copy(copy, database(leeroy))
        if first == "command":
            said = leeroy.cli("environments").stdout
            assert "older than this host knows it" in said
        leeroy.start()
        assert [kept] == in_file(leeroy)
        found = freeze(leeroy)
        assert found is not None and "older than this host knows it" in found["reason"]
        [moved] = aside(leeroy)
        assert old == moved.read_bytes()
        if first == "server":
            assert f"kept as {moved}" in leeroy.log.read_text()
        until(lambda: [m for m in house.received if "frozen" in m["title"]], 20)
        leeroy.restart()
        assert [kept] == in_file(leeroy) and [moved] == aside(leeroy)
        leeroy.cli("thaw", "--all")
        assert builds(leeroy, 1) > kept
        assert 1 == len([m for m in house.received if "frozen" in m["title"]])
    leeroy.stop()
    sound(database(leeroy))


def test_a_plain_copy_put_over_a_crashed_database(leeroy: Leeroy) -> None:
    """Made by `cp`, it looks like a file with a log: then the commits in the log tell."""
    quick(leeroy)
    leeroy.start()
    kept = builds(leeroy, 1)
    leeroy.stop()
    copy = leeroy.folder / "copy.db"
    shutil.copy(database(leeroy), copy)
    assert b"\x02\x02" == copy.read_bytes()[18:20]
    leeroy.start()
    builds(leeroy, 2)
    checkpoint(leeroy)
    builds(leeroy, 2)
    leeroy.kill()
    shutil.copy(copy, database(leeroy))
    leeroy.start()
    assert [kept] == in_file(leeroy)
    assert freeze(leeroy) is not None and len(aside(leeroy)) == 1
    leeroy.stop()
    sound(database(leeroy))


def test_the_log_of_a_crash_is_its_own(leeroy: Leeroy) -> None:
    """Before a checkpoint, after it, and with a command first: nothing is put aside or frozen."""
    quick(leeroy)
    leeroy.start()
    leeroy.kill()
    leeroy.start()
    builds(leeroy, 1)
    leeroy.kill()
    assert logged(leeroy).stat().st_size
    assert "done" in leeroy.cli("list").stdout
    leeroy.start()
    builds(leeroy, 1)
    checkpoint(leeroy)
    leeroy.kill()
    leeroy.start()
    checkpoint(leeroy)
    last = builds(leeroy, 1)
    leeroy.kill()
    leeroy.start()
    assert last == in_file(leeroy)[0]
    assert not aside(leeroy) and freeze(leeroy) is None


def test_a_log_whose_file_was_removed_is_kept(leeroy: Leeroy) -> None:
    quick(leeroy)
    leeroy.start()
    builds(leeroy, 1)
    leeroy.kill()
    old = logged(leeroy).read_bytes()
    database(leeroy).unlink()
    leeroy.start()
    [moved] = aside(leeroy)
    assert old == moved.read_bytes()


def spoil(file: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [root] = conn.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", [table]
        ).fetchone()
        [size] = conn.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as opened:
        opened.seek((root - 1) * size)
        opened.write(b"\xff" * size)


def test_a_file_that_is_damaged_while_it_is_used(leeroy: Leeroy) -> None:
    """The server ends and says why; the next one waits for a backup, and comes up frozen with it."""
    leeroy.settings["listen"] = f"127.0.0.1:{a_port()}"
    repo = leeroy.shop()
    leeroy.start()
    kept = leeroy.push(repo)
    assert "done" == leeroy.until_over(kept)
    copy = leeroy.folder / "backup.db"
    leeroy.cli("backup", str(copy))
    assert "done" == leeroy.until_over(leeroy.push(repo))
    leeroy.stop()
    spoil(database(leeroy), "deliveries")
    leeroy.start()
    assert leeroy.process is not None
    server = leeroy.process
    with contextlib.suppress(OSError):  # it may be gone before it can answer
        assert leeroy.hook(repo)[0] == 503
    assert 1 == server.wait(20)
    leeroy._gone()
    assert "stopped, for the database is damaged" in leeroy.log.read_text()
    refused = leeroy.cli("list", check=False)
    assert 5 == refused.returncode and "damaged" in refused.stderr
    assert "docs/operating.md" in refused.stderr
    with serving(leeroy) as waiting:
        status, _, text = until(lambda: answer(leeroy), 20)
        assert 503 == status and b"is damaged" in text
        new = copy.with_name("new.db")
        shutil.copy(copy, new)
        new.replace(database(leeroy))
        until(lambda: (found := answer(leeroy)) is not None and found[0] != 503, 20)
        assert waiting.poll() is None
        assert [kept] == in_file(leeroy)
        found = freeze(leeroy)
        assert found is not None and "older than this host knows it" in found["reason"]
    sound(database(leeroy))
