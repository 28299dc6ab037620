"""A real Chromium for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.parts import need


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser, closed at the end."""
    program = need("chromium")
    with sync_playwright() as play:
        found = play.chromium.launch(
            executable_path=program,
            args=["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
                  "--no-first-run", "--disable-background-networking", "--disable-sync"],
        )  # fmt: skip
        yield found
        found.close()
