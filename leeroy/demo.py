"""
The whole story, live, on a throw-away repository: two pushes, one deploy stopped, one done.

Everything is real: a bare git repository with a hook that posts a signed
webhook, `leeroy serve` as a process of its own, scripts, the message with its
stop link (received by a small HTTP server here), the grace period.  It lives
in a temporary folder, and nothing is left of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from leeroy import showing
from leeroy.client import Server
from leeroy.errors import Unavailable

_GRACE_S = {True: 4, False: 20}
_PATIENCE_S = 45.0

_PIPELINE = """\
repository = "{repository}"
secret = "env:DEMO_HOOK_SECRET"

[[test]]
name = "unit"
run = "python3 test_shop.py"

[[build]]
name = "package"
run = "tar -cf shop.tar shop.py"
artifacts = ["shop.tar"]

[[deploy]]
environment = "production"
run = "tar -xf shop.tar -C '{rack}'"
verify = "grep -q '' '{rack}/shop.py'"
grace = "{grace}s"

[[notify]]
to = "{sink}"
"""

_HOOK = """\
#!{python} -IS
# What a forge does after a push: post a signed delivery to Leeroy.
import hashlib, hmac, json, sys, urllib.request, uuid, subprocess
for line in sys.stdin:
    old, new, ref = line.split()
    message = subprocess.run(["git", "log", "-1", "--format=%s", new], capture_output=True, text=True).stdout.strip()
    body = json.dumps({{
        "ref": ref, "before": old, "after": new, "deleted": False, "created": False,
        "head_commit": {{"id": new, "message": message,
                        "author": {{"name": "Ada Lovelace", "email": "ada@example.com"}}}},
        "repository": {{"full_name": "demo/shop", "default_branch": "main",
                       "html_url": "{repository}", "clone_url": "{repository}", "ssh_url": "{repository}"}},
    }}).encode()
    code = hmac.new(b"{secret}", body, hashlib.sha256).hexdigest()
    request = urllib.request.Request("{url}/hooks/github", body, {{
        "Content-Type": "application/json", "X-GitHub-Event": "push",
        "X-GitHub-Delivery": str(uuid.uuid4()), "X-Hub-Signature-256": "sha256=" + code}})
    with urllib.request.urlopen(request) as answer:
        print("the webhook was answered:", answer.status, answer.read().decode())
