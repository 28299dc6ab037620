"""What every target of an example pipeline tells the tests, and can be made to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

ARRIVED, LANDED = "arrived", "landed"
"""The deploy reached the target and changed nothing yet; it changed all, and has no answer yet."""


class Target(ABC):
    """
    The outside that one example deploys to.

    `example` is the pipeline's name, `place` the environment whose changes
    count, `project` what the repository is called.  `programs` are those the
    example expects on the host besides what Debian has.  `tagged`: it
    publishes tags.
    """

    example: ClassVar[str]
    place: ClassVar[str]
    project: ClassVar[str] = "shop"
    programs: ClassVar[tuple[str, ...]] = ("pip",)
    tagged: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    @abstractmethod
    def env(self) -> dict[str, str]:
        """What a reader changes under `[env]` of the example."""

    def house(self) -> dict[str, str]:
        """What this target needs in `[env]` of leeroy.toml."""
        return {}

    def secrets(self) -> dict[str, str]:
        """What a reader fills into secrets.env."""
        return {}

    @abstractmethod
    def files(self, version: int, red: bool) -> dict[str, str]:
        """The project's files in a version; a red one has a test that fails."""

    def mark(self, version: int, commit: str) -> str:
        """What `changes` calls a version."""
        return commit

    @abstractmethod
    def changes(self) -> list[str]:
        """What went live, in order; nothing stands twice that went live once."""

    @abstractmethod
    def live(self) -> str | None:
        """What the target serves now."""

    def check(self, first: str, second: str) -> None:
        """Assert what is to be seen once both versions went live."""
        assert second == self.live()
        assert [first, second] == self.changes()

    def check_back(self, first: str, second: str, log: str) -> None:
        """Assert that the first version is back after the second; *log* is the deploy's."""
        assert first == self.live()
        assert [first, second, first] == self.changes()

    @abstractmethod
    def refuse(self) -> None:
        """Let the next deploy fail."""

    @abstractmethod
    def hold(self, point: str) -> None:
        """Let the next deploy stand still there."""

    @abstractmethod
    def wait(self) -> None:
        """Until a deploy stands still."""

    @abstractmethod
    def release(self) -> None:
        """Let it go on."""

    @abstractmethod
    def quiet(self) -> None:
        """Until nothing goes on there any more, also nothing whose deploy was killed."""

    @abstractmethod
    def close(self) -> None:
        """End what it started."""
