"""The rows of `artifacts`: every file that a build left for its deploys, with its size and hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection, select

from leeroy.db import builds
from leeroy.db.tables import artifacts
from leeroy.model import Build

_INSERT = artifacts.insert()
_OF = select(artifacts.c.path, artifacts.c.size, artifacts.c.sha256).where(
    artifacts.c.build_id == sa.bindparam("build")
)
_GET = _OF.where(artifacts.c.path == sa.bindparam("file"))
_DELETE = sa.delete(artifacts).where(
    artifacts.c.build_id == sa.bindparam("build"), artifacts.c.path == sa.bindparam("file")
)


@dataclass(frozen=True)
class Artifact:
    """One file: its path below the workspace, its bytes, and their SHA-256 in hex."""

    path: str
    size: int
    sha256: str


def keep(conn: Connection, build_id: int, kept: Sequence[Artifact]) -> None:
    """Note what a step left; a file that an earlier step left at the same path is replaced."""
    earlier = {artifact.path for artifact in of(conn, build_id)}
    again = [{"build": build_id, "file": a.path} for a in kept if a.path in earlier]
    if again:
        conn.execute(_DELETE, again)
    if kept:
        rows = [{"build_id": build_id, **artifact.__dict__} for artifact in kept]
        conn.execute(_INSERT, rows)


def forget(conn: Connection, build_id: int) -> None:
    """A build starts (again): what an earlier attempt left does not count."""
    conn.execute(sa.delete(artifacts).where(artifacts.c.build_id == build_id))


def of(conn: Connection, build_id: int) -> tuple[Artifact, ...]:
    """Every file that a build left, by its path (in the same order on every database)."""
    rows = conn.execute(_OF, {"build": build_id})
    return tuple(sorted((Artifact(*row) for row in rows), key=lambda a: a.path))


def get(conn: Connection, build_id: int, path: str) -> Artifact | None:
    """One file of a build."""
    if "\0" in path:
        return None  # no database stores it
    row = conn.execute(_GET, {"build": build_id, "file": path}).first()
    return None if row is None else Artifact(*row)


def owner(conn: Connection, build: Build) -> int:
    """The build whose artifacts a build deploys: its own, or those of the one it deploys again."""
    while build.deploy_to is not None and build.source is not None:
        source = builds.get(conn, build.source)
        if source is None:
            break
        build = source
    return build.id
