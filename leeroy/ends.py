"""
What is recorded of an end, and what it means: the few sentences that decide something, each once.

They are Leeroy's own.  Where something of a user's or a git server's stands in
the same column (a checkout's last words), what else is recorded of the step
(its stage, state, exit code and signal) says which of the two it is.
"""

from __future__ import annotations

from typing import Final

from leeroy.model import Step
from leeroy.runner import wire
from leeroy.terms import Stage

TIMEOUT: Final = wire.TIMEOUT
STOPPED: Final = wire.STOPPED
OUTSIDE: Final = wire.OUTSIDE

UNSEEN: Final = "its supervisor died and nobody saw its end"
OLDER: Final = "the database is older than its run, so nobody knows its end"
GONE: Final = "its run directory is gone"
SHUT_DOWN: Final = "it was ended from outside by SIGTERM, and its host went down"
NEVER_BEGAN: Final = "its script never began"


def landed(step: Step) -> bool:
    """
    Whether a deploy script did what it was for, as far as its exit says.

    It is what runs there when it exited 0, also where it was being stopped
    meanwhile: its last command may have come through before the stop did.
    Past its timeout an exit 0 counts for nothing: it was not done in time.
    """
    ended = step.stage is Stage.deploy and step.exit_code == 0
    return ended and step.reason in (None, STOPPED, OUTSIDE)


def never_executed(step: Step) -> bool:
    """Whether a step of which an end is recorded has none: nothing of it ever ran."""
    return step.exit_code is None and step.signal is None
