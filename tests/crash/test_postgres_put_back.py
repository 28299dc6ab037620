"""A PostgreSQL that was put back, or lets a plain role ask little: frozen when it must be, and only then."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.functional.test_restore_guard import freeze, pending, pipeline
from tests.postgres import USER, Postgres, a_postgres, programs
from tests.servers import a_leeroy
from tests.sinks import json_sink
from tests.waiting import until


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of this test's own."""
    with a_postgres(Path("/tmp") / f"leeroy-back-{os.getpid()}", durable=True) as made:
        yield made


def base_backup(server: Postgres, *more: str) -> Path:
    """A copy of the whole cluster, taken while it runs (*more* of pg_basebackup(1))."""
    copy = server.folder / "copy"
    subprocess.run(
        [*server._as_user, programs() / "pg_basebackup", "-h", server.folder, "-U", USER,
         "-D", copy, "-X", "stream", "-c", "fast", "--no-sync", *more],
        check=True, cwd="/",
    )  # fmt: skip
    return copy


def put_back(server: Postgres, copy: Path) -> None:
    """Recovery to the end of that copy: another timeline begins."""
    server.stop()
    shutil.rmtree(server.folder / "data")
    copy.rename(server.folder / "data")
    (server.folder / "data" / "recovery.signal").touch()
    with (server.folder / "data" / "postgresql.auto.conf").open("a") as settings:
        settings.write("restore_command = 'false'\nrecovery_target_action = 'promote'\n")
    if os.getuid() == 0:
        shutil.chown(server.folder / "data" / "recovery.signal", "postgres", "postgres")
    server.start()
    until(lambda: not server.count("SELECT pg_is_in_recovery()::int"), 30)


def test_a_recovery_to_a_point_in_time(server: Postgres, tmp_path: Path) -> None:
    """Each host has to say what it knows before a thaw lasts; people are told once for each freeze."""
    url = server.database("shop", "template")
    with (
        a_leeroy(tmp_path / "one", url) as one,
        a_leeroy(tmp_path / "two", url) as two,
        json_sink() as sink,
    ):
        for host in (one, two):
            pipeline(host)
            host.env["OPS"] = sink.url
            host.tables = '[[notify]]\nto = "env:OPS"\non = ["interrupted"]\n'
        one.start()
        build = pending(one)
        two.token = one.token
        two.start()
        assert freeze(two) is None
        copy = base_backup(server)
        one.ask("cancel", id=build)  # after the copy: this word is lost
        one.kill()
        two.kill()
        put_back(server, copy)
        one.start()
        found = freeze(one)
        assert found is not None and "restored" in found["reason"]
        one.ask("approve", id=build)
        assert "frozen by leeroy" in one.ask("why", id=build)["why"]
        frozen = until(lambda: [t for t in sink.received if "frozen" in t["title"]], 20)
        assert 1 == len(frozen) and "leeroy thaw --all" in frozen[0]["message"]
        one.ask("cancel", id=build)
        one.cli("thaw", "--all")
        # The other host has not been heard yet: what it knows is later than this database.
        two.start()
        found = freeze(two)
        assert found is not None and "not the one" in found["reason"]
        two.cli("thaw", "--all")
        for _ in range(2):
            for host in (one, two):
                host.restart()
                assert freeze(host) is None, "both were heard, so the thaw lasts"
        later = pending(one)
        (one.world / "deploy.go").touch()
        (two.world / "deploy.go").touch()
        one.ask("approve", id=later)
        assert "done" == one.until_over(later)
        until(lambda: len([t for t in sink.received if "frozen" in t["title"]]) == 2, 20)


def test_a_role_that_may_ask_little(server: Postgres, tmp_path: Path) -> None:
    """No superuser, and the cluster's own functions are not for it: served, and not frozen."""
    server.execute("CREATE ROLE plain LOGIN")
    server.execute("CREATE DATABASE shop OWNER plain")
    asked = (
        "pg_control_system()",
        "pg_current_wal_lsn()",
        "pg_walfile_name(pg_lsn)",
    )
    for function in asked:
        server.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC", "shop")
    server.execute("GRANT ALL ON SCHEMA public TO plain", "shop")
    url = f"postgresql+psycopg://plain@/shop?host={server.folder}"
    where = f"host={server.folder} user=plain dbname=shop"
    with psycopg.connect(where) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT system_identifier FROM pg_control_system()")
    with a_leeroy(tmp_path / "one", url) as one:
        pipeline(one)
        one.write_settings()
        one.cli("migrate")
        one.start()
        assert pending(one)
        one.restart()
        assert freeze(one) is None
        for function in asked:  # what is known later does not contradict what was not known
            server.execute(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC", "shop")
        one.restart()
        assert freeze(one) is None
