"""`leeroy serve` that dies at the n-th SQL statement or commit: python -m tests.crash.dying N."""

from __future__ import annotations

import itertools
import os
import sys
import threading

from sqlalchemy import event
from sqlalchemy.engine import Engine

from leeroy.cli.app import run

LIMIT = int(sys.argv[1])
_count = itertools.count(1)
_ready = threading.Event()


def die(*_: object) -> None:
    """The last thing this process does, at its time."""
    if next(_count) == LIMIT:
        os._exit(9)


event.listen(Engine, "before_cursor_execute", die)
event.listen(Engine, "commit", die)

sys.exit(run(["serve"]))
