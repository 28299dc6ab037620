"""A PostgreSQL server of a test's own, that can be stopped, killed, and made to lose its answers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg

from leeroy.db import schema
from tests.parts import missing
from tests.waiting import until
from tests.wires import Wire

USER = "leeroy"


def programs() -> Path:
    """The folder of PostgreSQL's server programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        missing("PostgreSQL's server (Debian: postgresql)")
    return found[-1].parent


class Postgres:
    """
    A server in *folder*, reached by a socket there.

    `durable` keeps fsync on: what was committed survives `kill`.  With *wire*
    it stands at the wire's far end, and `url` leads there over TCP.
    """

    def __init__(self, folder: Path, *, durable: bool = False, wire: Wire | None = None) -> None:
        self.folder = folder
        self._wire = wire
        self.process: subprocess.Popen[bytes] | None = None
        self._fsync = "on" if durable else "off"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        self._as_user: list[str] = []
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            programs()  # first of all: without them there is no such user either
            shutil.chown(folder, "postgres", "postgres")
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        subprocess.run(
            [*self._as_user, programs() / "initdb", "-D", folder / "data", "-U", USER,
             "-A", "trust", "--locale=C", "-E", "UTF8", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        if wire is not None:
            with (folder / "data" / "pg_hba.conf").open("a") as settings:
                settings.write(f"host all all {wire.near}/32 trust\n")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            [*(self._wire.there if self._wire else ()), *self._as_user,
             programs() / "postgres", "-D", self.folder / "data", "-k", self.folder,
             "-c", f"listen_addresses={self._wire.far if self._wire else ''}", "-c", f"fsync={self._fsync}",
             "-c", "max_connections=200"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
        )  # fmt: skip
        ready = [*self._as_user, programs() / "pg_isready", "-q", "-h", self.folder, "-U", USER]
        until(lambda: subprocess.run(ready, check=False, cwd="/").returncode == 0, timeout=30)

    def stop(self) -> None:
        """Stop it at once, in order ("fast": sessions are ended)."""
        self._end(signal.SIGINT)

    def hang(self) -> None:
        """From now on it answers nobody (SIGSTOP of every process of it)."""
        self._all(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again, and does what was asked meanwhile."""
        self._all(signal.SIGCONT)

    def _all(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)  # the first: it makes the others
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if _parent(entry) == self.process.pid:
                        os.kill(int(entry.name), number)

    def kill(self) -> None:
        """kill -9 of every process of it."""
        if self.process is None:
            return
        session = self.process.pid
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.getsid(int(entry.name)) == session or _parent(entry) == session:
                        os.kill(int(entry.name), signal.SIGKILL)
        self._end(signal.SIGKILL)
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def _end(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def database(self, name: str, template: str = "template0") -> str:
        """Make a database; its address for `leeroy.toml`."""
        subprocess.run(
            [programs() / "createdb", "-h", self.folder, "-U", USER, "-T", template, name],
            check=True, cwd="/",
        )  # fmt: skip
        return self.url(name)

    def url(self, name: str) -> str:
        """The address of a database."""
        where = self._wire.far if self._wire else self.folder
        return f"postgresql+psycopg://{USER}@/{name}?host={where}"

    def execute(self, statement: str, name: str = "postgres") -> None:
        """Run a statement as the administrator."""
        where = f"host={self.folder} user={USER} dbname={name}"
        with psycopg.connect(where, autocommit=True) as conn:
            conn.execute(statement)  # type: ignore[arg-type]  # the tests' own words

    def count(self, query: str, name: str = "postgres") -> int:
        """The number a query gives."""
        with psycopg.connect(f"host={self.folder} user={USER} dbname={name}") as conn:
            row = conn.execute(query).fetchone()  # type: ignore[arg-type]
            return int(row[0]) if row else 0

    # --- answers that are lost

    def withhold(self) -> None:
        """From now on each COMMIT is stored but not answered: its standby does not exist."""
        self.execute("ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
        self.execute("SELECT pg_reload_conf()")
        asked = "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'ghost'"
        until(lambda: self.count(asked))

    def answer(self) -> None:
        """Answer again, and let go of those who wait."""
        self.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.execute("SELECT pg_reload_conf()")

    def answer_none(self) -> None:
        """End those who wait, then answer again: their commits are stored, and nobody was told."""
        self.terminate("wait_event = 'SyncRep'")
        self.answer()

    def waiting(self) -> int:
        """How many commits are stored but not answered."""
        return self.count("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    def terminate(self, only: str = "true") -> None:
        """End every session of clients (those for which *only* holds)."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND {only}"
        )


def _parent(entry: Path) -> int:
    return int((entry / "stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def a_postgres(
    folder: Path, *, durable: bool = False, wire: Wire | None = None
) -> Iterator[Postgres]:
    """A server that runs, with a database `template` that has the schema."""
    made = Postgres(folder, durable=durable, wire=wire)
    try:
        made.start()
        schema.ensure(made.database("template"), migrate=True)
        yield made
    finally:
        if made.process is not None:
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)
