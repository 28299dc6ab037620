"""A wall clock that a test sets, for the server and its commands (libfaketime)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.parts import need


class WallClock:
    """
    The wall clock of whatever runs with `env`; it goes on from where it was set.

    The clock that only counts stays the machine's own, as when an operator
    sets the time of a host.
    """

    def __init__(self, folder: Path) -> None:
        need("faketime")
        library = next(Path("/usr/lib").rglob("libfaketime.so.1"))
        self._file = folder / "clock"
        self.ahead(0)
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def ahead(self, seconds: float) -> None:
        """So far ahead of the machine's clock; less than nothing is behind it."""
        new = self._file.with_name("clock.new")
        new.write_text(f"{seconds:+.3f}")
        new.replace(self._file)  # it is read at every look, so it is never half written

    def set(self, moment: datetime) -> None:
        """It is *moment* now."""
        self.ahead((moment - datetime.now(UTC)).total_seconds())
