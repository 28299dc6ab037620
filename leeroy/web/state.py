"""What the routes share: the database, the context, and what is remembered for a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from leeroy.context import Context
from leeroy.db import house, remotes
from leeroy.db.engine import Database
from leeroy.db.house import Token
from leeroy.pipelines import Pipeline

_REMEMBER_S = 1.0
_NOTE_DELIVERY_S = 60.0


@dataclass
class Site:
    """
    One server's site.

    `pipelines` gives those in force; `key` signs stop links and logins.
    `ready` says why the server is not ready, None when it is.  `missed` is
    called when a delivery could not be stored: the repositories are to be asked.
    """

    database: Database
    context: Context
    key: bytes
    pipelines: Callable[[], Mapping[str, Pipeline]]
    ready: Callable[[], str | None] = lambda: None
    missed: Callable[[], None] = lambda: None
    started_at: float = field(default_factory=time.monotonic)
    _tokens: list[Token] = field(default_factory=list)
    _read_at: float = -1e9
    _delivered: dict[tuple[str, str], float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def tokens_are_fresh(self) -> bool:
        """Whether `tokens` answers without asking the database."""
        return time.monotonic() - self._read_at <= _REMEMBER_S

    def tokens(self) -> list[Token]:
        """Every token; at most a second old, so a removed one is of no use a second later."""
        with self._lock:
            if time.monotonic() - self._read_at > _REMEMBER_S:
                self._tokens = self.database.read(house.all_tokens)
                self._read_at = time.monotonic()
            return self._tokens

    def delivered(self, pipeline: str, forge: str) -> None:
        """A pipeline's delivery came: noted for `doctor` once a minute, beside the deliveries."""
        now = time.monotonic()
        if now - self._delivered.get((pipeline, forge), -1e9) > _NOTE_DELIVERY_S:
            self._delivered[pipeline, forge] = now
            at = self.context.clock.now()
            self.database.submit(partial(remotes.delivered, pipeline=pipeline, forge=forge, now=at))

    def forget_tokens(self) -> None:
        """A token was added or removed."""
        with self._lock:
            self._read_at = -1e9
