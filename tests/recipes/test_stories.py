"""The longer story of each recipe: two versions, back to the first, and on from there."""

from __future__ import annotations

import pytest

from tests.recipes.kinds import EXAMPLES, OVER_SSH
from tests.recipes.shop import Shop

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("target", EXAMPLES, indirect=True)
def test_two_versions_and_back(shop: Shop) -> None:
    """An old version comes back, and then nothing follows it by itself until `thaw`."""
    target, leeroy = shop.target, shop.leeroy
    first = shop.push(1)
    shop.deployed(first)
    second = shop.push(2)
    shop.deployed(second)
    target.check(first.mark, second.mark)
    leeroy.cli("deploy", str(first.build), "--to", target.place)
    back = leeroy.ask("list")[0]["id"]
    assert "done" == shop.finish(back), leeroy.logged(back)
    target.check_back(first.mark, second.mark, leeroy.logged(back))

    before = target.changes()
    third = shop.push(3)
    leeroy.until_state(third.build, "deploy_pending", timeout=300)
    frozen = f"build {back} was put there by hand; `leeroy thaw "
    assert frozen in leeroy.cli("why", str(third.build)).stdout
    assert before == target.changes()
    leeroy.cli("thaw", target.place)
    shop.deployed(third)
    assert [*before, third.mark] == target.changes()


@pytest.mark.parametrize("target", [OVER_SSH], indirect=True)
def test_the_remote_may_be_reached_over_ssh(shop: Shop) -> None:
    """The same file, with an ssh address and a key."""
    pushed = shop.push(1)
    shop.deployed(pushed)
    assert [pushed.mark] == shop.target.changes()


@pytest.mark.parametrize("target", ["package-pypi"], indirect=True)
def test_two_tags_at_once_are_both_published(shop: Shop) -> None:
    """Neither gives way; another wheel under a version that is out is refused."""
    one, two = shop.push(1), shop.push(2)
    shop.deployed(two)
    assert "done" == shop.finish(one.build)
    assert [one.mark, two.mark] == shop.target.changes()
    commit = shop.repo.commit("Slip", **shop.target.files(2, False) | {"tool/more.py": "x = 1\n"})
    shop.repo.git("tag", "-f", "v2.0")
    shop.repo.git("push", "-q", "-f", "origin", "v2.0")
    status, answer = shop.leeroy.hook(shop.repo, commit=commit, ref="refs/tags/v2.0")
    assert 202 == status
    assert "deploy_failed" == shop.finish(answer["builds"][0])
    assert [one.mark, two.mark] == shop.target.changes()
