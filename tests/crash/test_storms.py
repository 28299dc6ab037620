"""Storms of kills, with and without supervisors among the victims, judged by the checker."""

from __future__ import annotations

import json
import os

import pytest

from leeroy.proof import crashtest
from tests import longrun
from tests.conftest import _make
from tests.servers import Leeroy

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
