"""
What is thrown away, and when: old builds, and folders that nobody needs.

Removing twice is as good as once, and a crash in between leaves only what the
next round removes.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from leeroy import guard
from leeroy.context import Context
from leeroy.db import builds, deploys, house, remotes, steps
from leeroy.db.engine import Database
from leeroy.errors import LeeroyError
from leeroy.runner.runner import Runner
from leeroy.terms import State

ROUND_S = 600.0
FAILED_S = 86_400.0
"""A workspace of a failed build stays a day, for whoever wants to look into it."""
SEEN_S = 7 * 86_400.0
"""A delivery is sent again for at most three days (GitHub), so what it could be about stays."""
LAST_DEPLOYS = 5
_AT_ONCE = 100


def round_(database: Database, runner: Runner, context: Context) -> None:
    """Throw away what is due."""
    gone = database.transact(lambda conn: _old_builds(conn, context))
    database.transact(lambda conn: _seen(conn, context))
    for build_id in gone:
        remove(context.config.data / "artifacts" / str(build_id))
    _runs(database, runner)
    _workspaces(database, context)
    _artifacts(database, context)
    _homes(database, context)


def _old_builds(conn: Connection, context: Context) -> list[int]:
    before = context.clock.now() - timedelta(seconds=context.config.keep_s)
    kept = deploys.last_of_each(conn, LAST_DEPLOYS)
    old = builds.finished_before(conn, before, kept, _AT_ONCE)
    for build_id in old:
        builds.delete(conn, build_id)
    return old


def _seen(conn: Connection, context: Context) -> None:
    """What was seen in repositories long ago, and of pipelines that are gone."""
    before = context.clock.now() - timedelta(seconds=SEEN_S)
    remotes.tidy(conn, before, [name for name, s in house.shelf(conn).items() if s.present])


def _runs(database: Database, runner: Runner) -> None:
    """Run directories of steps whose end is recorded."""
    unsure = database.read(guard.frozen) is not None
    for run_id in runner.all():
        if unsure and database.read(partial(steps.of_run, run_id=run_id)) is None:
            continue  # what a restored database does not know is all that is left of it
        if database.read(partial(builds.needs_run, run_id=run_id)):
            continue
        with contextlib.suppress(LeeroyError, OSError):
            runner.forget(run_id)


def _homes(database: Database, context: Context) -> None:
    """Homes of forks' builds that are over: what one left there, no other build ever sees."""
    folder = context.config.data / "homes"
    for path in folder.glob(".fork-*") if folder.is_dir() else ():
        number = path.name.rpartition("-")[2]
        build = database.read(partial(builds.get, build_id=int(number)))
        if build is None or build.state.over:
            with contextlib.suppress(OSError):
                remove(path)


def _workspaces(database: Database, context: Context) -> None:
    unsure = database.read(guard.frozen) is not None
    for kind in ("workspaces", "tmp"):
        folder = context.config.data / kind
        for path in folder.iterdir() if folder.is_dir() else ():
            number = path.name.partition("-")[0]
            if not number.isdigit():
                continue
            build = database.read(partial(builds.get, build_id=int(number)))
            if build is None and unsure:
                continue
            if build is not None and not build.state.over:
                continue
            with contextlib.suppress(OSError):
                if build is None or time.time() - path.stat().st_mtime > FAILED_S:
                    remove(path)


def _artifacts(database: Database, context: Context) -> None:
    """Artifacts whose build is gone, and what a crash left of a copy or of a removal."""
    unsure = database.read(guard.frozen) is not None
    folder = context.config.data / "artifacts"
    for path in folder.iterdir() if folder.is_dir() else ():
        named = re.fullmatch(r"(\.new-|\.gone-)?([0-9]{1,18})", path.name)
        if named is None:
            continue
        build = database.read(partial(builds.get, build_id=int(named[2])))
        if named[1] == ".new-":
            needed = build is not None and build.state is State.building
        else:
            needed = build is not None or unsure
        with contextlib.suppress(OSError):
            if named[1] == ".gone-":
                shutil.rmtree(path, onerror=_again)
            elif not needed:
                remove(path)


def remove(path: Path) -> None:
    """Remove a folder, renamed first, so that nobody finds half of it."""
    gone = path.with_name(f".gone-{path.name}")
    try:
        path.rename(gone)
    except FileNotFoundError:
        return
    except OSError:
        shutil.rmtree(gone, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.rename(gone)
    # Scripts may have taken rights from their own folders (Go's module cache does).
    shutil.rmtree(gone, onerror=_again)


def _again(function: object, path: str, _: object) -> None:
    with contextlib.suppress(OSError):
        Path(path).parent.chmod(0o700)
        Path(path).chmod(0o700)
        if Path(path).is_dir() and not Path(path).is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)
