"""
The server's end of the postman: starts the child, hands it letters, waits for answers.

The child is started when the first letter is due and ended when it has had
nothing to do for a while: Apprise's memory is not spent on an idle server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leeroy.notify.compose import Message

_PASSED = ("PATH", "LANG", "TZ", "HOME", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PASSED_PARTS = ("LC_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_DIED = "the postman died while it delivered this"


def _environment() -> dict[str, str]:
    """What the child may know: the way out, and none of the server's secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.upper().startswith(_PASSED_PARTS)
    }
    return kept | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}


class _Child:
    """One postman and the letters it has; when it is gone, each of them has its answer."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.alive = True
        """False as soon as its end was seen, also before it is reaped: it answers no more."""
        self.answers: dict[int, asyncio.Future[str | None]] = {}
        self.reader = asyncio.create_task(self._read())

    def write(self, letter: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(letter).encode() + b"\n")

    async def drain(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.drain()

    def dismiss(self) -> None:
        """Let it end: it does as soon as its stdin closes."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            told = json.loads(line)
            answer = self.answers.get(told["id"])
            if answer is not None and not answer.done():
                answer.set_result(None if told["ok"] else told["error"] or "it failed")
        self.alive = False
        for answer in self.answers.values():
            if not answer.done():
                answer.set_result(_DIED)
        await self.process.wait()


class Courier:
    """Letters to the postman and answers from it; a dead postman is replaced at the next letter."""

    def __init__(
        self, python: str = sys.executable, deadline_s: float = 30.0, idle_s: float = 60.0
    ) -> None:
        self._python = python
        self._deadline_s = deadline_s
        self._idle_s = idle_s
        self._child: _Child | None = None
        self._former: set[_Child] = set()
        self._number = 0
        self._starting = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        child = self._child
        return child.process.pid if child is not None and child.alive else None

    async def deliver(self, url: str, message: Message, headers: Mapping[str, str]) -> str | None:
        """None once the service took the message; else why not, in a sentence without secrets."""
        return await self._ask({"url": url, "message": asdict(message), "headers": dict(headers)})

    async def check(self, url: str) -> str | None:
        """Why Apprise cannot use the address; None when it can.  Nothing is sent."""
        return await self._ask({"url": url, "check": True})

    async def close(self) -> None:
        """End the child, at the latest after 1.5 s; what it was doing counts as not delivered."""
        if self._idle is not None:
            self._idle.cancel()
        self._part()
        if not self._former:
            return
        for child in list(self._former):
            child.dismiss()
        await asyncio.wait([child.reader for child in self._former], timeout=1.5)
        for child in list(self._former):
            child.kill()
        await asyncio.gather(*(child.reader for child in self._former), return_exceptions=True)

    async def _ask(self, letter: dict[str, Any]) -> str | None:
        try:
            child = await self._running()
        except OSError as exc:
            return f"the postman cannot be started: {exc.strerror}"
        self._number += 1
        number = self._number
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        child.answers[number] = answer
        try:
            # The child keeps the deadline; this one is for a child that is stopped itself.
            async with asyncio.timeout(self._deadline_s + 5):
                child.write({"id": number, **letter})
                await child.drain()
                return await answer
        except (ConnectionError, RuntimeError):
            return _DIED
        except TimeoutError:
            child.kill()
            if self._child is child:
                self._part()
            return "the postman did not answer"
        finally:
            child.answers.pop(number, None)
            if not child.answers:
                self._rest()

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._dismiss)

    def _dismiss(self) -> None:
        if self._child is not None and not self._child.answers:
            self._child.dismiss()
            self._part()

    def _part(self) -> None:
        """The child is no longer the one that gets letters; it is waited for until it ended."""
        child, self._child = self._child, None
        if child is not None and not child.reader.done():
            self._former.add(child)
            child.reader.add_done_callback(lambda _: self._former.discard(child))

    async def _running(self) -> _Child:
        async with self._starting:
            if self._child is None or not self._child.alive:
                self._part()
                process = await asyncio.create_subprocess_exec(
                    self._python,
                    "-P",
                    "-m",
                    "leeroy.notify.postman",
                    str(self._deadline_s),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    env=_environment(),
                    start_new_session=True,
                )
                self._child = _Child(process)
            return self._child
