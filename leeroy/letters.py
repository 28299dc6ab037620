"""
The outbox as the sender sees it: rows made letters, with today's facts.

Also the stop links: who was sent one, and what it gives the right to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from secrets import token_bytes
from typing import Any, TypeVar

from sqlalchemy import Connection

from leeroy import gates, onward, stoplink
from leeroy.context import Context
from leeroy.db import builds, deploys, house, logs, outbox, steps
from leeroy.db.engine import Database
from leeroy.errors import ConfigError, Unavailable
from leeroy.model import Build, Notice, Step
from leeroy.notify import targets
from leeroy.notify.compose import News
from leeroy.notify.letter import Letter
from leeroy.terms import State
from leeroy.verdict import gather
from leeroy.views import failed_step

T = TypeVar("T")

_KEY = "stop_key"
_TAIL = 4000


def stop_key(conn: Connection) -> bytes:
    """The key of all stop links; made once, in a writing transaction."""
    found = house.setting(conn, _KEY)
    if found is None:
        found = token_bytes(32).hex()
        house.set_setting(conn, _KEY, found)
    return bytes.fromhex(found)


def resolver(context: Context) -> Callable[[str, Build | None], str | None]:
    """What makes a target's name an Apprise address; None when there is nobody to tell."""

    def resolve(target: str, build: Build | None) -> str | None:
        if target == "author":
            if context.config.mail is None or build is None:
                return None
            mail = _value(context, context.config.mail)
            return targets.author(mail, build.author_email)
        return _value(context, target)

    return resolve


def _value(context: Context, reference: str) -> str:
    if reference.startswith(("env:", "file:")):
        return context.secrets.get(reference)
    return reference


class DatabaseOutbox:
    """The rows of `outbox`, for the sender's loop; see `leeroy.notify.sender.Outbox`."""

    def __init__(self, database: Database, context: Context, key: bytes) -> None:
        self._database = database
        self._context = context
        self._key = key
        self._who = context.host_id
        self._in_hand: set[int] = set()
        self._unsure = False

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._database.ask(work)

    async def release(self) -> None:
        """What a sender of this host had claimed when it died may be sent."""
        await self._write(lambda conn: outbox.release(conn, self._who))

    async def claim(self, now: datetime, limit: int, busy: frozenset[str]) -> list[Letter]:
        in_hand, unsure = frozenset(self._in_hand), self._unsure

        def work(conn: Connection) -> list[Letter]:
            if unsure:
                outbox.release(conn, self._who, in_hand)
            found = outbox.claim(conn, now, limit, self._who, busy)
            return [Letter(notice, self._news(conn, notice)) for notice in found]

        try:
            letters = await self._write(work)
        except Unavailable:
            self._unsure = True  # it may be stored all the same, and would be nobody's
            raise
        self._unsure = False
        self._in_hand |= {letter.notice.id for letter in letters}
        return letters

    async def _end(self, notice_id: int, work: Callable[[Connection], None]) -> None:
        await self._write(work)
        self._in_hand.discard(notice_id)

    async def accepted(self, notice_id: int, recipient: str) -> None:
        now = self._context.clock.now()
        await self._write(lambda conn: outbox.accept(conn, notice_id, recipient, now))

    async def sent(self, notice_id: int) -> None:
        now = self._context.clock.now()
        await self._end(notice_id, lambda conn: outbox.sent(conn, notice_id, now))

    async def failed(self, notice_id: int, error: str, next_try_at: datetime) -> None:
        await self._end(notice_id, lambda conn: outbox.failed(conn, notice_id, error, next_try_at))

    async def dead(self, notice_id: int, error: str) -> None:
        await self._end(notice_id, lambda conn: outbox.dead(conn, notice_id, error))

    async def obsolete(self, notice_id: int, why: str) -> None:
        await self._end(notice_id, lambda conn: outbox.obsolete(conn, notice_id, why))

    async def next_due(self) -> datetime | None:
        return await asyncio.to_thread(self._database.read, outbox.next_due)

    def _news(self, conn: Connection, notice: Notice) -> News:
        """Today's facts of the move a notice tells of."""
        context = self._context
        build = builds.get(conn, notice.build_id)
        event = builds.event(conn, notice.build_id, notice.seq)
        assert build is not None and event is not None, "a notice without its build"
        facts: dict[str, Any] = {}
        if event.environment is not None:
            facts["deploy"] = deploys.get(conn, build.id, event.environment)
            place = deploys.environment(conn, build.pipeline, event.environment)
            facts["runs_commit"] = None if place is None else place.runs_commit
            facts |= self._pending(conn, build, event.environment, notice)
        if event.to_state in (State.failed, State.deploy_failed, State.interrupted):
            step = failed_step(steps.of(conn, build.id))
            facts["step"] = step
            facts["log_tail"] = _tail(conn, step)
        if event.to_state.over:
            facts["head"] = gather.head(conn, build)
        now = context.clock.now()
        return News(build=build, event=event, url=context.config.url, now=now, **facts)

    def _pending(
        self, conn: Connection, build: Build, environment: str, notice: Notice
    ) -> dict[str, Any]:
        try:
            planned = [d.environment for d in onward.pipeline_of(build).deploys]
        except ConfigError:
            return {}
        if environment not in planned:
            return {}
        index = planned.index(environment)
        plan = onward.pipeline_of(build).deploys[index]
        facts: dict[str, Any] = {"grace_s": 0.0 if build.without_grace else plan.grace_s}
        if build.state is State.deploy_pending and build.environment == environment:
            known = gates.facts(conn, build, plan, now=self._context.clock.now())
            wait = gates.closed(known, [g for g in gates.BEFORE_GRACE if g is not gates.heard])
            facts["waiting_for"] = None if wait is None else wait.sentence
            closed = gates.window(known)
            facts["opens_at"] = None if closed is None else closed.until
            token = stoplink.token(self._key, build.id, index, notice.target)
            facts["stop_url"] = f"{self._context.config.url}/stop/{token}"
        return facts


def _tail(conn: Connection, step: Step | None) -> str | None:
    if step is None:
        return None
    return logs.tail(conn, step.id, _TAIL).decode("utf-8", "replace")
