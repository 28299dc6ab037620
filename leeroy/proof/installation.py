"""A throw-away Leeroy: its folder, its server, its processes, and somebody who is told."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from leeroy.client import Server
from leeroy.errors import Unavailable
from leeroy.proof import bound, world
from leeroy.runner import process

_START_S = 120.0
"""So long only on a machine that has no time for it: what is measured is the start, not this."""
_SECRET = "crashtest"  # noqa: S105 - signs deliveries to a server that lives for a minute

SHOP = """
repository = "{repository}"
secret = "env:CRASHTEST_HOOK"
[[test]]
name = "unit"
run = '''{script}'''
[[deploy]]
environment = "staging"
run = '''{script}'''
grace = "0s"
[[deploy]]
environment = "production"
run = '''{script}'''
grace = "500ms"
verify = "true"
[[notify]]
to = "{phone}"
on = ["deploy_pending", "interrupted", "done", "cancelled"]
"""
_TOOL = """
[[test]]
name = "unit"
run = '''{script}'''
[[deploy]]
environment = "rack"
run = '''{script}'''
grace = "0s"
interrupted = "again"
status = "grep -q ' end '$LEEROY_BUILD' deploy ' '{log}'"
[[notify]]
to = "{phone}"
on = ["deploy_pending", "cancelled"]
"""


_CRANE = """
untested = true
[[deploy]]
environment = "crane"
run = '''{slow}'''
grace = "0s"
interrupted = "again"
[[notify]]
to = "{phone}"
on = ["deploy_pending", "interrupted"]
"""
"""Slow: its script outlives the loss of its supervisor, and no `status` says how it ended."""


@contextmanager
def phone(port: int = 0) -> Iterator[str]:
    """Somebody who accepts every message, at *port* or any free one; gives the Apprise address."""

    class Phone(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Phone)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"json://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


class Installation:
    """
    A Leeroy in *folder* with three pipelines, on SQLite or on *database*.

    One that is there already is taken as it is; its token only its maker knows.
    `log` is the WORLD log of its scripts.  Only processes that name the
    folder are ever found, and so killed.
    """

    def __init__(self, folder: Path, phone_url: str, database: str | None = None) -> None:
        self.folder = folder
        self.log = folder / "world"
        self.database = database or f"sqlite:///{folder}/var/leeroy.db"
        self.wrap: list[str] = []  # put before the server's command; must execute it in place
        self.server = ["-m", "leeroy", "serve", "--config", "leeroy.toml"]
        self.url = ""
        self.token = ""
        self._server: subprocess.Popen[bytes] | None = None
        self._bare = folder / "shop.git"
        self._values = {
            "repository": str(self._bare),
            "script": world.script(self.log),
            "slow": world.script(self.log, beats=15, pause_s=0.2),
            "phone": phone_url,
            "log": str(self.log),
        }
        if (folder / "leeroy.toml").exists():
            self.commit = self._run("git", "-C", str(self._bare), "rev-parse", "main")
            return
        self.commit = self._repository()
        (folder / "pipelines").mkdir()
        self.define("shop", SHOP)
        self.define("tool", _TOOL)
        self.define("crane", _CRANE)
        settings = {
            "listen": "127.0.0.1:0",
            "slots": 3,
            "min_free": "1MB",
            "database": self.database,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        (folder / "leeroy.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LEEROY_", "GIT_"))}
        return kept | {
            "CRASHTEST_HOOK": _SECRET,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(self.folder),
        }

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self._environ(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Unavailable(f"{' '.join(words[:4])} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def _repository(self) -> str:
        work = str(self.folder / "work")
        self._run("git", "init", "-q", "--bare", "-b", "main", str(self._bare))
        self._run("git", "init", "-q", "-b", "main", work)
        who = ("-c", "user.name=Crash Test", "-c", "user.email=crashtest@localhost")
        self._run("git", "-C", work, *who, "commit", "-q", "--allow-empty", "-m", "Open the shop")
        self._run("git", "-C", work, "push", "-q", str(self._bare), "main")
        return self._run("git", "-C", work, "rev-parse", "HEAD")

    def define(self, name: str, text: str) -> None:
        """Write a pipeline; {repository}, {script}, {slow}, {phone}, {log}: what is here."""
        for key, value in self._values.items():
            text = text.replace("{" + key + "}", value)
        (self.folder / "pipelines" / f"{name}.toml").write_text(text, encoding="utf-8")

    # --- its server

    def spawn(self) -> None:
        """Start a server; it is not ready yet.  It dies with the thread that called this."""
        binding = [sys.executable, "-I", "-S", bound.__file__, str(os.getpid())]
        with (self.folder / "serve.log").open("ab") as log:
            self._server = subprocess.Popen(
                [*binding, *self.wrap, sys.executable, *self.server],
                cwd=self.folder,
                env=self._environ(),
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def ready(self) -> None:
        """Wait until it serves; raises Unavailable with the end of its log."""
        assert self._server is not None and self._server.stdout is not None
        found, _, _ = select.select([self._server.stdout], [], [], _START_S)
        line = self._server.stdout.readline().decode() if found else ""
        if not line.startswith("leeroy serves "):
            said = (self.folder / "serve.log").read_text(encoding="utf-8", errors="replace")
            raise Unavailable(f"the server did not start:\n{said[-3000:]}")
        self.url = line.split()[-1]
        if not self.token:
            words = ("token", "add", "crashtest", "--role", "admin", "--json")
            made = self._run(sys.executable, "-m", "leeroy", *words, "--config", "leeroy.toml")
            self.token = str(json.loads(made)["token"])

    def up(self) -> None:
        """
        Start a server and wait until it serves; one that gives up is started again, twice.

        So does systemd with one that found no time to start on a busy machine.
        """
        for left in (2, 1, 0):
            self.spawn()
            try:
                self.ready()
            except Unavailable:
                if self.alive() or not left:
                    raise
                self.end(signal.SIGKILL)
            else:
                return

    def end(self, number: int) -> None:
        """Send the server a signal, and wait until it is gone."""
        if self._server is None:
            return
        self._server.send_signal(number)
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        assert self._server.stdout is not None
        self._server.stdout.close()
        self._server = None

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.pid if self._server is not None else 0

    def alive(self) -> bool:
        """Whether the server runs."""
        return self._server is not None and self._server.poll() is None

    # --- asking it

    def call(self, name: str, /, **arguments: Any) -> Any:
        """One call, as an admin; raises what `client.Server` raises."""
        return Server(self.url, self.token).call(name, **arguments)

    def push(self, delivery: str) -> tuple[int, ...] | None:
        """Deliver a push; the builds of a 2xx, else None."""
        names = {"full_name": "crash/shop", "default_branch": "main"}
        addresses = dict.fromkeys(("html_url", "clone_url", "ssh_url"), str(self._bare))
        body = json.dumps(
            {
                "ref": "refs/heads/main", "before": "0" * 40, "after": self.commit,
                "deleted": False, "created": False, "repository": names | addresses,
                "head_commit": {"id": self.commit, "message": "Open the shop",
                                "author": {"name": "C", "email": "crashtest@localhost"}},
            }
        ).encode()  # fmt: skip
        code = hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": f"sha256={code}",
        }
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request("POST", "/hooks/github", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            return tuple(json.loads(text)["builds"]) if answer.status in (200, 202) else None
        except (OSError, ValueError, HTTPException):
            return None
        finally:
            connection.close()

    # --- its processes

    def parents(self) -> list[int]:
        """The runner's parent process of the server that runs."""
        return [pid for pid, seen in self._runner() if seen.parent == self.pid]

    def supervisors(self) -> list[int]:
        """The supervisors, and the parents that earlier servers left to them."""
        return [pid for pid, seen in self._runner() if seen.parent != self.pid]

    def scripts(self) -> dict[int, str]:
        """Every process of a script that is alive, with its run."""
        found = {}
        for pid, _, environ in self._everyone():
            for word in environ.split(b"\0"):
                if word.startswith(b"LEEROY_RUN="):
                    found[pid] = word.partition(b"=")[2].decode()
        return found

    def _runner(self) -> list[tuple[int, process.Stat]]:
        mine = os.fsencode(self.folder)
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    seen = process.stat(entry.name)
                    ours = any(w.endswith(b"leeroy/runner/__main__.py") for w in words)
                    if seen and seen.alive and ours and any(mine in w for w in words):
                        found.append((int(entry.name), seen))
        return found

    def _everyone(self) -> Iterator[tuple[int, process.Stat, bytes]]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    environ = (entry / "environ").read_bytes()
                    seen = process.stat(entry.name)
                    if seen and seen.alive and os.fsencode(self.folder) in environ:
                        yield int(entry.name), seen, environ

    def left(self) -> list[int]:
        """Every process of the runner and of scripts that is alive."""
        return sorted({*self.scripts(), *(pid for pid, _ in self._runner())})

    def kill(self, pids: list[int]) -> int:
        """SIGKILL; returns how many were still there."""
        count = 0
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                count += 1
        return count
