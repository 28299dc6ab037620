"""The same misfortunes for every recipe, and the target is right after each."""

from __future__ import annotations

import pytest

from tests.crash.test_server_dies import kill_everything
from tests.recipes.kinds import EXAMPLES
from tests.recipes.shop import Shop
from tests.recipes.target import ARRIVED, LANDED
from tests.sinks import json_sink

pytestmark = pytest.mark.timeout(900)
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
@pytest.mark.parametrize("point", [ARRIVED, LANDED])
def test_the_server_is_killed_in_the_middle_of_a_deploy(shop: Shop, point: str) -> None:
    """kill -9 of the server alone: its script runs on, and ran once when all is over."""
    shop.target.hold(point)
    pushed = shop.push(1)
    shop.target.wait()
    assert "deploying" == shop.leeroy.state(pushed.build)
    shop.leeroy.kill()
    shop.target.release()
    shop.leeroy.start()
    shop.deployed(pushed)
    assert [pushed.mark] == shop.target.changes()
    assert {"lose", "withdraw"}.isdisjoint(shop.leeroy.moves(pushed.build))
    assert 1 == shop.runs(pushed.build)


@every
@pytest.mark.parametrize("point", [ARRIVED, LANDED])
def test_everything_is_killed_in_the_middle_of_a_deploy(shop: Shop, point: str) -> None:
    """Server, supervisor and script at once, as in a power cut: in the end it went live, and once."""
    shop.target.hold(point)
    pushed = shop.push(1)
    shop.target.wait()
    assert "deploying" == shop.leeroy.state(pushed.build)
    kill_everything(shop.leeroy)
    shop.target.release()
    shop.target.quiet()
    shop.leeroy.start()
    shop.deployed(pushed)
    assert [pushed.mark] == shop.target.changes()
    moves = shop.leeroy.moves(pushed.build)
    assert 1 == moves.count("lose")
    if point == LANDED:
        assert 0 == moves.count("resolve_again"), "what landed is not deployed again"
        assert 1 == shop.runs(pushed.build)
