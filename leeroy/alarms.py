"""The alarms as a sender sees them: rows made letters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from leeroy.context import Context
from leeroy.db import alarms
from leeroy.db.engine import Database
from leeroy.model import Alarm
from leeroy.notify.letter import AlarmLetter


class DatabaseAlarms:
    """The rows of `alarms`, for a sender of their own; see `leeroy.notify.sender.Outbox`."""

    def __init__(self, database: Database, context: Context) -> None:
        self._database = database
        self._context = context
        self._who = context.host_id

    async def _write(self, work: Callable[[Connection], None]) -> None:
        await self._database.ask(work)

    async def release(self) -> None:
        """What a sender of this host had claimed when it died may be sent."""
        if await self._any():
            await self._write(partial(alarms.release, who=self._who))

    async def _any(self) -> bool:
        # There hardly ever is one: a look costs less than a commit.
        return await asyncio.to_thread(self._database.read, alarms.waiting)

    async def claim(self, now: datetime, limit: int, busy: frozenset[str]) -> list[AlarmLetter]:
        if not await self._any():
            return []

        def work(conn: Connection) -> list[Alarm]:
            return alarms.claim(conn, now, limit, self._who, busy)

        found = await self._database.ask(work)
        return [AlarmLetter(alarm, self._context.config.url) for alarm in found]

    async def accepted(self, notice_id: int, recipient: str) -> None:
        await self._write(partial(alarms.accept, alarm_id=notice_id, recipient=recipient))

    async def sent(self, notice_id: int) -> None:
        values = {"state": "sent", "sent_at": self._context.clock.now()}
        await self._write(lambda conn: alarms.end(conn, notice_id, **values))

    async def failed(self, notice_id: int, error: str, next_try_at: datetime) -> None:
        await self._write(lambda conn: alarms.failed(conn, notice_id, error, next_try_at))

    async def dead(self, notice_id: int, error: str) -> None:
        await self._write(lambda conn: alarms.end(conn, notice_id, state="dead", last_error=error))

    async def obsolete(self, notice_id: int, why: str) -> None:
        await self._write(
            lambda conn: alarms.end(conn, notice_id, state="obsolete", last_error=why)
        )

    async def next_due(self) -> datetime | None:
        return await asyncio.to_thread(self._database.read, alarms.next_due)
