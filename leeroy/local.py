"""
The command line's other way: the same calls, done on the configured database.

With or without a running server; a server that runs notices the commit.
"""

from __future__ import annotations

import contextlib
import getpass
import os
from functools import partial
from typing import Any

from leeroy import context, guard, operations, shelf, views
from leeroy.calls import CALLS, read
from leeroy.clock import Clock
from leeroy.config import Config
from leeroy.context import host_name
from leeroy.db import schema
from leeroy.db.engine import Database
from leeroy.errors import Unavailable


class Local:
    """
    The configured database; `label` names it in messages.

    Where it cannot be written (a full disk) it is still read.  Never makes a
    database: a client that did would hide a wrong setting.

    Raises (from every method):
        Unavailable: There is none, it does not answer, or its schema is another's.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        url = config.database
        if url.startswith("sqlite:///"):
            file = url.removeprefix("sqlite:///")
            if not os.path.exists(file):  # noqa: PTH110 - the path as the URL has it
                where = config.file or "no leeroy.toml was found"
                raise Unavailable(
                    f"there is no database {file} ({where}); start `leeroy serve`, or set "
                    "LEEROY_SERVER to ask a server"
                )
        schema.ensure(url, migrate=False)
        self.context = context.make(config, clock, os.environ, new=False)
        self.database = Database(url, journal=self.context.journal, even_full=True)
        self.label = self.database.label
        self._arrived = False
        # On a full disk what is there can still be read; what changes it says why it cannot.
        with contextlib.suppress(Unavailable):
            self._arrive()

    def _arrive(self) -> None:
        """What a server does at its start: compare the database, and take up the pipelines."""
        if self._arrived:
            return
        guard.beat(self.database, self.context)
        found = shelf.look(self.context.config.pipelines)
        self.database.transact(partial(shelf.sync, context=self.context, found=found))
        self._arrived = True

    def call(self, name: str, /, **arguments: Any) -> Any:
        """One call of `leeroy.calls`; what it changes is committed when this returns."""
        given = read(CALLS[name], arguments)
        work = partial(operations.DO[name], context=self.context, actor=person(), **given)
        if CALLS[name].method == "GET":
            return self.database.read(work)
        self._arrive()
        return self.database.transact(work)

    def log(self, build_id: int, step: str | None, cursor: str) -> tuple[bytes, str, bool]:
        """A piece of a log: its bytes, where the next one starts, and whether it was the last."""
        piece = self.database.read(
            lambda conn: views.log_piece(conn, views.find(conn, build_id), step, cursor)
        )
        return piece.text, piece.cursor, piece.over

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()


def person() -> str:
    """Who asks, for the records."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return f"{os.environ.get('SUDO_USER') or name}@{host_name()}"
