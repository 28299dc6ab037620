"""
Deliveries of pull requests that failed while nobody was here, asked for once more.

Pushes need none of it: the repository itself tells where its branches and
tags are, and an old push delivered late could bring back old code.  Pull
requests are nowhere in it, so GitHub and GitLab, which keep what they
delivered, are asked which of it failed.  Only what still holds is sent again:
the newest of each pull request, if that has the same commit (or is closed)
now.  The delivery then comes by the usual door, with the id it had.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from leeroy.context import Context
from leeroy.db import house, remotes
from leeroy.db.engine import Database
from leeroy.errors import ConfigError, LeeroyError, Unavailable
from leeroy.forges import KEEPERS, place
from leeroy.forges.place import Place
from leeroy.forges.talk import Later, Talk, converse
from leeroy.forges.values import Failed
from leeroy.forges.wire import Wire
from leeroy.pipelines import Pipeline

T = TypeVar("T")

log = logging.getLogger(__name__)

AT_ONCE = 4
"""So many forges may hang before another has to wait."""
MOST = 50
"""So many deliveries of one repository are looked into after an absence."""
KEPT = timedelta(days=3)
"""How long GitHub keeps deliveries; what is older is no news."""
PAUSES_S = (5.0, 30.0, 120.0)
"""How long a forge that does not answer is left alone before the next try; then it is enough."""


class Redeliveries:
    """
    Has failed deliveries sent again, by threads of its own that nobody waits for.

    Raises nothing: what a token may not see, or a forge refuses, is a line in the log.
    """

    def __init__(self, database: Database, context: Context) -> None:
        self._database = database
        self._context = context
        self._wanted: queue.SimpleQueue[Sequence[Pipeline] | None] = queue.SimpleQueue()
        self._threads = 0
        self._closing = threading.Event()

    def ask(self, pipelines: Sequence[Pipeline]) -> None:
        """Look after the one repository of *pipelines*; returns at once.  From any one thread."""
        if self._closing.is_set() or pipelines[0].token is None:
            return
        self._wanted.put(pipelines)
        if self._threads < AT_ONCE:
            self._threads += 1
            threading.Thread(target=self._work, name="again", daemon=True).start()

    def close(self) -> None:
        """Begin nothing more; a request under way ends by itself."""
        self._closing.set()
        for _ in range(self._threads):
            self._wanted.put(None)

    def _work(self) -> None:
        while (pipelines := self._wanted.get()) is not None and not self._closing.is_set():
            name = pipelines[0].name
            try:
                self.redeliver(pipelines)
            except Unavailable as exc:
                log.warning("%s: failed deliveries cannot be asked for: %s", name, exc)
            except LeeroyError as exc:
                log.info("%s: failed deliveries are not asked for: %s", name, exc)
            except Exception:
                log.exception("%s: failed deliveries cannot be asked for", name)

    def redeliver(self, pipelines: Sequence[Pipeline]) -> int:
        """
        Have sent again what failed and still holds; how many deliveries those are.

        Raises:
            Unavailable: The forge or the database does not answer, for long.
            LeeroyError: The token may not see deliveries, or the forge refuses.
        """
        pipeline = pipelines[0]
        assert pipeline.token is not None
        names = [one.name for one in pipelines]
        where, since = self._database.read(partial(self._known, pipeline=pipeline, names=names))
        if where is None or since is None or where.forge not in KEEPERS:
            return 0
        try:
            token = self._context.secrets.get(pipeline.token).strip()
        except ConfigError:
            return 0  # `check`, and whoever needs it more, say so
        keeper = KEEPERS[where.forge]
        wire = Wire(keeper.headers(token), self._context.clock.now)
        url = f"{self._context.config.url.rstrip('/')}/hooks/{where.forge}"
        failed = self._patiently(lambda: keeper.failed(where, url, since), wire)
        count, within_s = keeper.RESENDS
        done: set[int] = set()
        for one in self._database.read(
            partial(_unknown, forge=where.forge, failed=failed, names=names)
        )[:MOST]:
            number = self._patiently(partial(keeper.holds, where, one), wire)
            if number is None or number in done:
                continue
            if done and len(done) % count == 0 and self._closing.wait(within_s):
                break
            self._patiently(partial(keeper.again, where, one), wire)
            done.add(number)
            log.info(
                "%s: a delivery of pull request %d had failed; %s was asked to send it again",
                pipeline.name,
                number,
                where.who,
            )
        return len(done)

    def _known(
        self, conn: Connection, pipeline: Pipeline, names: Sequence[str]
    ) -> tuple[Place | None, datetime | None]:
        """Where the repository is, and since when what it tells is news to us."""
        rows = [row for name, row in remotes.every(conn).items() if name in names]
        told = next((row.delivered_by for row in rows if row.delivered_by is not None), None)
        where = place.find(pipeline.repository, pipeline.api, pipeline.forge or told)
        first = min((row.first_at for row in rows if row.first_at is not None), default=None)
        oldest = self._context.clock.now() - KEPT
        return where, None if first is None else max(first, oldest)

    def _patiently(self, talk: Callable[[], Talk[T]], wire: Wire) -> T:
        """The outcome of a talk, begun anew when the forge wants it later."""
        for pause_s in PAUSES_S:
            try:
                return converse(talk(), wire)
            except Later as exc:
                now = self._context.clock.now()
                wish_s = 0.0 if exc.after is None else (exc.after - now).total_seconds()
                if self._closing.wait(max(pause_s, wish_s)):
                    raise
        return converse(talk(), wire)


def _unknown(
    conn: Connection, forge: str, failed: Sequence[Failed], names: Sequence[str]
) -> list[Failed]:
    """Those that some pipeline has not had: one that all had was answered, whatever was heard."""
    found = []
    for one in failed:
        taken = house.delivery(conn, forge, one.key)
        if taken is None or not all(map(taken.seen_by, names)):
            found.append(one)
    return found
