"""
The pipelines in force: the folder's files, and what the database remembers of them.

A changed file is in force once it was read without a mistake; a broken one
leaves the last good text in force, also over a restart, for the database
keeps it.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from leeroy import pipelines
from leeroy.context import Context
from leeroy.db import deploys, house
from leeroy.db.house import Shelved
from leeroy.errors import ConfigError, NotFound
from leeroy.pipelines import Pipeline

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class File:
    """A pipeline's file as it was read: its text, or why it cannot be used."""

    name: str
    text: str | None
    mistakes: str | None


def files(folder: Path) -> list[Path]:
    """The pipelines' files, by name."""
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix == ".toml" and not path.name.startswith(".")
        )
    except OSError:
        return []


def stamp(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What changes whenever a file of the folder does."""
    found = []
    for path in files(folder):
        try:
            seen = path.stat()
        except OSError:
            continue
        found.append((path.name, seen.st_mtime_ns, seen.st_size, seen.st_ino))
    return tuple(found)


def look(folder: Path) -> list[File]:
    """Every file of the folder, read and understood as far as possible."""
    found = []
    for path in files(folder):
        try:
            text = path.read_text(encoding="utf-8")
            pipelines.parse(text, name=path.stem, file=str(path))
        except UnicodeDecodeError:
            found.append(File(path.stem, None, f"{path}: is not UTF-8; save it as UTF-8"))
        except OSError as exc:
            found.append(File(path.stem, None, f"{path}: cannot be read: {exc.strerror}"))
        except ConfigError as exc:
            found.append(File(path.stem, None, str(exc)))
        else:
            found.append(File(path.stem, text, None))
    return found


def sync(conn: Connection, context: Context, found: list[File]) -> list[str]:
    """Write down what the folder holds; returns a sentence for each change."""
    known = house.shelf(conn)
    now = context.clock.now()
    changes: list[str] = []
    for file in found:
        before = known.pop(file.name, None)
        same = before is not None and before.present and before.mistakes == file.mistakes
        if same and (file.text is None or (before and file.text == before.text)):
            continue
        house.shelve(conn, file.name, now, text=file.text, mistakes=file.mistakes)
        if file.mistakes is not None:
            stays = "its last good text stays in force"
            if before is None or before.text is None:
                stays = "there is no older text of it, so it starts nothing"
            changes.append(f"{file.mistakes}\npipeline {file.name} is broken; {stays}")
            continue
        assert file.text is not None
        pipeline = pipelines.parse(file.text, name=file.name, file=file.name)
        deploys.ensure(conn, file.name, [(d.environment, d.lock) for d in pipeline.deploys])
        changes.append(f"pipeline {file.name} is in force")
    for name, before in known.items():
        if before.present:
            house.shelve(conn, name, now, text=None, mistakes=None, present=False)
            changes.append(f"pipeline {name} is gone: its file was removed")
    return changes


def current(conn: Connection) -> Mapping[str, Pipeline]:
    """Every pipeline in force, by name."""
    found: dict[str, Pipeline] = {}
    for name, shelved in house.shelf(conn).items():
        pipeline = _usable(shelved)
        if pipeline is not None:
            found[name] = pipeline
    return found


def _usable(shelved: Shelved) -> Pipeline | None:
    """The pipeline in force of what the database remembers; None where there is none."""
    name = shelved.name
    if not shelved.present or shelved.text is None:
        return None
    try:
        return pipelines.parse(shelved.text, name=name, file=f"{name}.toml")
    except ConfigError:
        # An older version understood it; the file is read again at the next start.
        log.warning("pipeline %s: this version does not understand its last text", name)
        return None


def get(conn: Connection, name: str) -> Pipeline:
    """The pipeline in force; raises NotFound, with what may have been meant."""
    shelved = house.shelved(conn, name)
    pipeline = None if shelved is None else _usable(shelved)
    if pipeline is not None:
        return pipeline
    if shelved is not None and shelved.present and shelved.mistakes is not None:
        raise NotFound(f"pipeline {name} is broken and never worked:\n{shelved.mistakes}")
    known = current(conn)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
    raise NotFound(f"there is no pipeline {name!r}; {hint}")
