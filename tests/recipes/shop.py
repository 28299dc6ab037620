"""An example pipeline as a reader copies it: `leeroy init --example`, its `[env]`, its secrets."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gitservers import Repo, a_repo
from tests.parts import missing
from tests.recipes.target import Target
from tests.servers import SECRET, Leeroy

WHEELS = Path(sys.prefix) / "wheels"
PICTURES = os.environ.get("LEEROY_PICTURES")
"""Where pictures for the docs go, if they are asked for."""
_SRV = Path("/srv/git")
"""Where the repositories are then: a picture shows the address."""


@dataclass(frozen=True)
class Pushed:
    """A push: its build, and what the target calls it once it is live."""

    build: int
    mark: str


class Shop:
    """A Leeroy whose only pipeline is the shipped example, and the repository it is for."""

    def __init__(self, leeroy: Leeroy, target: Target) -> None:
        self.leeroy, self.target = leeroy, target
        self._marks: dict[int, str] = {}
        srv = _SRV if PICTURES else leeroy.folder / "srv"
        self.repo: Repo = a_repo(srv, target.project)
        self._install()
        self.leeroy.start()

    def _install(self) -> None:
        leeroy, target = self.leeroy, self.target
        if target.programs and not WHEELS.is_dir():
            missing(f"{WHEELS} (`make recipes` fills it)")
        leeroy.cli("init", ".", "--example", target.example, "--repo", str(self.repo.bare))
        file = leeroy.folder / "pipelines" / f"{target.project}.toml"
        file.write_text(fill(file.read_text(), target.env()))
        secrets = {f"{target.project.upper()}_HOOK_SECRET": SECRET, **target.secrets()}
        (leeroy.folder / "secrets.env").write_text(
            "".join(f"{name}={value}\n" for name, value in secrets.items())
        )
        programs = leeroy.folder / "bin"
        programs.mkdir()
        for name in target.programs:
            (programs / name).symlink_to(Path(sys.prefix) / "bin" / name)
        house = {
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_FIND_LINKS": str(WHEELS),
            "PIP_NO_COMPILE": "1",
            **({} if "PIP_INDEX_URL" in target.house() else {"PIP_NO_INDEX": "1"}),
            **target.house(),
        }
        leeroy.settings["env_file"] = "secrets.env"
        leeroy.env = {"PATH": f"{programs}:{os.environ['PATH']}", "OPS": "json://127.0.0.1:9/"}
        leeroy.tables = "[env]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in house.items())

    def push(self, version: int, *, red: bool = False) -> Pushed:
        """`git push` of a version of the project, and the forge's delivery of it."""
        message = f"Version {version}"
        commit = self.repo.commit(message, **self.target.files(version, red))
        author = {"name": "Ada Lovelace", "email": "ada@example.com"}
        head = {"id": commit, "message": message, "author": author}
        more: dict[str, Any] = {"head_commit": head}
        if self.target.tagged:
            self.repo.git("tag", f"v{version}.0")
            self.repo.git("push", "-q", "origin", f"v{version}.0")
            more["ref"] = f"refs/tags/v{version}.0"
        status, answer = self.leeroy.hook(self.repo, commit=commit, **more)
        assert 202 == status, answer
        pushed = Pushed(int(answer["builds"][0]), self.target.mark(version, commit))
        self._marks[pushed.build] = pushed.mark
        return pushed

    def finish(self, build: int, timeout: float = 300) -> str:
        """
        How a build ends, when a person approves what is to be approved.

        A deploy of which nobody knows how it ended is looked at, and run again
        if it did not land.
        """
        over = ("done", "failed", "deploy_failed", "cancelled", "superseded")
        while True:
            self.leeroy.until_state(build, *over, "deploy_pending", "interrupted", timeout=timeout)
            shown = self.leeroy.build(build)
            if shown["state"] in over:
                return str(shown["state"])
            last = shown["steps"][-1]
            if "a person must say go" in str(shown["waiting_for"]):
                self.leeroy.cli("approve", str(build), "--environment", shown["environment"])
            elif shown["state"] == "interrupted" and (
                (last["stage"], last["state"]) == ("status", "failed")
            ):
                self.target.quiet()
                landed = self.target.live() == self._marks[build]
                self.leeroy.cli("resolve", str(build), "done" if landed else "again",
                                "--environment", shown["environment"],
                                "--reason", "looked at the target")  # fmt: skip

    def runs(self, build: int) -> int:
        """How often the deploy script was run for the environment that counts."""
        steps = self.leeroy.build(build)["steps"]
        return [(s["stage"], s["environment"]) for s in steps].count(("deploy", self.target.place))

    def deployed(self, pushed: Pushed) -> None:
        """Assert that a push ends well, and is live."""
        assert "done" == self.finish(pushed.build), self.leeroy.logged(pushed.build)
        assert pushed.mark == self.target.live()


def fill(text: str, values: Mapping[str, str]) -> str:
    """The example with the lines under `[env]` changed, and nothing else."""
    filled = text
    for name, value in values.items():
        found = re.findall(rf'^{name} = ".*?"', filled, flags=re.M)
        assert 1 == len(found), name
        filled = filled.replace(found[0], f"{name} = {json.dumps(value)}")
    before, after = tomllib.loads(text), tomllib.loads(filled)
    assert before.pop("env").keys() == after.pop("env").keys()
    assert before == after, "only [env] is the reader's"
    return filled
