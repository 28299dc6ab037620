"""PostgreSQL fails over to a standby that has not got the last commits: nothing is deployed by its word."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.test_postgres_put_back import base_backup
from tests.functional.test_restore_guard import freeze
from tests.postgres import Postgres, a_postgres, programs
from tests.servers import a_leeroy
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"

BEHIND = (
    "SELECT count(*) FROM pg_stat_replication"
    " WHERE state = 'streaming' AND replay_lsn >= pg_current_wal_lsn()"
)


class Standby:
    """Another PostgreSQL that follows *server* by streaming, until it is stopped."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._data = base_backup(server, "-R")
        self._process = subprocess.Popen(
            [*server._as_user, programs() / "postgres", "-D", self._data, "-k", self._data,
             "-c", "listen_addresses=", "-c", "max_connections=200"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
        )  # fmt: skip

    def follows(self) -> None:
        """Wait until it has every commit so far."""
        until(lambda: self._server.count(BEHIND) == 1, 60, "the standby has all")

    def stop(self) -> None:
        """It gets no more."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)

    def promote(self) -> None:
        """It takes the place of its primary, which is dead, and its address."""
        self._server.kill()
        (self._server.folder / "data").rename(self._server.folder / "dead")
        self._data.rename(self._server.folder / "data")
        self._server.start()
        self._server.execute("SELECT pg_promote()")


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of this test's own."""
    with a_postgres(Path("/tmp") / f"leeroy-over-{os.getpid()}", durable=True) as made:
        yield made


@pytest.mark.timeout(240)
@pytest.mark.parametrize("leeroy_is", ["alive", "dead"] if TORTURE else ["alive"])
def test_a_failover_that_lost_commits(server: Postgres, tmp_path: Path, leeroy_is: str) -> None:
    """A stop that was acknowledged and lost holds: everything is frozen before anything is decided."""
    with a_leeroy(tmp_path / "one", server.database("shop", "template")) as one:
        one.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\ngrace = "0s"\n'
            "run = '''echo $LEEROY_BUILD >> \"{world}/deployed\"\n"
            "while [ ! -e \"{world}/go\" ]; do sleep 0.05; done'''\n"
        )
        one.start()
        first = one.ask("trigger", name="shop")["id"]
        until(lambda: one.marks("deployed"), 20)
        stopped = one.ask("trigger", name="shop")["id"]
        one.until_state(stopped, "deploy_pending")
        standby = Standby(server)
        try:
            standby.follows()
        finally:
            standby.stop()
        # All of this is lost; with it the second build would go as soon as the first is found done.
        assert "cancelled" == one.ask("cancel", id=stopped)["state"]
        (one.world / "go").touch()
        assert "done" == one.until_over(first)
        if leeroy_is == "dead":
            one.kill()
        standby.promote()
        if leeroy_is == "dead":
            one.start()
        until(lambda: one.http("GET", "/readyz")[0] == 200, 60)
        found = until(lambda: freeze(one), 30, "everything is frozen")
        assert "leeroy" == found["by"]
        # Its end was recorded, and its run forgotten: nobody knows it now, and it is not repeated.
        one.until_state(first, "interrupted")
        assert "deploy_pending" == one.state(stopped), "what was lost is lost"
        assert "frozen by leeroy" in one.ask("why", id=stopped)["why"]
        assert "cancelled" == one.ask("cancel", id=stopped)["state"]
        one.ask("resolve", id=first, outcome="done", environment="production", reason="looked")
        one.cli("thaw", "--all")
        later = one.ask("trigger", name="shop")["id"]
        assert "done" == one.until_over(later)
        assert [str(first), str(later)] == one.marks("deployed")
