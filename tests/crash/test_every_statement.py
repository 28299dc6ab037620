"""The server dies at its n-th SQL statement, for every n: whatever it was doing, it ends well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Leeroy, a_leeroy
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
EVERY = range(1, 400) if TORTURE else range(3, 150, 7)

PIPELINE = """
[[test]]
name = "unit"
run = 'echo x >> "{world}/test"; sleep 0.05'
[[deploy]]
environment = "production"
run = 'echo x >> "{world}/deploy"; sleep 0.05'
verify = "true"
[[deploy]]
environment = "moon"
run = 'echo x >> "{world}/moon"'
"""


def dying(leeroy: Leeroy, n: int) -> bool:
    """Serve until the n-th statement; True when it came to that before the build was over."""
    leeroy.write_settings()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.dying", str(n)],
        cwd=leeroy.folder,
        env=leeroy.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: process.poll() is not None or len(leeroy.marks("moon")) > 0, 30)
        return process.poll() == 9
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("n", EVERY)
def test_it_dies_at_the_nth_statement(tmp_path: Path, n: int) -> None:
    """Each script ran exactly once, every event is there, and the next server finishes it."""
    with a_leeroy(tmp_path / "leeroy") as leeroy:
        leeroy.pipeline(PIPELINE)
        leeroy.write_settings()
        leeroy.cli("migrate")
        build = int(__import__("json").loads(leeroy.cli("trigger", "shop", "--json").stdout)["id"])
        dying(leeroy, n)
        leeroy.start()
        assert "done" == leeroy.until_over(build, timeout=15)
        for name in ("test", "deploy", "moon"):
            assert ["x"] == leeroy.marks(name), name
        events = leeroy.ask("events", id=build)
        assert list(range(1, len(events) + 1)) == [event["seq"] for event in events]
        assert {"accept", "start", "pass", "announce", "deploy", "finish", "withdraw"} >= {
            event["move"] for event in events
        }
