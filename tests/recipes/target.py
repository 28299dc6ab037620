"""What every target of an example pipeline tells the tests, and can be made to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar


class Target(ABC):
    """
    The outside that one example deploys to.

    `example` is the pipeline's name, `place` the environment whose changes
    count.  `tagged`: it publishes tags.
    """

    example: ClassVar[str]
    place: ClassVar[str]
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
    def close(self) -> None:
        """End what it started."""
