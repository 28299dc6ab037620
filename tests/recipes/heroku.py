"""What Heroku is to a git push: builds and releases in pre-receive, and runs a real Django."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.gitservers import SshGit, free_port, git, https_git
from tests.parts import need
from tests.recipes import pausing, projects
from tests.recipes.rack import ssh_command
from tests.recipes.target import Target
from tests.servers import ROOT
from tests.waiting import until

_HOOK = """#!/bin/sh
PYTHONPATH={root} exec {python} -m tests.recipes.heroku_hook {name} {folder}
"""


class Heroku(Target):
    """`folder/apps/acme-shop.git` is pushed to, over ssh or over https with a key."""

    example = "django-heroku"
    place = "production"
    key = "heroku-canary-key"

    def __init__(self, folder: Path, sshd: SshGit | None = None) -> None:
        super().__init__(folder)
        need("curl")
        self._ends = ExitStack()
        self.port = free_port()
        (folder / "port").write_text(str(self.port))
        apps = folder / "apps"
        self._bare = apps / "acme-shop.git"
        git(folder, "init", "-q", "--bare", "-b", "main", str(self._bare))
        for name in ("pre-receive", "post-receive"):
            hook = self._bare / "hooks" / name
            hook.write_text(
                _HOOK.format(root=ROOT, python=sys.executable, name=name, folder=folder)
            )
            hook.chmod(0o755)
        self._ssh, self._house = "ssh", {}
        if sshd is not None:
            self._remote = f"ssh://{sshd.user}@127.0.0.1:{sshd.port}{self._bare}"
            self._ssh = ssh_command(sshd, folder)
        else:
            server = self._ends.enter_context(
                https_git(apps, folder / "web", user="heroku", token=self.key)
            )
            self._remote = server.private("acme-shop")
            self._house = {"GIT_SSL_CAINFO": str(server.ca)}

    def env(self) -> dict[str, str]:
        return {
            "REMOTE": self._remote,
            "SITE": f"http://127.0.0.1:{self.port}",
            "PATIENCE": "4s",
            "SSH": self._ssh,
        }

    def house(self) -> dict[str, str]:
        return self._house

    def secrets(self) -> dict[str, str]:
        return {"HEROKU_API_KEY": self.key}

    def files(self, version: int, red: bool) -> dict[str, str]:
        return projects.django(version, red)

    def changes(self) -> list[str]:
        file = self.folder / "releases"
        return file.read_text().split() if file.exists() else []

    def live(self) -> str | None:
        asked = subprocess.run(
            ["curl", "-fsS", f"http://127.0.0.1:{self.port}/version"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return asked.stdout or None

    def refuse(self) -> None:
        (self.folder / "refuse").touch()

    def hold(self, point: str) -> None:
        pausing.hold(self.folder, point)

    def wait(self) -> None:
        until(lambda: pausing.there(self.folder), 300)

    def release(self) -> None:
        pausing.release(self.folder)

    def quiet(self) -> None:
        until(lambda: pausing.quiet(self.folder), 300)

    def close(self) -> None:
        self._ends.close()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(int((self.folder / "dyno").read_text()), signal.SIGKILL)
