"""`leeroy serve` that dies between a deploy's row and its script: after prepare, before launch."""

from __future__ import annotations

import os
import sys

from leeroy.cli.app import run
from leeroy.runner.runner import Runner

_launch = Runner.launch


def launch(self: Runner, run_id: str) -> None:
    """Launch, but for deploys die."""
    if self.spec(run_id).env.get("LEEROY_STAGE") == "deploy":
        os._exit(9)
    _launch(self, run_id)


Runner.launch = launch  # type: ignore[method-assign]  # the test's own process
sys.exit(run(["serve"]))
