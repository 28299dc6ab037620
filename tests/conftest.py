"""What every test may ask for: a database of each kind."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leeroy.db.engine import Database
from tests import longrun, templates
from tests.postgres import a_postgres, programs
from tests.servers import Leeroy, a_leeroy

_number = itertools.count(1)


@pytest.fixture
def gave(record_property: Callable[[str, object], None]) -> longrun.Tell:
    """Where a long run tells its counts: `gave("storm", kills=…)`."""
    return longrun.teller(record_property)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After `make torture`: what it gave, as a table."""
    if os.environ.get("LEEROY_TORTURE") != "1":
        return
    stats = terminalreporter.stats
    table = longrun.lines([*stats.get("passed", ()), *stats.get("failed", ())])
    if table:
        terminalreporter.section(f"what the long run gave ({os.cpu_count()} cores)")
        for line in table:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server for all tests; the address ends where a database's name goes."""
    with a_postgres(Path("/tmp") / f"leeroy-pg-{os.getpid()}") as server:
        yield str(server.folder)


def _make(folder: str, name: str, template: str = "template") -> str:
    subprocess.run(
        [programs() / "createdb", "-h", folder, "-U", "leeroy", "-T", template, name],
        check=True, cwd="/",
    )  # fmt: skip
    return f"postgresql+psycopg://leeroy@/{name}?host={folder}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database with the schema, once of each kind."""
    if request.param == "sqlite":
        file = tmp_path / "db" / "leeroy.db"
        templates.put(file)
        return f"sqlite:///{file}"
    return _make(request.getfixturevalue("postgres"), f"t{os.getpid()}_{next(_number)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database with nothing in it, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/leeroy.db"
    name = f"t{os.getpid()}_{next(_number)}"
    return _make(request.getfixturevalue("postgres"), name, template="template0")


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """An open database, once of each kind."""
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def leeroy(tmp_path: Path) -> Iterator[Leeroy]:
    """An installation on SQLite, not yet started."""
    with a_leeroy(tmp_path / "leeroy") as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Leeroy]:
    """An installation not yet started, once on each kind of database."""
    url = None
    if request.param == "postgresql":
        url = _make(request.getfixturevalue("postgres"), f"t{os.getpid()}_{next(_number)}")
    with a_leeroy(tmp_path / "leeroy", url) as made:
        yield made
