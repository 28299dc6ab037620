"""Servers beside each other, one after the other, and one that is replaced by its own deploy."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from http.client import HTTPException
from pathlib import Path

import pytest
import sqlalchemy as sa

from leeroy.db import schema
from leeroy.db.engines import postgres_engine, sqlite_engine
from tests.servers import Leeroy, a_leeroy
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"


def test_two_servers_on_one_sqlite_file(leeroy: Leeroy, tmp_path: Path) -> None:
    """Each has a data folder of its own, and yet the second one is refused, and told why."""
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "true"\n')
    leeroy.start()
    database = leeroy.folder / "var" / "leeroy.db"
    with a_leeroy(tmp_path / "second", f"sqlite:///{database}") as second:
        second.write_settings()
        refused = second.cli("serve", check=False)
        assert 5 == refused.returncode
        assert leeroy.process is not None
        said = f"another `leeroy serve` (process {leeroy.process.pid}) runs on the database"
        assert said in refused.stderr and str(database) in refused.stderr
        assert "done" == leeroy.until_over(leeroy.ask("trigger", name="shop")["id"])
        leeroy.kill()
        second.token = leeroy.token
        second.start()
        assert 1 == len(second.ask("list"))


def set_revision(url: str, revision: str) -> None:
    parsed = sa.make_url(url)
    make = sqlite_engine if url.startswith("sqlite") else lambda u, _: postgres_engine(u, 1)
    engine = make(parsed, "BEGIN IMMEDIATE")
    with engine.begin() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    engine.dispose()


def test_a_newer_database_is_not_served(leeroy: Leeroy) -> None:
    """Another host was upgraded first: this version refuses, says what to do, and changes nothing."""
    leeroy.write_settings()
    leeroy.cli("migrate")
    url = f"sqlite:///{leeroy.folder}/var/leeroy.db"
    set_revision(url, "9999")
    refused = leeroy.cli("serve", check=False)
    assert 5 == refused.returncode
    assert f"has schema 9999, newer than this Leeroy's {schema.HEAD}" in refused.stderr
    assert 5 == leeroy.cli("trigger", "shop", check=False).returncode
    set_revision(url, schema.HEAD)
    leeroy.start()
    assert [] == leeroy.ask("list")


def test_a_server_whose_database_is_upgraded(either: Leeroy) -> None:
    """It takes nothing more, says why and ends; its script runs on, and the right version records it."""
    repo = either.shop()
    either.pipeline('[[test]]\nname = "unit"\nrun = "sleep 8; echo over"\n', "slow")
    either.start()
    assert either.process is not None
    server = either.process
    url = either.address
    slow = either.ask("trigger", name="slow")["id"]
    until(lambda: "building" == either.ask("show", id=slow)["state"])
    set_revision(url, "9999")
    answered: list[int] = []

    def taken() -> bool:
        with contextlib.suppress(OSError, HTTPException):
            answered.append(either.hook(repo, delivery=f"d{len(answered)}")[0])
        return server.poll() is not None

    until(taken, 30)
    assert 1 == server.returncode
    assert {202, 503} >= set(answered)
    said = either.log.read_text()
    assert "the database was changed by another version" in said
    assert f"has schema 9999, newer than this Leeroy's {schema.HEAD}" in said
    either._gone()
    set_revision(url, schema.HEAD)
    either.start()
    assert "done" == either.until_over(slow)
    assert "over" in either.cli("log", str(slow)).stdout


OLD = "0003"


def test_a_migration_while_the_database_is_used(empty: str, tmp_path: Path) -> None:
    """Two migrate at once while others read and write: one does it, and all rows are there."""
    parsed = sa.make_url(empty)
    is_sqlite = empty.startswith("sqlite")
    upgraded(empty, OLD)
    engine = sqlite_engine(parsed, "BEGIN IMMEDIATE") if is_sqlite else postgres_engine(parsed, 4)
    stop = threading.Event()
    written: list[int] = []
    troubles: list[BaseException] = []

    def use() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                with engine.begin() as conn:
                    row = {"k": f"used-{number}"}
                    conn.execute(sa.text("INSERT INTO settings VALUES (:k, 'x')"), row)
                    conn.execute(sa.text("SELECT count(*) FROM builds")).scalar()
                written.append(number)
                stop.wait(0.05)  # SQLite's lock is not fair: others want their turn
            except sa.exc.OperationalError as exc:
                if "locked" not in str(exc) and "timeout" not in str(exc):
                    troubles.append(exc)
                    return

    thread = threading.Thread(target=use)
    thread.start()
    try:
        until(lambda: len(written) > 3, 20)
        with a_leeroy(tmp_path / "one", empty) as one, a_leeroy(tmp_path / "two", empty) as two:
            for each in (one, two):
                each.write_settings()
            migrating = [
                subprocess.Popen(
                    [sys.executable, "-m", "leeroy", "migrate"],
                    cwd=each.folder, env=each.environment(), stdout=subprocess.PIPE, text=True,
                    stderr=subprocess.STDOUT,
                )
                for each in (one, two)
            ]  # fmt: skip
            said = [process.communicate(timeout=60)[0] for process in migrating]
            assert [0, 0] == [process.returncode for process in migrating], said
        so_far = len(written)
        until(lambda: len(written) > so_far, 20)
    finally:
        stop.set()
        thread.join()
    assert not troubles
    assert not schema.ensure(empty, migrate=False), "nothing is left to do"
    with engine.connect() as conn:
        kept = conn.execute(sa.text("SELECT count(*) FROM settings WHERE key LIKE 'used-%'"))
        assert len(written) == kept.scalar()
    engine.dispose()


def upgraded(url: str, revision: str) -> None:
    """The database as an older version left it."""
    from alembic import command
    from alembic.config import Config

    parsed = sa.make_url(url)
    make = sqlite_engine if url.startswith("sqlite") else lambda u, _: postgres_engine(u, 1)
    engine = make(parsed, "BEGIN IMMEDIATE")
    config = Config()
    config.set_main_option("script_location", str(schema.migrations()))
    with engine.connect() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, revision)
        conn.commit()
    engine.dispose()


@pytest.mark.parametrize("number", ["TERM", "KILL"] if TORTURE else ["TERM"])
def test_a_deploy_restarts_its_own_server(leeroy: Leeroy, number: str) -> None:
    """KillMode=process: only the main process ends; the script sees the new one, and is recorded."""
    lock = leeroy.folder / "var" / "serve.lock"
    leeroy.pipeline(
        f"""
untested = true
[[deploy]]
environment = "leeroy"
run = '''
old=$(cat "{lock}")
echo "replacing" >> "{{world}}/said"
kill -{number} "$old"
while kill -0 "$old" 2>/dev/null; do sleep 0.02; done
while [ "$(cat "{lock}")" = "$old" ]; do sleep 0.02; done
echo "replaced" >> "{{world}}/said"
'''
"""
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert leeroy.process is not None
    leeroy.process.wait(20)
    leeroy._gone()
    leeroy.start()
    assert "done" == leeroy.until_over(build)
    assert ["replacing", "replaced"] == leeroy.marks("said")
    [step] = [s for s in leeroy.build(build)["steps"] if s["stage"] == "deploy"]
    assert (0, 1) == (step["exit_code"], step["attempt"])
