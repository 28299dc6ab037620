"""What the routes share: the database, the context, and what is remembered for a moment."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from leeroy.context import Context
from leeroy.db import house, remotes
from leeroy.db.engine import Database
from leeroy.db.house import Token
from leeroy.db.replies import T, Work
from leeroy.errors import Unavailable
from leeroy.pipelines import Pipeline

ANSWER_S = 4.5
"""GitHub, GitLab and Bitbucket wait 10 s for an answer, Gitea 5 s; nobody else waits longer."""
AGAIN = {"Retry-After": "5"}
"""What every 503 says."""
_READERS = 8
_REMEMBER_S = 1.0
_NOTE_DELIVERY_S = 60.0


@dataclass
class Site:
    """
    One server's site; used in its event loop only.

    Whoever asks the database does so by `ask` and `read`: each raises
    Unavailable after ANSWER_S, so that a database that hangs has nobody wait.

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
    tokens: list[Token] = field(default_factory=list)
    _read_at: float = -1e9
    _forgotten: bool = False
    _delivered: dict[tuple[str, str], float] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Threads of its own: those that wait for a database that hangs must not be missed elsewhere.
    _readers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_READERS, "leeroy-read")
    )

    def __post_init__(self) -> None:
        # All of them now: once a script has taken every process there is, none can be started.
        together = threading.Barrier(_READERS)
        for _ in range(_READERS):
            self._readers.submit(together.wait)

    async def ask(self, work: Work[T]) -> T:
        """
        Run *work* in a writing transaction; the answer comes after its commit.

        Raises Unavailable when that takes too long.  What had begun is not
        taken back and may be stored later; what had not is never begun.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self.database.ask(work)
        except TimeoutError as exc:
            raise Unavailable(
                f"the database {self.database.label} has not stored it within {ANSWER_S:g} s and "
                "may do so later; a delivery or a stop may simply come again: it counts once"
            ) from exc

    async def read(self, work: Work[T]) -> T:
        """Run *work* on one consistent picture; raises Unavailable when that takes too long."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_S):
                return await loop.run_in_executor(self._readers, self.database.read, work)
        except TimeoutError as exc:
            raise self._too_slow() from exc

    async def see_tokens(self) -> None:
        """Have `tokens` at most a second old, so that a removed one is of no use a second later."""
        if self._fresh():
            return
        try:
            async with asyncio.timeout(ANSWER_S), self._lock:
                while not self._fresh():
                    self._forgotten, asked_at = False, time.monotonic()
                    self.tokens = await self.read(house.all_tokens)
                    if not self._forgotten:
                        self._read_at = asked_at
                        break
        except TimeoutError as exc:
            raise self._too_slow() from exc

    def _fresh(self) -> bool:
        return time.monotonic() - self._read_at <= _REMEMBER_S

    def _too_slow(self) -> Unavailable:
        return Unavailable(
            f"the database {self.database.label} has not answered within {ANSWER_S:g} s; try again"
        )

    def delivered(self, pipeline: str, forge: str) -> None:
        """A pipeline's delivery came: noted for `doctor` once a minute, beside the deliveries."""
        now = time.monotonic()
        if now - self._delivered.get((pipeline, forge), -1e9) > _NOTE_DELIVERY_S:
            self._delivered[pipeline, forge] = now
            at = self.context.clock.now()
            self.database.submit(partial(remotes.delivered, pipeline=pipeline, forge=forge, now=at))

    def forget_tokens(self) -> None:
        """A token was added or removed."""
        self._read_at, self._forgotten = -1e9, True

    def close(self) -> None:
        """No more is read; nobody waits for a thread whose read hangs."""
        self._readers.shutdown(wait=False, cancel_futures=True)
