"""What happens in the demo, told as it happens."""

from __future__ import annotations

import contextlib
import queue
import re
import sys
import threading
import time
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any, TextIO
from urllib.parse import urlsplit

from leeroy import showing
from leeroy.client import Server
from leeroy.demo.stage import Stage
from leeroy.errors import Unavailable

_PATIENCE_S = 45.0
_LOOK_S = 0.2


class Story:
    """Tells on *to*; with a countdown where that is a terminal."""

    def __init__(self, stage: Stage, to: TextIO) -> None:
        self._stage = stage
        self._to = to

    def say(self, text: str) -> None:
        """A line of the storyteller."""
        mark = "\x1b[1;32m▸\x1b[0m" if showing.colourful(self._to) else ">"
        self._line(f"{mark} {text}")

    def _line(self, text: str) -> None:
        print(text, file=self._to, flush=True)

    def tell(self) -> list[dict[str, Any]]:
        """
        Two pushes: the first one's deploy is stopped by its link, the second one's is done.

        Returns the two builds as the API shows them.
        """
        stage = self._stage
        self.say(f"a Leeroy serves {stage.url} (open it in a browser), its pipeline:")
        self._line(stage.pipeline.read_text(encoding="utf-8"))
        first = self._push("Open the shop", "print('welcome')\n")
        link = self._announcement(first)
        self.say("somebody opens the stop link and presses Stop:")
        self._line(f"  POST {link} -> {self._press(link)}")
        stopped = self._over(first, "cancelled")
        if any(stage.rack.iterdir()):
            raise Unavailable("the stopped deploy ran; that must not be")
        self.say("the rack is empty: nothing was deployed")
        second = self._push("Open the shop, with a sign", "print('welcome to the shop')\n")
        self._announcement(second)
        self.say(f"nobody stops it this time; the grace period is {stage.grace} s …")
        done = self._over(second, "done")
        shown = (stage.rack / "shop.py").read_text(encoding="utf-8").strip()
        self.say(f"on the rack now: {shown}")
        for event in Server(stage.url).call("events", id=second):
            self._line("  " + showing.event(event))
        return [stopped, done]

    def go_on(self) -> None:
        """More pushes, as long as somebody likes; theirs to stop."""
        number = 2
        self.say("now you: every Enter pushes again, and you have the grace period to stop it:")
        self._line("  by the link in the message, or from another terminal with")
        self._line(f"  {sys.executable} -m leeroy cancel ID --config {self._stage.settings}")
        while True:
            self.say("Enter: push again · q: end")
            try:
                answer = sys.stdin.readline()
            except KeyboardInterrupt:
                return
            if not answer or answer.strip().lower() in ("q", "quit"):
                return
            number += 1
            build = self._push(f"Change number {number}", f"print('version {number}')\n")
            self._announcement(build)
            with contextlib.suppress(KeyboardInterrupt):
                self.say(f"build {build} is {self._over(build, None)['state']}")

    def _press(self, link: str) -> int:
        """What a browser does for the Stop button; returns the answer's status."""
        parts = urlsplit(link)
        connection = HTTPConnection(parts.netloc, timeout=10)
        try:
            connection.request("POST", parts.path, b"action=cancel")
            return connection.getresponse().status
        finally:
            connection.close()

    def _push(self, message: str, text: str) -> int:
        stage = self._stage
        (stage.work / "shop.py").write_text(text, encoding="utf-8")
        (stage.work / "test_shop.py").write_text("import shop\n", encoding="utf-8")
        stage.git("add", "-A")
        stage.git("commit", "-q", "-m", message)
        before = {b["id"] for b in Server(stage.url).call("list")}
        self.say(f"git push: {message}")
        done = stage.git("push", str(stage.bare), "main")
        for line in done.splitlines():
            if "webhook" in line:
                self._line("  " + line.removeprefix("remote: ").strip())
        for build in Server(stage.url).call("list"):
            if build["id"] not in before:
                return int(build["id"])
        raise Unavailable(f"the push made no build:\n{done}")

    def _announcement(self, build: int) -> str:
        """Show what people are told until the message with the stop link comes."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            message = self._next(deadline)
            self._line(f"  telephone: {message['title']}")
            link = re.search(r"http://\S+/stop/\S+", message["message"])
            if link and f"#{build}" in message["title"]:
                for line in message["message"].splitlines():
                    self._line(f"    | {line}")
                return link[0]

    def _next(self, deadline: float) -> dict[str, Any]:
        try:
            return self._stage.told.get(timeout=max(deadline - time.monotonic(), 0.1))
        except queue.Empty:
            raise Unavailable("the message did not come in time") from None

    def _over(self, build: int, expected: str | None) -> dict[str, Any]:
        """Wait for a build's end, and show what people are told meanwhile."""
        server, pause = Server(self._stage.url), threading.Event()
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(queue.Empty):
                while True:
                    title = self._stage.told.get_nowait()["title"]
                    self._count("")
                    self._line(f"  telephone: {title}")
            found: dict[str, Any] = server.call("show", id=build)
            if found["finished_at"] is not None:
                break
            if expected is not None and time.monotonic() > deadline:
                raise Unavailable(f"build {build} is {found['state']}, and should be over")
            self._count(_left(found))
            pause.wait(_LOOK_S)
        self._count("")
        state = str(found["state"])
        if expected is not None and state != expected:
            raise Unavailable(f"build {build} is {state}, and should be {expected}")
        return found

    def _count(self, text: str) -> None:
        """A line that is written over, on a terminal; elsewhere nothing."""
        if self._to.isatty():
            self._to.write(f"\r\x1b[K{text}")
            self._to.flush()


def _left(build: dict[str, Any]) -> str:
    if build["state"] != "deploy_pending" or build["deploy_at"] is None:
        return f"  build {build['id']}: {build['state']}"
    left = (datetime.fromisoformat(build["deploy_at"]) - datetime.now(UTC)).total_seconds()
    return f"  build {build['id']}: {build['environment']} in {max(int(left) + 1, 0)} s"
