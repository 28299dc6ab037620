"""The demo's stage: a telephone, a bare repository that calls Leeroy, and a `leeroy serve`."""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from leeroy.errors import Unavailable

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


class Stage:
    """
    All that the story needs, in one folder.

    `told` are the messages that came to the telephone, `url` is where the
    server answers, `settings` its leeroy.toml.
    """

    def __init__(self, folder: Path, grace: int) -> None:
        self.folder = folder
        self.grace = grace
        self.settings = folder / "leeroy.toml"
        self.pipeline = folder / "pipelines" / "shop.toml"
        self.bare = folder / "shop.git"
        self.work = folder / "work"
        self.rack = folder / "rack"
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()
        self.url = ""
        self._secret = secrets.token_hex(16)
        self._sink_url = ""

    @contextmanager
    def sink(self) -> Iterator[None]:
        """A telephone: receives what people are told."""
        told = self.told

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
        self.rack.mkdir()
        self.pipeline.parent.mkdir()
        self.git("init", "-q", "--bare", "-b", "main", str(self.bare), where=self.folder)
        self.git("init", "-q", "-b", "main", str(self.work), where=self.folder)
        pipeline = _PIPELINE.format(
            repository=self.bare, rack=self.rack, grace=self.grace, sink=self._sink_url
        )
        self.pipeline.write_text(pipeline, encoding="utf-8")
        self.settings.write_text('listen = "127.0.0.1:0"\nmin_free = "1MB"\n', encoding="utf-8")
        env = {key: value for key, value in os.environ.items() if not key.startswith("LEEROY_")} | {
            "DEMO_HOOK_SECRET": self._secret,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        log = self.folder / "serve.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "leeroy", "serve", "--config", str(self.settings)],
                stdout=subprocess.PIPE,
                stderr=stream,
                env=env,
                cwd=self.folder,
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            if not line.startswith("leeroy serves "):
                said = log.read_text(encoding="utf-8", errors="replace")
                raise Unavailable(f"the server did not start:\n{said}")
            self.url = line.split()[-1]
            hook = self.bare / "hooks" / "post-receive"
            hook.write_text(
                _HOOK.format(
                    python=sys.executable,
                    repository=self.bare,
                    secret=self._secret,
                    url=self.url,
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

    def git(self, *words: str, where: Path | None = None) -> str:
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ada Lovelace",
            "GIT_AUTHOR_EMAIL": "ada@example.com",
            "GIT_COMMITTER_NAME": "Ada Lovelace",
            "GIT_COMMITTER_EMAIL": "ada@example.com",
        }
        done = subprocess.run(
            ["git", *words],
            cwd=where or self.work,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Unavailable(f"git {words[0]} failed: {done.stderr.strip()}")
        return done.stdout + done.stderr