"""  # noqa: E501


def run(*, once: bool) -> int:
    """Tell the story; returns 0 when it went as told."""
    for program in ("git", "python3", "tar"):
        if shutil.which(program) is None:
            raise Unavailable(f"the demo needs {program}; install it first")
    grace = _GRACE_S[once]
    with tempfile.TemporaryDirectory(prefix="leeroy-demo-") as folder:
        story = _Story(Path(folder).resolve(), grace)
        with story.sink(), story.server():
            story.tell()
            if not once and sys.stdin.isatty():
                story.go_on()
    _say("nothing is left of it but what you saw")
    return 0


def _say(text: str) -> None:
    mark = "\x1b[1;32m▸\x1b[0m" if showing.colourful(sys.stdout) else ">"
    print(f"{mark} {text}", flush=True)


class _Story:
    def __init__(self, folder: Path, grace: int) -> None:
        self._folder = folder
        self._grace = grace
        self._secret = secrets.token_hex(16)
        self._bare = folder / "shop.git"
        self._work = folder / "work"
        self._rack = folder / "rack"
        self._told: queue.Queue[dict[str, Any]] = queue.Queue()
        self._url = ""
        self._sink_url = ""

    # --- the stage

    @contextmanager
    def sink(self) -> Iterator[None]:
        """A telephone: receives what people are told."""
        told = self._told

        class Phone(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                told.put(json.loads(self.rfile.read(length)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Phone)
        self._sink_url = f"json://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()

    @contextmanager
    def server(self) -> Iterator[None]:
        """A `leeroy serve` with one pipeline, and a bare repository that calls it."""
        self._rack.mkdir()
        (self._folder / "pipelines").mkdir()
        self._git("init", "-q", "--bare", "-b", "main", str(self._bare), where=self._folder)
        self._git("init", "-q", "-b", "main", str(self._work), where=self._folder)
        pipeline = _PIPELINE.format(
            repository=self._bare, rack=self._rack, grace=self._grace, sink=self._sink_url
        )
        (self._folder / "pipelines" / "shop.toml").write_text(pipeline, encoding="utf-8")
        settings = self._folder / "leeroy.toml"
        settings.write_text('listen = "127.0.0.1:0"\nmin_free = "1MB"\n', encoding="utf-8")
        env = {key: value for key, value in os.environ.items() if not key.startswith("LEEROY_")} | {
            "DEMO_HOOK_SECRET": self._secret,
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        log = self._folder / "serve.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "leeroy", "serve", "--config", str(settings)],
                stdout=subprocess.PIPE,
                stderr=stream,
                env=env,
                cwd=self._folder,
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            if not line.startswith("leeroy serves "):
                said = log.read_text(encoding="utf-8", errors="replace")
                raise Unavailable(f"the server did not start:\n{said}")
            self._url = line.split()[-1]
            hook = self._bare / "hooks" / "post-receive"
            hook.write_text(
                _HOOK.format(
                    python=sys.executable,
                    repository=self._bare,
                    secret=self._secret,
                    url=self._url,
                ),
                encoding="utf-8",
            )
            hook.chmod(0o755)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()

    # --- the story

    def tell(self) -> None:
        """Two pushes: the first one's deploy is stopped by its link, the second one's is done."""
        _say(f"a Leeroy serves {self._url} (open it in a browser), its pipeline:")
        print((self._folder / "pipelines" / "shop.toml").read_text(encoding="utf-8"))
        first = self._push("Open the shop", "print('welcome')\n")
        link = self._announcement(first)
        _say("somebody opens the stop link and presses Stop:")
        print(f"  POST {link} -> {self._press(link)}")
        self._over(first, "cancelled")
        if any(self._rack.iterdir()):
            raise Unavailable("the stopped deploy ran; that must not be")
        _say("the rack is empty: nothing was deployed")
        second = self._push("Open the shop, with a sign", "print('welcome to the shop')\n")
        self._announcement(second)
        _say(f"nobody stops it this time; the grace period is {self._grace} s …")
        self._over(second, "done")
        shown = (self._rack / "shop.py").read_text(encoding="utf-8").strip()
        _say(f"on the rack now: {shown}")
        for event in Server(self._url).call("events", id=second):
            print("  " + showing.event(event))

    def _press(self, link: str) -> int:
        """What a browser does for the Stop button; returns the answer's status."""
        parts = urlsplit(link)
        connection = HTTPConnection(parts.netloc, timeout=10)
        try:
            connection.request("POST", parts.path, b"action=cancel")
            return connection.getresponse().status
        finally:
            connection.close()

    def go_on(self) -> None:
        """More pushes, as long as somebody likes."""
        number = 2
        while True:
            _say(f"Enter: push again (stop it at {self._url}, or by its link) · q: end")
            try:
                if sys.stdin.readline().strip().lower() in ("q", "quit"):
                    return
            except KeyboardInterrupt:
                return
            number += 1
            build = self._push(f"Change number {number}", f"print('version {number}')\n")
            self._announcement(build)
            with contextlib.suppress(KeyboardInterrupt):
                _say(f"build {build} is {self._over(build, None)}")

    def _push(self, message: str, text: str) -> int:
        (self._work / "shop.py").write_text(text, encoding="utf-8")
        (self._work / "test_shop.py").write_text("import shop\n", encoding="utf-8")
        self._git("add", "-A")
        self._git("commit", "-q", "-m", message)
        before = {b["id"] for b in Server(self._url).call("list")}
        _say(f"git push: {message}")
        done = self._git("push", str(self._bare), "main")
        for line in done.splitlines():
            if "webhook" in line:
                print("  " + line.removeprefix("remote: ").strip())
        for build in Server(self._url).call("list"):
            if build["id"] not in before:
                return int(build["id"])
        raise Unavailable(f"the push made no build:\n{done}")

    def _announcement(self, build: int) -> str:
        """Show what people are told until the message with the stop link comes."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            message = self._next(deadline)
            print(f"  telephone: {message['title']}")
            link = re.search(r"http://\S+/stop/\S+", message["message"])
            if link and f"#{build}" in message["title"]:
                for line in message["message"].splitlines():
                    print(f"    | {line}")
                return link[0]

    def _next(self, deadline: float) -> dict[str, Any]:
        try:
            return self._told.get(timeout=max(deadline - time.monotonic(), 0.1))
        except queue.Empty:
            raise Unavailable("the message did not come in time") from None

    def _over(self, build: int, expected: str | None) -> str:
        """Wait for a build's end, and show what people are told meanwhile."""
        server, pause = Server(self._url), threading.Event()
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(queue.Empty):
                while True:
                    print(f"  telephone: {self._told.get_nowait()['title']}")
            found = server.call("show", id=build)
            if found["finished_at"] is not None:
                break
            if expected is not None and time.monotonic() > deadline:
                raise Unavailable(f"build {build} is {found['state']}, and should be over")
            pause.wait(0.2)
        state = str(found["state"])
        if expected is not None and state != expected:
            raise Unavailable(f"build {build} is {state}, and should be {expected}")
        return state

    def _git(self, *words: str, where: Path | None = None) -> str:
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ada Lovelace",
            "GIT_AUTHOR_EMAIL": "ada@example.com",
            "GIT_COMMITTER_NAME": "Ada Lovelace",
            "GIT_COMMITTER_EMAIL": "ada@example.com",
        }
        done = subprocess.run(
            ["git", *words],
            cwd=where or self._work,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Unavailable(f"git {words[0]} failed: {done.stderr.strip()}")
        return done.stdout + done.stderr
