"""A real `leeroy serve`, in a folder of its own, with a real database of either kind."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from leeroy.client import Server
from leeroy.clock import utc_now
from leeroy.db import house
from leeroy.db.engine import Database
from leeroy.operations.tokens import token_hash
from leeroy.terms import Role
from tests import templates
from tests.gitservers import Repo, a_repo
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
SECRET = "a hook's secret"


class Leeroy:
    """
    One installation: settings, pipelines, data, and the server when it is started.

    `world` is where scripts under test leave marks; `ask` speaks to the server
    as an admin, `cli` runs the program on the configured database.  `wrap` is
    put before the server's command, and must execute it in its own place.
    """

    def __init__(self, folder: Path, database: str | None = None, **settings: Any) -> None:
        self.folder = folder
        self.world = folder / "world"
        self.world.mkdir(parents=True)
        (folder / "pipelines").mkdir()
        self.settings: dict[str, Any] = {"listen": "127.0.0.1:0", "slots": 2, "min_free": "1MB"}
        if database is not None:
            self.settings["database"] = database
        self.settings |= settings
        self.env: dict[str, str] = {"SHOP_HOOK": SECRET}
        self.wrap: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.token = ""
        self.tables = ""
        self.log = folder / "serve.log"

    # --- its files

    @property
    def address(self) -> str:
        """The address of its database."""
        data = self.folder / self.settings.get("data", "var")
        return str(self.settings.get("database", f"sqlite:///{data}/leeroy.db"))

    def write_settings(self) -> None:
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.settings.items()]
        (self.folder / "leeroy.toml").write_text("\n".join(lines) + "\n" + self.tables)

    def pipeline(self, text: str, name: str = "shop") -> Path:
        """Write a pipeline's file; {world} stands for the folder of marks."""
        file = self.folder / "pipelines" / f"{name}.toml"
        file.write_text(text.replace("{world}", str(self.world)))
        return file

    def shop(
        self, test: str = "true", deploy: str = "true", more: str = "", tail: str = ""
    ) -> Repo:
        """A repository with commits, and the pipeline that it starts."""
        repo = a_repo(self.folder / "srv")
        self.pipeline(
            f"""
repository = "{repo.bare}"
secret = "env:SHOP_HOOK"
[[test]]
name = "unit"
run = '''{test}'''
[[deploy]]
environment = "production"
run = '''{deploy}'''
{more}
{tail}
"""
        )
        return repo

    # --- its life

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LEEROY_")}
        return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"} | self.env

    def start(self) -> Leeroy:
        self.write_settings()
        if not self.token and self.address.startswith("sqlite"):
            templates.put(Path(sa.make_url(self.address).database or ""))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrap, sys.executable, "-m", "leeroy", "serve"],
                cwd=self.folder,
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line.startswith("leeroy serves "), f"{line}\n{self.log.read_text()}"
        self.url = line.split()[-1]
        if not self.token:
            self.token = self._admin()
        return self

    def _admin(self) -> str:
        """A token, put where `leeroy token add` would (that is another start of Python)."""
        token = secrets.token_urlsafe(16)
        database = Database(self.address)
        try:
            database.transact(
                lambda c: house.add_token(c, "tests", Role.admin, token_hash(token), utc_now())
            )
        finally:
            database.close()
        return token

    def kill(self) -> None:
        """kill -9 of the server alone."""
        assert self.process is not None
        self.process.kill()
        self._gone()

    def stop(self, timeout: float = 15.0) -> int:
        """SIGTERM; returns the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        finally:
            self._gone()

    def _gone(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()
        self.process = None

    def restart(self) -> Leeroy:
        self.stop()
        return self.start()

    # --- asking

    @property
    def ask(self) -> Callable[..., Any]:
        return Server(self.url, self.token).call

    def cli(self, *words: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """The program, on the configured database (or on the server that *env* names)."""
        done = subprocess.run(
            [sys.executable, "-m", "leeroy", *words],
            cwd=self.folder,
            env=self.environment() | env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def http(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; status, headers in lower case, and body."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {key.lower(): value for key, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def hook(
        self,
        repo: Repo,
        commit: str | None = None,
        branch: str = "main",
        delivery: str = "",
        **more: Any,
    ) -> tuple[int, dict[str, Any]]:
        """GitHub's delivery of a push; status and answer."""
        commit = commit or repo.git("rev-parse", branch)
        body = json.dumps(push_payload(repo, commit, branch) | more).encode()
        code = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
            "X-Hub-Signature-256": f"sha256={code}",
        }
        status, _, text = self.http("POST", "/hooks/github", body, headers)
        return status, json.loads(text)

    def push(self, repo: Repo, branch: str = "main") -> int:
        """The build of a push."""
        status, answer = self.hook(repo, branch=branch)
        assert 202 == status, answer
        return int(answer["builds"][0])

    def build(self, build_id: int) -> dict[str, Any]:
        return self.ask("show", id=build_id)

    def state(self, build_id: int) -> str:
        return str(self.build(build_id)["state"])

    def until_state(self, build_id: int, *states: str, timeout: float = 20.0) -> dict[str, Any]:
        """The build once it is in one of *states*."""

        def there() -> dict[str, Any] | None:
            found = self.build(build_id)
            return found if found["state"] in states else None

        try:
            return until(there, timeout, pause=0.03)
        except AssertionError as exc:
            raise AssertionError(
                f"build {build_id} is not {states}: {json.dumps(self.build(build_id), indent=1)}\n"
                f"{self.logged(build_id)}\n{self.log.read_text()[-3000:]}"
            ) from exc

    def until_over(self, build_id: int, timeout: float = 20.0) -> str:
        """The state in which the build ended."""
        over = ("done", "failed", "deploy_failed", "cancelled", "superseded")
        return str(self.until_state(build_id, *over, timeout=timeout)["state"])

    def moves(self, build_id: int) -> list[str]:
        return [event["move"] for event in self.ask("events", id=build_id)]

    def logged(self, build_id: int) -> str:
        status, _, text = self.http("GET", f"/api/v1/builds/{build_id}/log", token=self.token)
        assert 200 == status
        return text.decode()

    def marks(self, name: str) -> list[str]:
        """The lines that scripts appended to a file of the world."""
        file = self.world / name
        return file.read_text().splitlines() if file.exists() else []


