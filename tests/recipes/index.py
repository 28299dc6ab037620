"""A package index (pypiserver, a real one) behind a door with a login, for package-pypi."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests
from werkzeug.wrappers import Request, Response

from tests.gitservers import free_port, listens, process
from tests.recipes import projects
from tests.recipes.holding import Gate, Held, Web
from tests.recipes.target import Target
from tests.waiting import until


class Index(Target):
    """`folder/packages` is what the index shows; uploading needs the token."""

    example = "package-pypi"
    place = "index"
    project = "tool"
    programs = ("pip", "twine")
    tagged = True
    token = "index-canary-token"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.packages = folder / "packages"
        self.packages.mkdir()
        self._token = self.token
        self._held = Held()
        self._ends = ExitStack()
        port = free_port()
        self._inner = f"http://127.0.0.1:{port}"
        program = str(Path(sys.prefix) / "bin" / "pypi-server")
        words = ["run", "-i", "127.0.0.1", "-p", str(port), "-P", ".", "-a", ".",
                 "--disable-fallback", "--hash-algo", "sha256", str(self.packages)]  # fmt: skip
        self._ends.enter_context(process([program, *words], folder / "index.log"))
        until(lambda: listens(port), 20, "pypi-server")
        self._web = Web(
            Gate(
                self._door,
                self._held,
                arrives=lambda request: request.method == "POST",
                lands=lambda request: request.method == "POST",
            )
        )

    def _door(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        body = request.get_data()
        login = request.authorization
        if request.method == "POST" and (
            login is None or (login.username, login.password) != ("__token__", self._token)
        ):
            return Response("not you", 403)(environ, start)
        answer = requests.request(
            request.method, self._inner + request.full_path, data=body, timeout=30,
            headers={"Content-Type": request.headers.get("Content-Type", ""), "Host": request.host},
        )  # fmt: skip
        return Response(
            answer.content, answer.status_code, mimetype=answer.headers.get("Content-Type")
        )(environ, start)

    def env(self) -> dict[str, str]:
        return {"PACKAGE": "tool"}

    def house(self) -> dict[str, str]:
        return {
            "TWINE_REPOSITORY_URL": self._web.url,
            "PIP_INDEX_URL": f"{self._web.url}/simple/",
        }

    def secrets(self) -> dict[str, str]:
        return {"INDEX_TOKEN": self.token}

    def files(self, version: int, red: bool) -> dict[str, str]:
        return projects.package(version, red, name="tool", program="tool")

    def mark(self, version: int, commit: str) -> str:
        return f"tool-{version}.0-py3-none-any.whl"

    def changes(self) -> list[str]:
        found = sorted(self.packages.iterdir(), key=lambda file: file.stat().st_mtime_ns)
        return [file.name for file in found]

    def live(self) -> str | None:
        changes = self.changes()
        return changes[-1] if changes else None

    def check_back(self, first: str, second: str, log: str) -> None:
        """Nothing can be taken back from an index: what is there already is recognised."""
        assert "it is there already" in log
        assert [first, second] == self.changes()

    def refuse(self) -> None:
        self._token = "another one since today"

    def hold(self, point: str) -> None:
        self._held.hold(point)

    def wait(self) -> None:
        self._held.wait()

    def release(self) -> None:
        self._held.release()

    def quiet(self) -> None:
        self._held.quiet()

    def close(self) -> None:
        self._held.release()
        self._web.close()
        self._ends.close()
