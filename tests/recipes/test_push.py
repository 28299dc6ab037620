"""Each recipe, from its shipped file, from a push to its target; and its picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipes.kinds import EXAMPLES
from tests.recipes.shop import PICTURES, Shop

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("target", EXAMPLES, indirect=True)
def test_from_push_to_target(shop: Shop) -> None:
    """What was pushed is tested and live, once; no secret is in its log."""
    pushed = shop.push(1)
    shop.deployed(pushed)
    assert [pushed.mark] == shop.target.changes()
    log = shop.leeroy.logged(pushed.build)
    for secret in shop.target.secrets().values():
        assert secret not in log
    if PICTURES:
        picture(shop, pushed.build, Path(PICTURES) / f"recipe-{shop.target.example}.png")


def picture(shop: Shop, build: int, file: Path) -> None:
    """A build's page in a real browser, for the docs."""
    from playwright.sync_api import expect

    from tests.browsers import chromium

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
        page.screenshot(path=file)
        context.close()
