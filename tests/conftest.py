"""What every test may ask for: a database of each kind."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from leeroy.db import schema
from leeroy.db.engine import Database
from tests.parts import missing
from tests.servers import Leeroy, a_leeroy
from tests.waiting import until

_number = itertools.count(1)


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of its own; the address ends where a database's name goes."""
    programs = _programs()
    if programs is None:
        missing("PostgreSQL's server (Debian: postgresql)")
    assert programs is not None
    folder = Path("/tmp") / f"leeroy-pg-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    as_user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    subprocess.run(
        [*as_user, programs / "initdb", "-D", folder / "data", "-U", "leeroy", "-A", "trust",
         "--locale=C", "-E", "UTF8", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    server = subprocess.Popen(
        [*as_user, programs / "postgres", "-D", folder / "data", "-k", folder,
         "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    try:
        ready = [*as_user, str(programs / "pg_isready"), "-q", "-h", str(folder), "-U", "leeroy"]
        until(lambda: subprocess.run(ready, check=False, cwd="/").returncode == 0, timeout=30)
        subprocess.run(
            [*as_user, programs / "createdb", "-h", folder, "-U", "leeroy", "template"],
            check=True, cwd="/",
        )  # fmt: skip
        schema.ensure(f"postgresql+psycopg://leeroy@/template?host={folder}", migrate=True)
        yield f"{folder}"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: str, name: str, template: str = "template") -> str:
    programs = _programs()
    assert programs is not None
    subprocess.run(
        [programs / "createdb", "-h", folder, "-U", "leeroy", "-T", template, name],
        check=True, cwd="/",
    )  # fmt: skip
    return f"postgresql+psycopg://leeroy@/{name}?host={folder}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database with the schema, once of each kind."""
    if request.param == "sqlite":
        made = f"sqlite:///{tmp_path}/leeroy.db"
        schema.ensure(made, migrate=True)
        return made
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
