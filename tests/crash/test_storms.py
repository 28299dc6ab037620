"""Storms of kills, with and without supervisors among the victims, judged by the checker."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from leeroy.proof import crashtest
from tests import longrun
from tests.conftest import _make
from tests.parts import need_mounts
from tests.servers import ROOT, Leeroy
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
BUILDS = 100 if TORTURE else 0
SERVER = ("server", "starting server", "parent")
"""Scripts and supervisors outlive these, so that no end is ever unknown."""
EVERYDAY = [
    ("sqlite", SERVER, 12),
    ("sqlite", crashtest.VICTIMS, 32),
    ("postgresql", crashtest.VICTIMS, 16),
]
"""60 kills in all; a supervisor's costs no start of a server, so most may hit one."""
LONG = [
    (kind, victims, 250)
    for kind in ("sqlite", "postgresql")
    for victims in (SERVER, crashtest.VICTIMS)
]
"""1,000 kills over 400 builds."""
STORMS = LONG if TORTURE else EVERYDAY


@pytest.mark.timeout(3600 if TORTURE else 300)
@pytest.mark.parametrize(
    ("kind", "victims", "kills"),
    STORMS,
    ids=[f"{kind}-{'server' if victims is SERVER else 'all'}" for kind, victims, _ in STORMS],
)
def test_a_storm_breaks_no_promise(
    request: pytest.FixtureRequest,
    kind: str,
    victims: tuple[str, ...],
    kills: int,
    gave: longrun.Tell,
) -> None:
    """Whoever is killed, no rule is broken."""
    database = None
    if kind == "postgresql":
        name = f"storm{os.getpid()}_{len(victims)}"
        database = _make(request.getfixturevalue("postgres"), name)
    report = crashtest.run(kills=kills, builds=BUILDS, victims=victims, database=database)
    whom = "servers" if victims is SERVER else "servers, supervisors, scripts"
    gave(
        f"storm on {kind}: {whom}", kills=report.kills.total(), builds=report.builds,
        deploys=report.deploys, violations=len(report.violations), seconds=report.seconds,
    )  # fmt: skip
    print(f"\nstorm on {kind}: {json.dumps(report.json())}")
    assert [] == report.violations
    assert report.kills.total() >= kills and report.builds >= BUILDS
    assert report.deploys > 0
    if victims is SERVER:
        assert 0 == report.interrupted, "no supervisor died, so every end was seen"


@pytest.mark.timeout(240)
def test_the_command_says_what_it_did(leeroy: Leeroy) -> None:
    """`leeroy crashtest` needs no installation, leaves nothing, and exits 0 without a violation."""
    leeroy.write_settings()
    temporary = leeroy.folder / "tmp"
    temporary.mkdir()
    done = leeroy.cli("crashtest", "--kills", "2", "--json", TMPDIR=str(temporary))
    found = json.loads(done.stdout)
    assert [] == found["violations"]
    assert 2 <= found["kills"] == sum(found["killed"].values())
    assert found["builds"] == sum(found["states"].values()) > 0
    assert [] == list(temporary.iterdir())


ENDS = [signal.SIGTERM, signal.SIGKILL, *([signal.SIGHUP, signal.SIGINT] if TORTURE else [])]


def living(folder: Path) -> list[str]:
    """What runs in *folder* or names it in its environment or its words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if words and bytes(folder) in words + (entry / "environ").read_bytes():
                    found.append(f"{entry.name} {words.replace(bytes(1), b' ').decode()}")
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", ENDS)
def test_a_storm_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """No folder and no process; and where it is killed itself, no process."""
    environ = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    storm = subprocess.Popen(
        [sys.executable, "-m", "leeroy", "crashtest", "--kills", "1000"],
        cwd=tmp_path, env=environ, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        worlds = lambda: list(tmp_path.glob("leeroy-crash-*/world"))  # noqa: E731
        until(worlds, 120, "a script has begun")
        folder = worlds()[0].parent
        storm.send_signal(number)
        code = {signal.SIGINT: 130, signal.SIGKILL: -9}.get(number, 128 + number)
        assert code == storm.wait(60)
        left = [] if number != signal.SIGKILL else [folder]
        assert left == list(tmp_path.iterdir())
        until(lambda: not living(folder), 30 if left else 1, "nothing of it lives")
    finally:
        storm.kill()
        storm.wait()


def test_a_storm_says_that_there_is_no_room(tmp_path: Path) -> None:
    """At once, and what to do."""
    room = tmp_path / "room"
    room.mkdir()
    text = f'mount -t tmpfs -o size=3m tmpfs "{room}" && exec "$@"'
    done = subprocess.run(
        [*need_mounts(), "sh", "-c", text, "sh", sys.executable, "-m", "leeroy", "crashtest"],
        cwd=tmp_path, env=os.environ | {"TMPDIR": str(room), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert 5 == done.returncode
    assert f"needs 32 MiB in {room}, and 3.0 are free; make room, or set TMPDIR" in done.stderr
