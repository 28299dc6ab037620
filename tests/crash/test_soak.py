"""Everything at once for a long time: no promise is broken, and nothing grows."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from leeroy.proof import world
from leeroy.proof.checker import check
from leeroy.proof.history import History
from leeroy.proof.installation import Installation, phone
from leeroy.terms import Stage, State
from tests import longrun
from tests.conftest import _make
from tests.crash.soaking import Crowd, Gauge, Killer
from tests.sinks import json_sink
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
WITH_KILLS_S, STEADY_S = (900.0, 900.0) if TORTURE else (2.5, 2.5)
EVERY_S = 5.0 if TORTURE else 0.8
OPEN = 6 if TORTURE else 4


@pytest.mark.timeout(3600 if TORTURE else 120)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"] if TORTURE else ["sqlite"])
def test_a_soak_breaks_no_promise_and_nothing_grows(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, gave: longrun.Tell
) -> None:
    """Half of the time servers die, half of it one server lives on while supervisors die."""
    database = None
    if kind == "postgresql":
        database = _make(request.getfixturevalue("postgres"), f"soak{os.getpid()}")
    dice = random.Random(7)
    with phone() as told, json_sink() as one, json_sink() as other:
        there = Installation(tmp_path, told, database)
        crowd = Crowd(there, dice, [one, other], OPEN)
        killer, gauge = Killer(crowd, random.Random(11)), Gauge()
        try:
            there.up()
            crowd.start()
            killer.go_on(WITH_KILLS_S, EVERY_S, servers=True, gauge=gauge)
            killer.go_on(STEADY_S, EVERY_S, servers=False, gauge=gauge)
            crowd.stop()
            settled = crowd.settle(120, crowd.make_well, tried=True)
            history = crowd.history()
            broken = [str(violation) for violation in check(history)]
            over = Counter(str(build.state) for build in history.rows.builds.values())
            deploys = [m for m in history.marks if (m.stage, m.what) == (Stage.deploy, "start")]
            gave(
                f"soak on {kind}", kills=killer.kills, builds=len(history.rows.builds),
                deploys=len(deploys), violations=len(broken), seconds=WITH_KILLS_S + STEADY_S,
            )  # fmt: skip
            last = gauge.samples[-1]
            print(f"\nsoak on {kind}: {dict(over)}; {killer.servers} servers killed, {crowd.holds} holds, "
                  f"{len(crowd.freezes)} freezes, {len(crowd.answers)} stops; {gauge.samples[0]} then {last}, "
                  f"write-ahead log {gauge.wal} bytes")  # fmt: skip
            assert [] == broken, _told_in_full(history)
            assert settled, "not everything came to its end"
            assert deploys and killer.kills and over["done"]
            assert [] == gauge.grown()
            _only_what_is_kept(there, over, killer.servers)
        finally:
            crowd.stop()
            there.end(signal.SIGKILL)
            there.kill(there.left())


def _told_in_full(history: History) -> str:
    """Every move with its time and its first notice's number: what a broken rule is explained by."""
    numbers: dict[tuple[int, int], int] = {}
    for notice in history.rows.notices:
        key = (notice.build_id, notice.seq)
        numbers[key] = min(notice.id, numbers.get(key, notice.id))
    return "\n".join(
        f"#{number} {event.seq} {event.at:%H:%M:%S.%f} {event.move} {event.environment} "
        f"by {event.actor}, notice {numbers.get((number, event.seq))}"
        for number, events in history.rows.events.items()
        for event in events
    )


def _only_what_is_kept(there: Installation, over: Counter[str], servers: int) -> None:
    """After the next start's look no folder and no process is left that nobody needs."""
    there.end(signal.SIGTERM)
    until(lambda: not there.left(), 20, "supervisors and scripts have gone with their runs")
    there.up()
    runs, work = there.folder / "var" / "runs", there.folder / "var" / "workspaces"
    until(lambda: not list(runs.glob("[!.]*")), 20, "every run is recorded, so none is kept")
    # Of failed builds they stay a day, and so does what a killed server had no time to remove.
    kept = len(list(work.iterdir())) if work.is_dir() else 0
    unclean = over[State.failed] + over[State.deploy_failed] + over[State.cancelled]
    assert kept <= 2 * unclean + 6 * servers
    assert (there.folder / "var" / "journal").stat().st_size <= 4096
    assert world.read(there.log), "the scripts told nothing"
    there.end(signal.SIGTERM)
    until(lambda: not there.left(), 20, "a server that stops leaves nothing when nothing runs")
