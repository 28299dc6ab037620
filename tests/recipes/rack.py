"""A machine with sshd and a web server, for ssh-rsync."""

from __future__ import annotations

import http.server
import shlex
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from tests.gitservers import SshGit
from tests.parts import need
from tests.recipes import pausing, projects
from tests.recipes.target import Target
from tests.servers import ROOT
from tests.waiting import until


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def ssh_command(sshd: SshGit, folder: Path) -> str:
    """The ssh command with the key of *sshd*, and host keys remembered in *folder*."""
    key = folder / "key"
    key.write_text(sshd.key)
    key.chmod(0o600)
    return (
        f"ssh -p {sshd.port} -i {key} -o IdentitiesOnly=yes -o BatchMode=yes -F /dev/null"
        f" -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={folder}/known_hosts"
        " -o LogLevel=ERROR"
    )


def force(sshd: SshGit, folder: Path, program: str) -> None:
    """Let *program* stand between sshd and every command of that key."""
    authorized = sshd.log.parent / "authorized"
    key = (sshd.log.parent / "client.pub").read_text()
    command = f"PYTHONPATH={ROOT} {sys.executable} -m {program} {shlex.quote(str(folder))}"
    authorized.write_text(f'command="{command}" {key}')


class Rack(Target):
    """`folder/srv` is what is deployed to; a command of ssh goes through `rack_command`."""

    example = "ssh-rsync"
    place = "production"
    project = "site"
    programs = ()

    def __init__(self, folder: Path, sshd: SshGit) -> None:
        super().__init__(folder)
        need("rsync")
        need("curl")
        self._sshd = sshd
        self._srv = folder / "srv"
        self._srv.mkdir()
        self._ssh = ssh_command(sshd, folder)
        force(sshd, folder, "tests.recipes.rack_command")
        handler = partial(_Quiet, directory=str(self._srv / "current"))
        self._web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._web.serve_forever, args=(0.05,), daemon=True).start()

    def env(self) -> dict[str, str]:
        return {
            "HOST": f"{self._sshd.user}@127.0.0.1",
            "SSH": self._ssh,
            "FOLDER": str(self._srv),
            "SITE": f"http://127.0.0.1:{self._web.server_port}",
        }

    def files(self, version: int, red: bool) -> dict[str, str]:
        return projects.site(version, red)

    def changes(self) -> list[str]:
        file = self.folder / "changes"
        return file.read_text().split() if file.exists() else []

    def live(self) -> str | None:
        current = self._srv / "current"
        if not current.exists():
            return None
        release = (current / "COMMIT").read_text().strip()
        assert release == current.resolve().name
        return release

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
        self._web.shutdown()
        self._web.server_close()
