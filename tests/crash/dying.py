"""
`leeroy serve` that dies at its n-th SQL statement or commit: python -m tests.crash.dying FILE.

FILE says n; the count begins when it is there.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

from leeroy.cli.app import run

ARMED = Path(sys.argv[1])
_count = itertools.count(1)


def die(*_: object) -> None:
    """The last thing this process does, at its time."""
    if ARMED.exists() and next(_count) == int(ARMED.read_text()):
        os._exit(9)


event.listen(Engine, "before_cursor_execute", die)
event.listen(Engine, "commit", die)

sys.exit(run(["serve", "--config", "leeroy.toml"]))
