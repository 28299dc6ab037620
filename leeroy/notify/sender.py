"""
The coroutine that sends what waits in the outbox.

It holds nothing that matters: every acceptance is written down before the
next step, and a row it had claimed when it died is claimed again.  So a notice
may arrive twice, but is never lost in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from leeroy.clock import Clock
from leeroy.errors import LeeroyError, Unavailable
from leeroy.model import Build
from leeroy.notify import targets
from leeroy.notify.courier import Courier
from leeroy.notify.letter import AlarmLetter, Letter

log = logging.getLogger(__name__)

CLAIM_AT_ONCE = 16
IN_HAND = 4
"""How many letters one target may have on their way, so that its hanging leaves room for others."""
_BAD_DAY_S = 5.0
_LOOK_S = 30.0
"""The longest pause, so that a clock that was set or a row nobody told of delays little."""
_BLOCKED_S = 1.0
_LAST_WORDS_S = 1.5
"""How long letters on their way may still be answered at a shutdown, so that few come twice."""


@dataclass(frozen=True)
class Patience:
    """
    How long to wait after each failure (the last one repeats), and when to give up.

    What some recipients of a target have and another refuses is given up after `partly_s`:
    until then the later notices of that build wait, for all of them.
    """

    pauses_s: tuple[float, ...] = (2, 10, 30, 60, 300, 900)
    urgent_s: tuple[float, ...] = (1, 2, 3, 5, 8, 15)
    gives_up_s: float = 86_400
    partly_s: float = 600

    def pause(self, attempts: int, *, urgent: bool) -> timedelta:
        """The pause after so many earlier attempts."""
        steps = self._steps(urgent)
        return timedelta(seconds=steps[min(attempts, len(steps) - 1)])

    def is_over(self, age_s: float, attempts: int, *, urgent: bool, partly: bool) -> bool:
        """
        Whether a notice so old is given up when it fails again after *attempts* earlier failures.

        Never before every pause was made: a day in which the server was down is none in which
        it was tried.
        """
        gives_up_s = self.partly_s if partly else self.gives_up_s
        return age_s >= gives_up_s and attempts >= len(self._steps(urgent)) - 1

    def _steps(self, urgent: bool) -> tuple[float, ...]:
        return self.urgent_s if urgent else self.pauses_s


class Outbox(Protocol):
    """The rows that wait; kept by the database."""

    async def claim(
        self, now: datetime, limit: int, busy: frozenset[str]
    ) -> Sequence[Letter | AlarmLetter]:
        """Due rows of targets that are not *busy*, at most one per build and target."""

    async def accepted(self, notice_id: int, recipient: str) -> None:
        """That recipient has it and never gets it again; an announcement counts as heard."""

    async def sent(self, notice_id: int) -> None:
        """Every recipient has it."""

    async def failed(self, notice_id: int, error: str, next_try_at: datetime) -> None:
        """Not everybody has it; one more attempt is counted."""

    async def dead(self, notice_id: int, error: str) -> None:
        """It is given up."""

    async def obsolete(self, notice_id: int, why: str) -> None:
        """There is nobody to tell, such as an author without a mail address."""

    async def next_due(self) -> datetime | None:
        """
        When `claim` will have something to give.

        A row whose turn has not come (an earlier one of its build and target waits) does not
        count: it would keep the sender awake.
        """


class Sender:
    """
    Sends notices until cancelled; the trouble of one letter is that letter's alone.

    *resolve* makes a target's name an Apprise address (None: there is nobody to tell) and
    raises a LeeroyError when it cannot; it is asked anew at every attempt.
    """

    def __init__(
        self,
        outbox: Outbox,
        resolve: Callable[[str, Build | None], str | None],
        clock: Clock,
        python: str = sys.executable,
        *,
        patience: Patience | None = None,
        deadline_s: float = 30.0,
    ) -> None:
        self._outbox = outbox
        self._resolve = resolve
        self._clock = clock
        self._patience = patience or Patience()
        self._courier = Courier(python, deadline_s)
        self._awake = asyncio.Event()
        self._in_hand: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def courier(self) -> Courier:
        """The way to the postman (for `leeroy notify test` and `doctor`)."""
        return self._courier

    def wake(self) -> None:
        """There are new rows; call it after their commit, in the sender's own loop."""
        self._awake.set()

    async def run(self) -> None:
        """Send until cancelled; letters on their way then have 1.5 s, and are left claimed."""
        try:
            while True:
                self._awake.clear()
                try:
                    pause = await self._round()
                except Unavailable as exc:
                    log.warning("the outbox cannot be read; trying again: %s", exc)
                    pause = _BAD_DAY_S
                except Exception:
                    log.exception("the outbox cannot be read; trying again")
                    pause = _BAD_DAY_S
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._awake.wait(), pause)
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_LAST_WORDS_S)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """End the child within 2 s."""
        await self._courier.close()

    async def _round(self) -> float:
        """Claim what is due and start to send it; how many seconds until there may be more."""
        now = self._clock.now()
        busy = frozenset(target for target, n in self._in_hand.items() if n >= IN_HAND)
        letters = await self._outbox.claim(now, CLAIM_AT_ONCE, busy)
        for letter in letters:
            self._in_hand[letter.notice.target] += 1
            task = asyncio.create_task(self._send(letter))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if len(letters) == CLAIM_AT_ONCE:
            return 0.0
        due = await self._outbox.next_due()
        if due is None:
            return _LOOK_S
        if due <= now and not letters:
            # It belongs to a busy target: the end of one of its letters wakes us.
            return _BLOCKED_S
        return min(max((due - self._clock.now()).total_seconds(), 0.0), _LOOK_S)

    async def _send(self, letter: Letter | AlarmLetter) -> None:
        try:
            await self._attempt(letter)
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            log.exception("a notice could not be sent", extra={"notice": letter.notice.id})
            await self._fail(letter, f"{type(exc).__name__}: see the server's log", partly=False)
        finally:
            self._in_hand[letter.notice.target] -= 1
            self._awake.set()

    async def _attempt(self, letter: Letter | AlarmLetter) -> None:
        notice = letter.notice
        try:
            url = self._resolve(notice.target, letter.build)
            recipients = () if url is None else targets.split(url)
        except LeeroyError as exc:
            await self._fail(letter, str(exc), partly=False)
            return
        if not recipients:
            await self._persist(lambda: self._outbox.obsolete(notice.id, "there is nobody to tell"))
            return
        words = letter.words(self._clock.now())
        named = letter.headers()

        async def one(recipient: targets.Recipient) -> str | None:
            error = await self._courier.deliver(recipient.url, words, named)
            if error is None:
                await self._persist(lambda: self._outbox.accepted(notice.id, recipient.name))
                return None
            return f"{recipient.name}: {error}"

        left = [one(r) for r in recipients if r.name not in notice.accepted]
        errors = [error for error in await asyncio.gather(*left) if error is not None]
        if errors:
            await self._fail(letter, "; ".join(errors), partly=len(errors) < len(recipients))
        else:
            await self._persist(lambda: self._outbox.sent(notice.id))

    async def _fail(self, letter: Letter | AlarmLetter, error: str, *, partly: bool) -> None:
        notice, now = letter.notice, self._clock.now()
        age_s = (now - notice.created_at).total_seconds()
        if self._patience.is_over(age_s, notice.attempts, urgent=letter.urgent, partly=partly):
            log.error("a notice is given up", extra={"notice": notice.id, "error": error})
            await self._persist(lambda: self._outbox.dead(notice.id, error))
            return
        at = now + self._patience.pause(notice.attempts, urgent=letter.urgent)
        log.warning("a notice failed", extra={"notice": notice.id, "error": error})
        await self._persist(lambda: self._outbox.failed(notice.id, error, at))

    async def _persist(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write it down, however long the database is away: what was sent is not sent again."""
        pause_s = 0.5
        while True:
            try:
                return await write()
            except Unavailable as exc:
                log.warning("the outbox cannot be written; trying again: %s", exc)
            except Exception:
                log.exception("the outbox cannot be written; trying again")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 15.0)
