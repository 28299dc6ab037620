"""The whole story of each recipe: two versions, back to the first, and its picture."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browsers import chromium
from tests.recipes import clouds, index
from tests.recipes.conftest import EXAMPLES
from tests.recipes.shop import Shop

pytestmark = pytest.mark.timeout(900)
PICTURES = os.environ.get("LEEROY_PICTURES")


@pytest.mark.parametrize("target", [*EXAMPLES, "django-heroku over ssh"], indirect=True)
def test_from_push_to_target_and_back(shop: Shop) -> None:
    """Both versions go live; an old one comes back, and the environment is frozen then."""
    target, leeroy = shop.target, shop.leeroy
    first = shop.push(1)
    shop.deployed(first)
    picture(shop, first.build)
    second = shop.push(2)
    shop.deployed(second)
    assert [first.mark, second.mark] == target.changes()
    leeroy.cli("deploy", str(first.build), "--to", target.place)
    back = leeroy.ask("list")[0]["id"]
    assert "done" == shop.finish(back), leeroy.logged(back)
    if isinstance(target, index.Index):
        assert "it is there already" in leeroy.logged(back)
        assert [first.mark, second.mark] == target.changes()
    else:
        assert first.mark == target.live()
        assert [first.mark, second.mark, first.mark] == target.changes()
    places = {place["environment"]: place for place in leeroy.ask("environments")}
    assert places[target.place]["frozen"]
    for secret in target.secrets().values():
        assert secret not in leeroy.logged(first.build)
    if isinstance(target, clouds.Beanstalks):
        assert [first.mark, second.mark] == target.updates("production")
        assert {*target.files(1, False)} | {"README", "src/shop.py"} == {
            *target.cloud.beanstalk.runs["shop-staging"]
        }
    if isinstance(target, clouds.Downloads):
        there = target.files_of(first.mark)
        assert {"SHA256SUMS", "source.tar.gz", "leeroy-1.0-py3-none-any.whl"} == {*there}


def picture(shop: Shop, build: int) -> None:
    """A build's page in a real browser; kept for the docs when asked."""
    with chromium() as browser:
        context = browser.new_context(
            viewport={"width": 1000, "height": 900}, device_scale_factor=2
        )
        page = context.new_page()
        page.goto(shop.leeroy.url)
        page.get_by_label("token").fill(shop.leeroy.token)
        page.get_by_role("button", name="Log in").click()
        page.goto(f"{shop.leeroy.url}/builds/{build}")
        expect(page.locator("h1 .state")).to_have_text("done")
        if PICTURES:
            name = f"recipe-{shop.target.example}.png"
            page.screenshot(path=Path(PICTURES) / name)
        context.close()


@pytest.mark.parametrize("target", ["package-pypi"], indirect=True)
def test_two_tags_at_once_are_both_published(shop: Shop) -> None:
    """Neither gives way; another wheel under a version that is out is refused."""
    one, two = shop.push(1), shop.push(2)
    shop.deployed(two)
    assert "done" == shop.finish(one.build)
    assert [one.mark, two.mark] == shop.target.changes()
    commit = shop.repo.commit("slip", **shop.target.files(2, False) | {"tool/more.py": "x = 1\n"})
    status, answer = shop.leeroy.hook(shop.repo, commit=commit, ref="refs/tags/v2.0")
    assert 202 == status
    shop.repo.git("tag", "-f", "v2.0")
    shop.repo.git("push", "-q", "-f", "origin", "v2.0")
    assert "deploy_failed" == shop.finish(answer["builds"][0])
    assert [one.mark, two.mark] == shop.target.changes()
