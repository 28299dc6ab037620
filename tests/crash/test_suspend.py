"""The machine sleeps in the grace period: nobody could have stopped the deploy meanwhile."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from tests.functional.test_people_are_told import NOTIFY, link_of
from tests.parts import need
from tests.servers import Leeroy
from tests.sinks import json_sink
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clock for one process that can be made to look back on a suspend."""
    made = tmp_path_factory.mktemp("asleep") / "asleep.so"
    source = Path(__file__).with_name("asleep.c")
    subprocess.run([need("gcc"), "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.mark.parametrize("seconds", [600, 7200] if TORTURE else [600])
def test_a_suspend_in_the_grace_period(leeroy: Leeroy, library: Path, seconds: int) -> None:
    """Ten minutes: announced again, and the period runs in full.  Two hours: held, for it is stale."""
    clock = leeroy.folder / "asleep"
    clock.write_bytes(struct.pack("l", 0))
    with json_sink() as sink:
        leeroy.env |= {"OPS": sink.url, "LD_PRELOAD": str(library), "ASLEEP": str(clock)}
        leeroy.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\nrun = "true"\n'
            f'grace = "4s"\n{NOTIFY}'
        )
        leeroy.start()
        build = leeroy.ask("trigger", name="shop")["id"]
        link_of(sink, build)
        until(lambda: leeroy.build(build)["deploy_at"], 10)
        assert leeroy.process is not None
        leeroy.process.send_signal(signal.SIGSTOP)
        with clock.open("r+b") as stream:  # it is looked at where it lies
            stream.write(struct.pack("l", seconds))
        leeroy.process.send_signal(signal.SIGCONT)
        if seconds > 3600:
            until(lambda: "stale" in leeroy.ask("why", id=build)["why"], 10)
            assert "hold" == leeroy.moves(build)[-1]
            return
        until(lambda: leeroy.moves(build).count("announce") == 2, 10)
        assert "done" == leeroy.until_over(build)
        at = {e["move"]: datetime.fromisoformat(e["at"]) for e in leeroy.ask("events", id=build)}
        assert (at["deploy"] - at["announce"]).total_seconds() >= 4
        assert 2 == sum("not before" in told["title"] for told in sink.received)
