"""
The command line: parses, asks a server or the database, prints.

    app         the commands people use every day
    judging     the commands that say what happened, and whether the records hold
    upkeep      the commands that keep a Leeroy well
    asking      whom a command asks: a server, or the configured database
    following   waiting for a build, with its countdown; following a log

What is heavy (database, web) is imported by the command that needs it, so
that `leeroy cancel` answers at once.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """The `leeroy` program."""
    from leeroy.cli.app import run

    try:
        code = run()
    except BrokenPipeError:
        # Whoever read our output has seen enough (`leeroy log 12 | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
