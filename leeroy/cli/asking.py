"""Whom a command asks: a server (LEEROY_SERVER, --server), or the configured database."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from leeroy.client import Server
from leeroy.clock import Clock, utc_now


class Leeroy(Protocol):
    """Whoever answers: both ways have the same calls."""

    label: str

    def call(self, name: str, /, **arguments: Any) -> Any:
        """One call of `leeroy.calls`; arguments that are None are left out."""

    def log(self, build_id: int, step: str | None, cursor: str) -> tuple[bytes, str, bool]:
        """A piece of a log: its bytes, where the next one starts, and whether it was the last."""

    def close(self) -> None:
        """Let go of it."""


def clock() -> Clock:
    """The time as it is."""
    return Clock(utc_now, time.monotonic)


@contextmanager
def leeroy(server: str | None, config: str | None) -> Iterator[Leeroy]:
    """The Leeroy that a command asks."""
    url = server or os.environ.get("LEEROY_SERVER")
    found: Leeroy
    if url:
        found = Server(url, os.environ.get("LEEROY_TOKEN"))
    else:
        from leeroy.config import load
        from leeroy.local import Local

        found = Local(load(config), clock())
    try:
        yield found
    finally:
        found.close()
