"""`leeroy serve` that dies at the commit of the move to `deploying`."""

from __future__ import annotations

import os
import sys
import threading

from sqlalchemy import event
from sqlalchemy.engine import Engine

from leeroy.cli.app import run

_deciding = False


def statement(_conn: object, _cursor: object, text: str, parameters: object, *_: object) -> None:
    """Notice the event of the move, which no other statement looks like."""
    global _deciding
    if text.startswith("INSERT INTO events") and "deploying" in str(parameters):
        _deciding = True


def commit(_conn: object) -> None:
    """The last thing this process does."""
    if _deciding:
        # Whatever was ordered too early has the time to happen.
        threading.Event().wait(2)
        os._exit(9)


event.listen(Engine, "before_cursor_execute", statement)
event.listen(Engine, "commit", commit)

sys.exit(run(["serve"]))
