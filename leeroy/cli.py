"""The command line: parses, calls one function, prints."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    raise SystemExit("leeroy: the commands are not built yet")
