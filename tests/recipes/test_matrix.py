"""What holds for every recipe: the same five misfortunes, and the target is right after each."""

from __future__ import annotations

import os

import pytest

from tests.crash.test_server_dies import kill_everything
from tests.recipes.conftest import EXAMPLES
from tests.recipes.holding import ARRIVED, LANDED
from tests.recipes.shop import Shop
from tests.sinks import json_sink

pytestmark = pytest.mark.timeout(900)
KILLS = [("everything", ARRIVED), ("everything", LANDED)]
if os.environ.get("LEEROY_TORTURE") == "1":
    KILLS += [("the server", ARRIVED), ("the server", LANDED)]
every = pytest.mark.parametrize("target", EXAMPLES, indirect=True)


@every
def test_red_tests_leave_the_target_alone(shop: Shop) -> None:
    """A failing test ends it before the target hears of anything."""
    pushed = shop.push(1, red=True)
    assert "failed" == shop.finish(pushed.build)
    steps = shop.leeroy.build(pushed.build)["steps"]
    assert ["test"] == [step["stage"] for step in steps if step["state"] == "failed"]
    assert [] == shop.target.changes()


@every
def test_stopped_in_the_grace_period(shop: Shop) -> None:
    """The shipped grace period is announced and stopped, and the target hears of nothing."""
    with json_sink() as sink:
        shop.leeroy.env["OPS"] = sink.url
        shop.leeroy.tables += '[[notify]]\nto = "env:OPS"\non = ["deploy_pending"]\n'
        shop.leeroy.restart()
        pushed = shop.push(1)
        shop.leeroy.until_state(pushed.build, "deploy_pending", timeout=300)
        shop.leeroy.cli("cancel", str(pushed.build))
        assert "cancelled" == shop.finish(pushed.build)
    assert [] == shop.target.changes()


@every
def test_a_deploy_script_that_fails(shop: Shop) -> None:
    """The target refuses: deploy_failed, and nothing of it is live."""
    shop.target.refuse()
    pushed = shop.push(1)
    assert "deploy_failed" == shop.finish(pushed.build)
    steps = shop.leeroy.build(pushed.build)["steps"]
    assert ["deploy"] == [step["stage"] for step in steps if step["state"] == "failed"]
    assert [] == shop.target.changes()


@every
@pytest.mark.parametrize(("who", "point"), KILLS)
def test_killed_in_the_middle_of_a_deploy(shop: Shop, point: str, who: str) -> None:
    """kill -9 of the server, or of its scripts as well: in the end it is live, and went live once."""
    shop.target.hold(point)
    pushed = shop.push(1)
    shop.target.wait()
    assert "deploying" == shop.leeroy.state(pushed.build)
    if who == "everything":
        kill_everything(shop.leeroy)
    else:
        shop.leeroy.kill()
    shop.target.release()
    shop.leeroy.start()
    shop.deployed(pushed)
    assert [pushed.mark] == shop.target.changes()
    moves = shop.leeroy.moves(pushed.build)
    assert (1 if who == "everything" else 0) == moves.count("lose")
    if point == LANDED:
        assert 0 == moves.count("resolve_again"), "what landed is not deployed again"
