"""Addresses: one per recipient, and nothing of them that is a secret in sight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leeroy.errors import Invalid
from leeroy.notify.postman import veiled
from leeroy.notify.targets import author, label, mistake, secrets, split

TELEGRAM = "tgram://123456789:abcdefg_hijklmnop/"
TWILIO = "twilio://AC0123:s3cr3ttoken@15005550006/"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "mailto://u:pw@mail.example?to=a@x.example,b@y.example&from=c@x.example",
            {
                "mailto a@x.example": "mailto://u:pw@mail.example/?from=c@x.example&to=a%40x.example",
                "mailto b@y.example": "mailto://u:pw@mail.example/?from=c@x.example&to=b%40y.example",
            },
        ),
        (
            "mailtos://u:pw@mail.example/a@x.example/?cc=Bob%20%3Cb@y.example%3E&bcc=a@x.example",
            {
                "mailtos a@x.example": "mailtos://u:pw@mail.example/?to=a%40x.example",
                "mailtos b@y.example": "mailtos://u:pw@mail.example/?to=b%40y.example",
            },
        ),
        (
            f"{TELEGRAM}111/-222?silent=yes",
            {
                "tgram 111": f"{TELEGRAM}111/?silent=yes",
                "tgram -222": f"{TELEGRAM}-222/?silent=yes",
            },
        ),
        (
            f"{TWILIO}+491/+492/+491",
            {"twilio +491": f"{TWILIO}%2B491/", "twilio +492": f"{TWILIO}%2B492/"},
        ),
        ("json://u:pw@host:8080/a?x=y", {"json://host:8080": "json://u:pw@host:8080/a?x=y"}),
        ("mailto://u:pw@mail.example", {"mailto://mail.example": "mailto://u:pw@mail.example"}),
        (
            "slack://T1/B2/C3/#a/#b",
            {"slack": "slack://T1/B2/C3/#a/#b"},
        ),
    ],
)
def test_one_address_per_recipient(url: str, expected: dict[str, str]) -> None:
    """Several recipients become several addresses; what cannot be split stays whole."""
    assert expected == {one.name: one.url for one in split(f" {url} ")}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no Apprise address"),
        ("ops@example.com", "no Apprise address"),
        ("file:///etc/passwd", "acts on the server itself"),
        ("DBUS://", "acts on the server itself"),
        (f"{TELEGRAM}1, {TWILIO}2", "more than one address"),
    ],
)
def test_what_is_no_target(url: str, said: str) -> None:
    """The reason is said, and the address is not."""
    with pytest.raises(Invalid, match=said) as caught:
        split(url)
    assert mistake(url) == str(caught.value)
    assert not url or url not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("json://user:secret@host:1/secret?key=secret", "json://host:1"),
        ("mailto://user:secret@mail.example?to=x@y.example", "mailto://mail.example"),
        ("tgram://secret/123", "tgram"),
        ("discord://secret/secret", "discord"),
        ("json://sec ret/x", "json"),
        ("nonsense", "unknown"),
    ],
)
def test_a_label_shows_no_secret(url: str, expected: str) -> None:
    """Only the service, and its host where that is no secret."""
    assert expected == label(url)


@given(st.text(), st.text())
def test_any_text_has_a_label(one: str, two: str) -> None:
    """No text is an error for what is shown in logs."""
    assert label(one)
    secrets(one)
    assert "s3cr3t" not in label(f"json://{one.replace('/', '')}:s3cr3t@{two}")


def test_secrets_are_veiled() -> None:
    """What a service says is cleared of every part of the address, encoded or not."""
    url = "json://user:p%40ss%20word@host:1/hidden?+Authorization=Bearer%20TOPSECRET"
    said = "POST /hidden as user with p@ss word or p%40ss%20word and Bearer TOPSECRET at host"

    assert "POST /*** as *** with *** or *** and *** at host" == veiled(said, url)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ada@example.com", True),
        (None, False),
        ("", False),
        ("21031067+ada@users.noreply.github.com", False),
        ("noreply@github.com", False),
    ],
)
def test_mail_to_an_author(address: str | None, told: bool) -> None:
    """Authors with a mailbox get mail of their own; those without get none."""
    url = author("mailto://u:pw@mail.example/x@y.example?from=c@x.example&cc=d@x.example", address)

    expected = "mailto://u:pw@mail.example/?from=c@x.example&to=ada%40example.com"
    assert (expected if told else None) == url
