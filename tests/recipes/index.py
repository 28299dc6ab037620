"""A package index (pypiserver) with a login, for package-pypi."""

from __future__ import annotations

import warnings
from pathlib import Path

from tests.recipes import projects
from tests.recipes.holding import Gate, Held, Web
from tests.recipes.target import Target

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its bottle imports cgi
    import pypiserver


class Index(Target):
    """`folder/packages` is what the index shows."""

    example = "package-pypi"
    place = "index"
    tagged = True
    token = "index-canary-token"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.packages = folder / "packages"
        self.packages.mkdir()
        self._token = self.token
        self._held = Held()
        app = pypiserver.app(
            roots=[self.packages],
            disable_fallback=True,
            overwrite=False,
            authenticate=["update"],
            password_file=".",
            auther=lambda user, password: (user, password) == ("__token__", self._token),
        )
        self._web = Web(
            Gate(
                app,
                self._held,
                arrives=lambda request: request.method == "POST",
                lands=lambda request: request.method == "POST",
            )
        )

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

    def refuse(self) -> None:
        self._token = "another one since today"

    def hold(self, point: str) -> None:
        self._held.hold(point)

    def wait(self) -> None:
        self._held.wait()

    def release(self) -> None:
        self._held.release()

    def close(self) -> None:
        self._held.release()
        self._web.close()
