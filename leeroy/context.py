"""
What one Leeroy process stands on: its settings, secrets, clock, and who it is.

Passed to everything that decides, so that nothing reads a clock or an
environment by itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

from leeroy.clock import Clock
from leeroy.config import Config, Secrets
from leeroy.journal import NAME, Journal
from leeroy.pipelines import Target


@dataclass(frozen=True)
class Context:
    """
    What one process stands on.

    `host_id` is kept in the data folder and stays the same over restarts;
    `host_name` is for people.  `journal` is what this host knows to be committed.
    """

    config: Config
    secrets: Secrets
    clock: Clock
    host_id: str
    host_name: str
    environ: Mapping[str, str]
    journal: Journal | None = None

    @property
    def house(self) -> Sequence[Target]:
        """The targets that hear every pipeline."""
        return self.config.notify

    @property
    def scheduler(self) -> str:
        """The actor of moves that nobody asked for."""
        return f"scheduler@{self.host_name}"

    def at_one_moment(self) -> Context:
        """
        The same with a wall clock that stands still: for one transaction.

        All that a transaction writes has one time then, so whoever reads a
        history sees what happened together as together.
        """
        now = self.clock.now()
        return replace(self, clock=replace(self.clock, now=lambda: now))

    def short_of_room(self) -> str | None:
        """Why nothing new may start for want of disk; None when there is room."""
        try:
            free = shutil.disk_usage(self.config.data).free
        except OSError as exc:
            return f"the disk of {self.config.data} cannot be asked: {exc.strerror}"
        if free >= self.config.min_free:
            return None
        return (
            f"only {free // 1_000_000} MB are free at {self.config.data}, and min_free is "
            f"{self.config.min_free // 1_000_000} MB; make room"
        )


def make(config: Config, clock: Clock, environ: Mapping[str, str], *, new: bool) -> Context:
    """The context of this process; *new*: this host may be given its id now."""
    return Context(
        config=config,
        secrets=Secrets(config, environ),
        clock=clock,
        host_id=host_id(config.data, make=new),
        host_name=host_name(),
        environ=dict(environ),
        journal=_journal(config.data, make=new),
    )


def _journal(data: Path, *, make: bool) -> Journal | None:
    """This host's journal; None for whoever may not write it (a client elsewhere)."""
    if make or os.access(data / NAME, os.R_OK | os.W_OK):
        return Journal(data)
    return None


def host_id(data: Path, *, make: bool) -> str:
    """The id of this host as kept in *data*; made once (durably) where *make* says so."""
    file = data / "host"
    with contextlib.suppress(FileNotFoundError):
        return file.read_text(encoding="ascii").strip()
    if not make:
        return ""
    made = f"{host_name()}-{token_hex(4)}"
    new = data / f"host.{os.getpid()}"
    with new.open("w", encoding="ascii") as stream:
        stream.write(made)
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(new, file)
    except FileExistsError:
        made = file.read_text(encoding="ascii").strip()
    finally:
        new.unlink()
    return made


def host_name() -> str:
    """The host's name for people."""
    return socket.gethostname().partition(".")[0] or "localhost"
