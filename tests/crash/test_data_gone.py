"""The data folder is emptied or replaced under a running server: no yes, and a clear end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from leeroy.db import schema
from leeroy.db.engine import Database
from leeroy.errors import Unavailable
from leeroy.footing import Gone
from tests.crash.test_broken_disk import status_of
from tests.servers import Leeroy


def _empty(data: Path) -> None:
    for entry in data.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)  # the server works on, and removes files of its own


def _replace(data: Path) -> None:
    """A copy takes its place, as where another disk is mounted over it."""
    # Not the workspaces: one that is over is being removed.
    left_out = shutil.ignore_patterns("workspaces")
    shutil.copytree(data, data.with_name("copy"), ignore=left_out)
    data.rename(data.with_name("away"))
    data.with_name("copy").rename(data)


@pytest.mark.parametrize("befall", [_empty, _replace])
def test_data_that_are_gone_are_noticed(leeroy: Leeroy, befall: object) -> None:
    """No webhook is answered yes into nowhere; the server ends with 1 and a reason, within a beat."""
    repo = leeroy.shop()
    leeroy.start()
    assert "done" == leeroy.until_over(leeroy.push(repo))
    assert leeroy.process is not None
    server = leeroy.process
    befall(leeroy.folder / "var")  # type: ignore[operator]
    answers = [status_of(leeroy, repo, f"into-nowhere-{n}") for n in range(3)]
    assert not {200, 202} & set(answers), answers
    assert 1 == server.wait(20)
    leeroy._gone()
    said = leeroy.log.read_text()
    assert "nothing is taken any more, and the server stops: " in said
    assert "Traceback" not in said


def test_an_idle_server_notices_too(leeroy: Leeroy) -> None:
    """Nobody has to ask."""
    leeroy.start()
    assert leeroy.process is not None
    server = leeroy.process
    _empty(leeroy.folder / "var")
    assert 1 == server.wait(20)
    leeroy._gone()
    assert "was removed, or its disk is no longer mounted" in leeroy.log.read_text()


@pytest.mark.parametrize("name", ["serve.lock", "runs"])
def test_a_data_folder_beside_postgresql(either: Leeroy, name: str) -> None:
    """Also where the rows lie elsewhere, runs and the lock are what the server stands on."""
    either.start()
    assert either.process is not None
    server = either.process
    path = either.folder / "var" / name
    path.rename(path.with_name("away"))
    assert 1 == server.wait(20)
    either._gone()
    assert f"{path} was removed" in either.log.read_text()


@pytest.mark.parametrize("name", ["leeroy.db", "leeroy.db-wal"])
def test_no_commit_into_a_removed_file_is_answered(tmp_path: Path, name: str) -> None:
    """Neither into the database nor into its log: who waits hears no, and so does all that follows."""
    told: list[Exception] = []
    url = f"sqlite:///{tmp_path}/leeroy.db"
    schema.ensure(url, migrate=True)
    database = Database(url, on_broken=told.append)
    try:
        database.transact(lambda conn: conn.exec_driver_sql("CREATE TABLE t (x)"))
        (tmp_path / name).unlink()
        for _ in range(2):
            with pytest.raises(Unavailable, match=f"{name} was removed"):
                database.transact(lambda conn: conn.exec_driver_sql("INSERT INTO t VALUES (1)"))
        with pytest.raises(Unavailable, match=f"{name} was removed"):
            database.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
        [error] = told
        assert isinstance(error, Gone)
    finally:
        database.close()
