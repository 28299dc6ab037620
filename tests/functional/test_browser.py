"""The stop page and a build's page in a real browser: on a phone, with and without JavaScript."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsers import chromium
from tests.functional.test_story import NOTIFY, link_of
from tests.servers import Leeroy
from tests.sinks import json_sink

PICTURES = os.environ.get("LEEROY_PICTURES")
"""A folder: the pictures of the docs are made anew there."""
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium."""
    with chromium() as found:
        yield found


@pytest.fixture
def pending(leeroy: Leeroy) -> Iterator[tuple[Leeroy, int, str]]:
    """A shop with a deploy that waits, its number and its stop link."""
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        repo = leeroy.shop(
            test="echo 'test_cart ... ok'; echo 'test_till ... ok'; echo 'Ran 2 tests'",
            deploy='touch "{world}/deployed"',
            more='grace = "45s"',
            tail=NOTIFY,
        )
        leeroy.start()
        build = leeroy.push(repo)
        yield leeroy, build, leeroy.url + link_of(sink, build)


def look(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


@pytest.mark.parametrize("javascript", [True, False])
def test_stop_on_a_phone(
    pending: tuple[Leeroy, int, str], browser: Browser, javascript: bool
) -> None:
    """The focused button stops the deploy with one key; nothing is wider than the screen."""
    leeroy, build, link = pending
    context = browser.new_context(
        viewport=PHONE,
        java_script_enabled=javascript,
        device_scale_factor=2,  # type: ignore[arg-type]
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.goto(link)
    button = page.get_by_role("button", name="Stop this deploy")
    expect(button).to_be_visible()
    expect(page.get_by_role("button", name="Hold it")).to_be_visible()
    box = button.bounding_box()
    assert box is not None
    assert box["height"] >= 44
    assert box["x"] + box["width"] <= 360
    if javascript:
        expect(button).to_be_focused()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        first = page.locator(".seconds").inner_text()
        expect(page.locator(".seconds")).not_to_have_text(first, timeout=5000)
        look(page, "stop")
        page.keyboard.press("Enter")
    else:
        button.click()
    expect(page.get_by_role("status")).to_contain_text(f"build {build} is cancelled")
    assert "cancelled" == leeroy.state(build)
    assert not (leeroy.world / "deployed").exists()
    assert [] == complaints, "the page's own policy blocks nothing of it"
    context.close()


def test_hold_in_a_browser(pending: tuple[Leeroy, int, str], browser: Browser) -> None:
    """Hold keeps it; the page then says so and offers only to stop it."""
    leeroy, build, link = pending
    page = browser.new_page()
    page.goto(link)
    page.get_by_role("button", name="Hold it").click()
    expect(page.get_by_role("status")).to_contain_text("is held until")
    expect(page.get_by_role("button", name="Hold it")).to_have_count(0)
    assert "held by stop link" in leeroy.build(build)["waiting_for"]
    page.close()


def test_login_list_and_a_build_that_is_followed(
    pending: tuple[Leeroy, int, str], browser: Browser
) -> None:
    """A token logs in; the list shows the build; its page follows the build without a reload."""
    leeroy, build, _ = pending
    context = browser.new_context(viewport={"width": 1000, "height": 1060}, device_scale_factor=2)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.goto(leeroy.url)
    page.get_by_label("token").fill(leeroy.token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text(f"#{build}")).to_be_visible()
    look(page, "builds")
    page.get_by_text("Change the shop").click()
    expect(page.locator(".seconds")).to_be_visible()
    expect(page.locator("#log")).to_contain_text("Ran 2 tests")
    look(page, "build")
    page.get_by_role("button", name="Let it go on now").click()
    expect(page.locator("h1 .state")).to_have_text("done", timeout=10_000)
    assert (leeroy.world / "deployed").exists()
    assert [] == complaints
    context.close()
