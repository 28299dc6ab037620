"""
The child process that knows Apprise: letters in, answers out, nothing kept.

A line of JSON on stdin is a letter {"id", "url", "message", "headers"}; with
"check": true its address is only looked at.  A line on stdout answers it
{"id", "ok", "error"}.  Each letter has a thread and a hard deadline, so a
service that hangs delays nobody else.  No address and no secret is ever
printed.  It ends at once when stdin closes, whatever its threads are doing.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
import warnings
from typing import Any

from leeroy.notify.compose import Message
from leeroy.notify.shape import shape
from leeroy.notify.targets import MAIL, scheme, secrets
from leeroy.notify.words import one_line

DEADLINE_S = 30.0
TOO_MANY_HANGING = 64
"""With so many threads that never came back it is better to start anew."""


class Said(logging.Handler):
    """What Apprise logged, by thread: the only place where it says why something failed."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.by_thread: dict[int, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        # Of the small print only the cause of a broken connection is of use.
        if record.levelno >= logging.WARNING or text.startswith("Socket Exception"):
            self.by_thread.setdefault(threading.get_ident(), []).append(text)

    def take(self) -> str:
        """What this thread was told, and forget it."""
        return " ".join(self.by_thread.pop(threading.get_ident(), []))


class Postman:
    """Delivers letters, each in its own thread; the first answer to a letter counts."""

    def __init__(self, out: int, deadline_s: float) -> None:
        self._out = out
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._due: dict[int, float] = {}
        self._hanging = 0
        self._said = Said()
        logger = logging.getLogger("apprise")
        logger.addHandler(self._said)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False

    def take(self, letter: dict[str, Any]) -> None:
        """Start to deliver a letter."""
        with self._lock:
            self._due[letter["id"]] = time.monotonic() + self._deadline_s
        threading.Thread(target=self._carry, args=(letter,), daemon=True).start()

    def expire(self) -> float | None:
        """Answer the letters whose time is up; seconds until the next one, None without any."""
        now = time.monotonic()
        with self._lock:
            late = [number for number, due in self._due.items() if due <= now]
        for number in late:
            if self._answer(number, f"no answer within {self._deadline_s:g} s"):
                with self._lock:
                    self._hanging += 1
        with self._lock:
            if not self._due and self._hanging >= TOO_MANY_HANGING:
                os._exit(0)
            return max(0.0, min(self._due.values()) - now) if self._due else None

    def _answer(self, number: int, error: str | None) -> bool:
        """Answer a letter; False when that was done before."""
        with self._lock:
            if self._due.pop(number, None) is None:
                return False
            line = json.dumps({"id": number, "ok": error is None, "error": error})
            os.write(self._out, line.encode() + b"\n")
            return True

    def _carry(self, letter: dict[str, Any]) -> None:
        error: str | None
        try:
            error = self._send(letter)
        except Exception as exc:  # any plugin may raise anything; the letter must be answered
            error = f"{type(exc).__name__}: {exc}"
        said = self._said.take()
        if error is not None:
            error = veiled(f"{error} {said}", letter["url"])
        if not self._answer(letter["id"], error):
            with self._lock:
                self._hanging -= 1

    def _send(self, letter: dict[str, Any]) -> str | None:
        import apprise

        url = str(letter["url"])
        asset = apprise.AppriseAsset(
            app_id="Leeroy", app_desc="Leeroy", http_redirects=False, service_timeout=0
        )
        plugin: Any = apprise.Apprise.instantiate(url, asset=asset)
        if plugin is None:
            return f"this {scheme(url)}:// address cannot be used."
        if letter.get("check"):
            return None
        plugin.redirects = False  # also when the address says yes: they would carry tokens along
        plugin.request_rate_per_sec = 0
        if "cto=" not in url:
            plugin.socket_connect_timeout = 10
        if "rto=" not in url:
            plugin.socket_read_timeout = 20
        if scheme(url) in MAIL:
            plugin.headers = {**letter.get("headers", {}), **plugin.headers}
        formats = [one.value for one in plugin._formats()]
        fit = shape(
            scheme(url),
            formats,
            plugin.body_maxlen,
            plugin.title_maxlen,
            Message(**letter["message"]),
        )
        plugin.overflow_mode = apprise.OverflowMode.TRUNCATE
        ok = plugin.notify(title=fit.title, body=fit.body, body_format=fit.format)
        return None if ok else f"{plugin.service_name} did not take it."


def veiled(text: str, url: str) -> str:
    """The text on one line, with nothing of the address in it that may be a secret."""
    for secret in secrets(url):
        text = text.replace(secret, "***")
    return one_line(text, 400)


def main() -> None:
    """Deliver until stdin closes."""
    # Plugins may print: their words must neither mix with the answers nor reach a log.
    out = os.dup(1)
    os.set_inheritable(out, False)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    logging.lastResort = None
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    deadline_s = float(sys.argv[1]) if len(sys.argv) > 1 else DEADLINE_S
    postman = Postman(out, deadline_s)
    rest = b""
    while True:
        left = postman.expire()
        if not select.select([0], [], [], left)[0]:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            os._exit(0)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            postman.take(json.loads(line))


if __name__ == "__main__":
    main()
