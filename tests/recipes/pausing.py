"""Points at which programs of a target stand still, by files in a folder (standard library only)."""

from __future__ import annotations

import time
from pathlib import Path


def hold(folder: Path, point: str) -> None:
    (folder / f"hold-{point}").touch()


def there(folder: Path) -> bool:
    return any(folder.glob("held-*"))


def release(folder: Path) -> None:
    for file in folder.glob("hold-*"):
        file.unlink()


def pause(folder: Path, point: str) -> None:
    """Where the program stands still while `hold` says so."""
    hold_ = folder / f"hold-{point}"
    if hold_.exists():
        (folder / f"held-{point}").touch()
        while hold_.exists():
            time.sleep(0.02)
