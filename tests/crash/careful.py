"""A WORLD log on a disk that is cut: what it says happened, and what happened it says."""

from __future__ import annotations

import os
from pathlib import Path

from leeroy.proof.installation import Installation


def careful(installation: Installation) -> None:
    """A line of the WORLD log is on the disk before its script goes on."""
    for file in (installation.folder / "pipelines").glob("*.toml"):
        line = f">> '{installation.log}'"
        text = file.read_text()
        assert line in text
        file.write_text(text.replace(line, f"{line}; sync -d '{installation.log}'"))


def forget_half_a_line(log: Path) -> None:
    """A line that was not whole on the disk: its script had not gone on, so it did nothing."""
    if log.exists():
        text = log.read_bytes()
        os.truncate(log, text.rfind(b"\n") + 1)
