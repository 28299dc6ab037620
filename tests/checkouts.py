"""A host that checks out, the way the runner makes it: the real program, its own run directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leeroy.runner import checkout
from tests.gitservers import git


@dataclass(frozen=True)
class Outcome:
    """How a checkout ended: exit code, what it said, and checkout.json (None without one)."""

    code: int
    log: str
    error: str
    result: dict[str, Any] | None
    workspace: Path
    run_dir: Path
    seconds: float

    @property
    def commit(self) -> str:
        """The commit it says it checked out; the test fails when it did not."""
        assert self.result is not None, self.error
        assert 0 == self.code
        return str(self.result["commit"])

    @property
    def head(self) -> str:
        """What the workspace shows."""
        return git(self.workspace, "rev-parse", "HEAD")


@dataclass
class Host:
    """A data folder, and checkouts into it."""

    data: Path
    env: Mapping[str, str] = field(default_factory=dict)
    runs: int = 0

    def checkout(self, repository: object, **wish: Any) -> Outcome:
        """Check out and wait; *wish* as in `checkout.request`, and `workspace` a name."""
        return self.start(repository, **wish).wait()

    def start(self, repository: object, *, workspace: str = "1", **wish: Any) -> Run:
        """A checkout under way."""
        self.runs += 1
        run_dir, path = self.data / "runs" / str(self.runs), self.data / "workspaces" / workspace
        run_dir.mkdir(parents=True, mode=0o700)
        argv, files = checkout.spec_parts(
            data=self.data, repository=str(repository), workspace=path, **wish
        )
        for name, text in files.items():
            (run_dir / name).write_text(text)
            (run_dir / name).chmod(0o600)
        started = time.monotonic()
        process = subprocess.Popen(
            argv,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LEEROY_RUN_DIR": str(run_dir), **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        return Run(process, run_dir, path, started)

    def mirror(self, repository: object) -> Path:
        """The mirror of *repository*."""
        return Path(checkout.mirror_of(self.data, str(repository)))


@dataclass(frozen=True)
class Run:
    """A checkout under way, in a session of its own: `wait` for it, or kill the session."""

    process: subprocess.Popen[bytes]
    run_dir: Path
    workspace: Path
    started: float

    def wait(self) -> Outcome:
        """How it ended."""
        out, err = self.process.communicate(timeout=60)
        path = self.run_dir / checkout.RESULT
        return Outcome(
            self.process.returncode,
            out.decode(),
            err.decode(),
            json.loads(path.read_text()) if path.exists() else None,
            self.workspace,
            self.run_dir,
            time.monotonic() - self.started,
        )

    def kill(self) -> None:
        """Kill all of it at once, as the supervisor would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=10)
