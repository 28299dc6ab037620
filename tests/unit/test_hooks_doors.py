"""At which door a pipeline takes deliveries, whatever signed them."""

from __future__ import annotations

import pytest

from leeroy.errors import ConfigError
from leeroy.hooks import FORGES, Chosen, admits, chosen
from leeroy.refs import forge

PLAIN, SIGN = "plain", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize("secrets", [(PLAIN,), (PLAIN, SIGN), (SIGN,)])
@pytest.mark.parametrize("known", FORGES)
def test_a_known_forge_has_one_door(known: str, secrets: tuple[str, ...]) -> None:
    assert [known] == [door for door in FORGES if admits(door, known, secrets)]


def test_an_unknown_forge_has_every_door_until_a_token_signs() -> None:
    assert list(FORGES) == [door for door in FORGES if admits(door, None, (PLAIN, "other"))]
    assert ["gitlab"] == [door for door in FORGES if admits(door, None, (PLAIN, SIGN))]


@pytest.mark.parametrize(
    ("repository", "known"),
    [
        ("https://github.com/acme/shop.git", "github"),
        ("ssh://git@ssh.github.com:443/acme/shop.git", "github"),
        ("https://acme.ghe.com/acme/shop.git", "github"),
        ("ssh://git@altssh.gitlab.com:443/acme/shop.git", "gitlab"),
        ("ssh://git@altssh.bitbucket.org:443/acme/shop.git", "bitbucket"),
        ("https://gitea.com/acme/shop.git", "gitea"),
        ("https://notghe.com/acme/shop.git", None),
        ("https://git.example.com/acme/shop.git", None),
    ],
)
def test_hosts_by_which_a_forge_is_known(repository: str, known: str | None) -> None:
    assert known == forge(repository)


@pytest.mark.parametrize(
    ("known", "reference"), [("gitlab", "SIGN"), (None, "SIGN"), ("github", "GONE")]
)
def test_the_webhook_is_given_the_secret_that_counts(known: str | None, reference: str) -> None:
    """Of a plain one beside a signing token no delivery would be taken any more."""

    def get(name: str) -> str:
        if name == "GONE":
            raise ConfigError()
        return {"PLAIN": PLAIN, "SIGN": SIGN}[name]

    found = chosen(["GONE", "PLAIN", "SIGN"], known, get)
    assert Chosen(reference, signs=reference == "SIGN") == found
    assert Chosen("PLAIN", signs=False) == chosen(["PLAIN", "GONE"], known, get)
