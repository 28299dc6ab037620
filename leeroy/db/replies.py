"""Who waits for the database: threads and coroutines, and how both get their answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
Work: TypeAlias = Callable[[Connection], T]
"""A piece of work: a function of an open connection, which may be run once more."""
Reply: TypeAlias = "Future[Any] | asyncio.Future[Any]"
"""Where the answer is waited for: by a thread, or by a coroutine of an event loop."""
Job: TypeAlias = tuple[Work[Any], Reply]
Answer: TypeAlias = tuple[Reply, Any, BaseException | None]
"""To whom, what, and instead of it an error."""


def settle(answers: Iterable[Answer]) -> None:
    """
    Answer everybody.  May be called from any thread.

    Whoever has given up meanwhile (a server that stops) is passed over.  The
    coroutines of one loop are woken together, after the threads: each waking
    hands the interpreter over, and takes longer than an answer.
    """
    loops: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for one in answers:
        reply, value, error = one
        if isinstance(reply, asyncio.Future):
            loops.setdefault(reply.get_loop(), []).append(one)
            continue
        with contextlib.suppress(InvalidStateError):
            if error is None:
                reply.set_result(value)
            else:
                reply.set_exception(error)
    for loop, theirs in loops.items():
        with contextlib.suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(_wake, theirs)


def _wake(answers: Iterable[Answer]) -> None:
    for reply, value, error in answers:
        if reply.done():
            continue
        if error is None:
            reply.set_result(value)
        else:
            reply.set_exception(error)
