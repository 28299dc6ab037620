"""A database that was put back, copied or dumped comes up frozen; one that only moved does not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.crash.test_server_dies import go, long
from tests.postgres import programs as programs_
from tests.servers import Leeroy, a_leeroy
from tests.sinks import json_sink
from tests.waiting import until


def pipeline(leeroy: Leeroy) -> None:
    leeroy.pipeline(
        'untested = true\n[[deploy]]\nenvironment = "production"\napprove = true\n'
        f"run = '''{long('deploy')}'''\n"
    )


def freeze(leeroy: Leeroy) -> dict[str, Any] | None:
    for place in leeroy.ask("environments"):
        if place["environment"] == "*":
            return dict(place["frozen"])
    return None


def pending(leeroy: Leeroy) -> int:
    build = int(leeroy.ask("trigger", name="shop")["id"])
    leeroy.until_state(build, "deploy_pending")
    return build


def database(leeroy: Leeroy) -> Path:
    return leeroy.folder / "var" / "leeroy.db"


def put_back(leeroy: Leeroy, copy: Path) -> None:
    for name in ("-wal", "-shm"):
        Path(f"{database(leeroy)}{name}").unlink(missing_ok=True)
    shutil.copy(copy, database(leeroy))


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_backup_put_back_comes_up_frozen(leeroy: Leeroy, end: str) -> None:
    """What was cancelled after the backup is not deployed, however it was approved before."""
    pipeline(leeroy)
    leeroy.start()
    build = pending(leeroy)
    copy = leeroy.folder / "backup.db"
    leeroy.cli("backup", str(copy))
    leeroy.ask("cancel", id=build)
    leeroy.stop() if end == "stop" else leeroy.kill()
    put_back(leeroy, copy)
    leeroy.start()
    found = freeze(leeroy)
    assert found is not None and "leeroy" == found["by"]
    assert "older than this host knows it" in found["reason"]
    assert "everything is frozen" in leeroy.log.read_text()
    leeroy.ask("approve", id=build)
    assert "frozen by leeroy" in leeroy.ask("why", id=build)["why"]
    doctor = leeroy.cli("doctor", check=False)
    assert "everything is frozen by leeroy" in doctor.stdout
    refused = leeroy.cli("freeze", "--all", check=False)
    assert 3 == refused.returncode
    leeroy.restart()
    assert freeze(leeroy), "a restart is no look"
    leeroy.ask("cancel", id=build)
    leeroy.cli("thaw", "--all")
    assert freeze(leeroy) is None
    leeroy.kill()
    leeroy.start()
    assert freeze(leeroy) is None, "the thaw counts for the next start too"
    again = pending(leeroy)
    assert again > build
    leeroy.ask("approve", id=again)
    go(leeroy, "deploy")
    assert "done" == leeroy.until_over(again)


def test_people_are_told_of_a_freeze_once(leeroy: Leeroy) -> None:
    """Whoever would be asked about a deploy, in the house or in a pipeline; also after an outage."""
    with json_sink() as house, json_sink() as shop, json_sink() as other:
        leeroy.env |= {"HOUSE": house.url, "SHOP": shop.url, "OTHER": other.url}
        leeroy.tables = '[[notify]]\nto = "env:HOUSE"\n'
        leeroy.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\nrun = "true"\napprove = true\n'
            '[[notify]]\nto = "env:SHOP"\non = ["deploy_pending"]\n'
            '[[notify]]\nto = "env:OTHER"\non = ["done"]\n'
        )
        leeroy.start()
        copy = leeroy.folder / "backup.db"
        leeroy.cli("backup", str(copy))
        leeroy.ask("cancel", id=pending(leeroy))
        leeroy.stop()
        put_back(leeroy, copy)
        shop.down()
        leeroy.start()

        def told(sink: Any) -> list[dict[str, Any]]:
            return [
                message for message in sink.received if "everything is frozen" in message["title"]
            ]

        [message] = until(lambda: told(house), 20)
        assert "older than this host knows it" in message["message"]
        assert "leeroy thaw --all" in message["message"] and leeroy.url in message["message"]
        troubled = "everything is frozen; env:SHOP could not be told"
        until(lambda: troubled in leeroy.cli("doctor", check=False).stdout, 20)
        leeroy.restart()
        shop.up()
        until(lambda: told(shop), 30, "a target that was away hears of it, too")
        assert (1, 1, 0) == tuple(len(told(sink)) for sink in (house, shop, other))


def test_a_deploy_of_the_lost_time_is_not_run_again(leeroy: Leeroy) -> None:
    """The copy says it was running; its run is gone: nobody knows, and nothing is repeated."""
    pipeline(leeroy)
    leeroy.start()
    build = pending(leeroy)
    leeroy.ask("approve", id=build)
    until(lambda: leeroy.marks("deploy.begun"), 10)
    copy = leeroy.folder / "backup.db"
    leeroy.cli("backup", str(copy))
    go(leeroy, "deploy")
    assert "done" == leeroy.until_over(build)
    until(lambda: not list((leeroy.folder / "var" / "runs").glob("[0-9]*")), 10)
    leeroy.stop()
    put_back(leeroy, copy)
    leeroy.start()
    leeroy.until_state(build, "interrupted")
    assert ["begun"] == leeroy.marks("deploy.begun")
    assert "database" in leeroy.ask("verdict", id=build)["cause"]


def test_what_only_moved_is_not_frozen(leeroy: Leeroy, tmp_path: Path) -> None:
    """kill -9, restarts, a new container or host with the same data folder: no alarm."""
    pipeline(leeroy)
    leeroy.start()
    build = pending(leeroy)
    for _ in range(3):
        leeroy.kill()
        leeroy.start()
    assert freeze(leeroy) is None
    leeroy.cli("hold", str(build))
    leeroy.stop()
    with a_leeroy(tmp_path / "moved") as other:
        pipeline(other)
        shutil.copytree(leeroy.folder / "var", other.folder / "var")
        other.token = leeroy.token
        other.start()
        assert freeze(other) is None


def test_a_copy_on_another_host_is_frozen(leeroy: Leeroy, tmp_path: Path) -> None:
    """The file alone, without the data folder: it came from elsewhere, the original lives on."""
    pipeline(leeroy)
    leeroy.start()
    pending(leeroy)
    leeroy.restart()
    with a_leeroy(tmp_path / "other") as other:
        pipeline(other)
        (other.folder / "var").mkdir()
        leeroy.cli("backup", str(database(other)))
        other.token = leeroy.token
        other.start()
        found = freeze(other)
        assert found is not None and "came from elsewhere" in found["reason"]
        other.cli("thaw", "--all")
        other.stop()
        leeroy.stop()
        put_back(leeroy, database(other))
        leeroy.start()
        found = freeze(leeroy)
        assert found is not None and "not the one" in found["reason"]


def test_an_approval_of_the_lost_time_starts_nothing(leeroy: Leeroy) -> None:
    """It was cancelled since: after the thaw it is announced again, with its full grace period."""
    with json_sink() as ops:
        leeroy.env["OPS"] = ops.url
        leeroy.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\ngrace = "30s"\n'
            f"run = '''{long('deploy')}'''\n"
            '[[notify]]\nto = "env:OPS"\non = ["deploy_pending"]\n'
        )
        leeroy.start()
        leeroy.cli("freeze", "--all", "--reason", "holidays")
        build = int(leeroy.ask("trigger", name="shop")["id"])
        leeroy.until_state(build, "deploy_pending")
        leeroy.ask("approve", id=build)
        copy = leeroy.folder / "backup.db"
        leeroy.cli("backup", str(copy))
        leeroy.ask("cancel", id=build)
        leeroy.stop()
        put_back(leeroy, copy)
        leeroy.start()
        before = len(ops.received)
        assert "1 that had been approved before" in leeroy.cli("thaw", "--all").stderr
        until(lambda: leeroy.moves(build)[-2:] == ["announce", "announce"], 10)
        until(lambda: [m for m in ops.received[before:] if "/stop/" in m["message"]], 10)
        until(lambda: "the grace period of 30 s begins" in leeroy.cli("verdict", str(build)).stdout)
        record = leeroy.cli("verdict", str(build)).stdout
        assert "approved it before the database was put back: that counts no more" in record
        leeroy.ask("cancel", id=build)
        assert not leeroy.marks("deploy.begun")


def test_a_whole_data_folder_put_back_without_its_journal(leeroy: Leeroy) -> None:
    """A snapshot of everything cannot tell that it is one; where its journal is left out, it can."""
    pipeline(leeroy)
    leeroy.start()
    leeroy.restart()
    build = pending(leeroy)
    leeroy.stop()
    data = leeroy.folder / "var"
    snapshot = leeroy.folder / "snapshot"
    shutil.copytree(data, snapshot)
    leeroy.start()
    leeroy.ask("cancel", id=build)
    leeroy.stop()
    shutil.rmtree(data)
    shutil.copytree(snapshot, data)
    (data / "journal").unlink()
    leeroy.start()
    found = freeze(leeroy)
    assert found is not None and "this host's journal is gone" in found["reason"]


def test_runs_that_the_copy_does_not_know_are_kept(leeroy: Leeroy) -> None:
    """A deploy begun after the backup: its directory is the only witness, and it is named."""
    pipeline(leeroy)
    leeroy.start()
    copy = leeroy.folder / "backup.db"
    leeroy.cli("backup", str(copy))
    build = pending(leeroy)
    leeroy.ask("approve", id=build)
    until(lambda: leeroy.marks("deploy.begun"), 10)
    leeroy.stop()
    put_back(leeroy, copy)
    leeroy.start()
    runs = [p.name for p in (leeroy.folder / "var" / "runs").glob("[0-9]*")]
    found = freeze(leeroy)
    assert found is not None and runs and runs[0] in found["reason"]
    go(leeroy, "deploy")
    until(lambda: leeroy.marks("deploy.ended"), 10)
    assert int(leeroy.ask("trigger", name="shop")["id"]) > build, "its number is not given again"


def test_a_dump_loaded_into_the_same_postgres_is_frozen(postgres: str, tmp_path: Path) -> None:
    """pg_dump and back, into a database of the same name; a second host that joins is fine."""
    programs = programs_()
    name = "guarded"

    def run(program: str, *words: str) -> str:
        return subprocess.run(
            [programs / program, "-h", postgres, "-U", "leeroy", *words],
            check=True, cwd="/", capture_output=True, text=True,
        ).stdout  # fmt: skip

    run("createdb", "-T", "template", name)
    url = f"postgresql+psycopg://leeroy@/{name}?host={postgres}"
    with a_leeroy(tmp_path / "one", url) as one, a_leeroy(tmp_path / "two", url) as two:
        pipeline(one)
        pipeline(two)
        one.start()
        pending(one)
        one.restart()
        two.token = one.token
        two.start()
        assert freeze(two) is None
        two.stop()
        one.stop()
        dump = run("pg_dump", name)
        run("dropdb", name)
        run("createdb", name)
        subprocess.run(
            [programs / "psql", "-q", "-h", postgres, "-U", "leeroy", name],
            check=True, cwd="/", input=dump, text=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        one.start()
        found = freeze(one)
        assert found is not None and "restored" in found["reason"]
        one.cli("thaw", "--all")
        until(lambda: freeze(one) is None, 5)
        one.restart()
        assert freeze(one) is None
