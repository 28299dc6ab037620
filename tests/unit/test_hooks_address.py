"""Two addresses of one repository are the same address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leeroy.hooks import address


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/Acme/Shop",
        "https://github.com/acme/shop.git",
        "https://GitHub.com/acme/shop/",
        "https://token:x-oauth@github.com:443/acme/shop.git/",
        "http://github.com/acme/shop",
        "git://github.com/acme/shop.git",
        "ssh://git@github.com:22/acme/shop.git",
        "ssh://github.com/acme/shop",
        "git@github.com:acme/shop.git",
        "git@github.com:/acme/shop.git",
        "github.com:Acme/Shop",
        " https://github.com/acme/shop\n",
    ],
)
def test_every_way_to_write_it(url: str) -> None:
    """Scheme, case, user, port and `.git` make no difference."""
    assert "github.com/acme/shop" == address(url)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://gitlab.com/a/b/c/d.git", "gitlab.com/a/b/c/d"),
        ("ssh://git@[::1]:2222/srv/Shop.git", "[::1]/srv/shop"),
        ("git@[::1]:shop.git", "[::1]/shop"),
        ("/srv/git/Shop.git", "/srv/git/Shop.git"),
        ("file:///srv/git/Shop.git", "/srv/git/Shop.git"),
        ("file://localhost/srv/git/Shop.git", "/srv/git/Shop.git"),
        ("./shop.git", "./shop.git"),
        ("shop.git", "shop.git"),
        ("", ""),
    ],
)
def test_others(url: str, normal: str) -> None:
    """Deep paths and IPv6 work; a local path stays as it stands."""
    assert normal == address(url)


def test_different_repositories_stay_different() -> None:
    """Neither another host nor another path is taken for the same."""
    urls = ["https://a.example/x/y", "https://b.example/x/y", "https://a.example/x/z", "/x/y"]

    assert len(urls) == len({address(url) for url in urls})


@given(st.text())
def test_any_text_has_a_normal_form(text: str) -> None:
    """No address is an error; the normal form of a remote one does not change again."""
    assert address(text) == address(text)
