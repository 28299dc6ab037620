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


def _environment() -> dict[str, str]:
    """What the child may know: the way out, and none of the server's secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.upper().startswith(_PASSED_PARTS)
    }
    return kept | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}


class Courier:
    """Letters to the postman and answers from it; a dead postman is replaced at the next letter."""

    def __init__(
        self, python: str = sys.executable, deadline_s: float = 30.0, idle_s: float = 60.0
    ) -> None:
        self._python = python
        self._deadline_s = deadline_s
        self._idle_s = idle_s
        self._child: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[str | None]] = {}
        self._number = 0
        self._starting = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        return self._child.pid if self._child is not None else None

    async def deliver(self, url: str, message: Message, headers: Mapping[str, str]) -> str | None:
        """None once the service took the message; else why not, in a sentence without secrets."""
        return await self._ask({"url": url, "message": asdict(message), "headers": dict(headers)})

    async def check(self, url: str) -> str | None:
        """Why Apprise cannot use the address; None when it can.  Nothing is sent."""
        return await self._ask({"url": url, "check": True})

    async def close(self) -> None:
        """End the child, at the latest after 1.5 s; what it was doing counts as not delivered."""
        child, self._child = self._child, None
        if self._idle is not None:
            self._idle.cancel()
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        try:
            await asyncio.wait_for(child.wait(), 1.5)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        if self._reader is not None:
            await self._reader

    async def _ask(self, letter: dict[str, Any]) -> str | None:
        child = await self._running()
        self._number += 1
        number = self._number
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            if child.stdin is None:
                return "the postman has no ears"
            child.stdin.write(json.dumps({"id": number, **letter}).encode() + b"\n")
            await child.stdin.drain()
            # The child keeps the deadline; this one is for a child that is stopped itself.
            return await asyncio.wait_for(answer, self._deadline_s + 5)
        except (ConnectionError, RuntimeError):
            return "the postman died while it delivered this"
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            return "the postman did not answer"
        finally:
            self._answers.pop(number, None)
            if not self._answers:
                self._rest()

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._dismiss)

    def _dismiss(self) -> None:
        if not self._answers and self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
            self._child = None

    async def _running(self) -> asyncio.subprocess.Process:
        async with self._starting:
            if self._child is None or self._child.returncode is not None:
                self._child = await asyncio.create_subprocess_exec(
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
                self._reader = asyncio.create_task(self._read(self._child, self._answers))
            return self._child

    async def _read(
        self,
        child: asyncio.subprocess.Process,
        answers: dict[int, asyncio.Future[str | None]],
    ) -> None:
        first = self._number
        assert child.stdout is not None
        async for line in child.stdout:
            told = json.loads(line)
            answer = answers.get(told["id"])
            if answer is not None and not answer.done():
                answer.set_result(None if told["ok"] else told["error"] or "it failed")
        await child.wait()
        if self._child is child:
            self._child = None
        last = self._number if self._child is None else first
        for number, answer in list(answers.items()):
            if first < number <= last and not answer.done():
                answer.set_result("the postman died while it delivered this")