def push_payload(repo: Repo, commit: str, branch: str) -> dict[str, Any]:
    """What GitHub says of a push."""
    return {
        "ref": f"refs/heads/{branch}",
        "before": "0" * 40,
        "after": commit,
        "created": False,
        "deleted": False,
        "head_commit": {
            "id": commit,
            "message": "Change the shop",
            "author": {"name": "Ada Lovelace", "email": "ada@example.com"},
        },
        "repository": {
            "full_name": "acme/shop",
            "default_branch": "main",
            "html_url": str(repo.bare),
            "clone_url": str(repo.bare),
            "ssh_url": str(repo.bare),
        },
    }


@contextmanager
def a_leeroy(folder: Path, database: str | None = None, **settings: Any) -> Iterator[Leeroy]:
    """An installation that is stopped, with all it started, at the end."""
    made = Leeroy(folder, database, **settings)
    try:
        yield made
    finally:
        if made.process is not None:
            made.kill()
        end_runs(folder)


def supervisors(folder: Path) -> list[int]:
    """The runner's processes of an installation."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(w.endswith(b"leeroy/runner/__main__.py") for w in words) and any(
                os.fsencode(folder) in w for w in words
            ):
                found.append(int(entry.name))
    return found


def scripts(folder: Path) -> list[int]:
    """The processes of an installation's scripts, whoever started them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"LEEROY_RUN=" in environ and os.fsencode(folder) in environ:
                found.append(int(entry.name))
    return found


def end_runs(folder: Path) -> None:
    """kill -9 of an installation's supervisors and scripts, until none is left."""

    def gone() -> bool:
        found = [*supervisors(folder), *scripts(folder)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    until(gone, 20, "everything it started is dead")
