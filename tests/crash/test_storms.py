"""Storms of kills, with and without supervisors among the victims, judged by the checker."""

from __future__ import annotations

import json
import os

import pytest

from leeroy.proof import crashtest
from tests.conftest import _make
from tests.servers import Leeroy

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
KILLS = 250 if TORTURE else 15
BUILDS = 100 if TORTURE else 0
SERVER = ("server", "starting server", "parent")
"""Scripts and supervisors outlive these, so that no end is ever unknown."""


@pytest.mark.timeout(3600 if TORTURE else 300)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("victims", [SERVER, crashtest.VICTIMS], ids=["server", "all"])
def test_a_storm_breaks_no_promise(
    request: pytest.FixtureRequest, kind: str, victims: tuple[str, ...]
) -> None:
    """60 kills in four storms (1,000 over 400 builds in torture): no rule is broken."""
    database = None
    if kind == "postgresql":
        name = f"storm{os.getpid()}_{len(victims)}"
        database = _make(request.getfixturevalue("postgres"), name)
    report = crashtest.run(kills=KILLS, builds=BUILDS, victims=victims, database=database)
    print(f"\nstorm on {kind}: {json.dumps(report.json())}")
    assert [] == report.violations
    assert report.kills.total() >= KILLS and report.builds >= BUILDS
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
