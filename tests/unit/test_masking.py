"""No secret is readable in a log, however the output was cut into pieces."""

from __future__ import annotations

import base64
import itertools
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leeroy.runner.masking import MASK, Masker

KEY = "hunter2-/+ä-longer"


def masked(pieces: list[bytes], *secrets: str) -> bytes:
    masker = Masker(secrets)
    out = [masker.feed(piece) for piece in pieces]
    return b"".join(out) + masker.feed(b"", final=True)


@pytest.mark.parametrize(
    "spelling",
    [
        KEY.encode(),
        quote(KEY, safe="").encode(),
        base64.b64encode(KEY.encode()),
        base64.b64encode(b"user:" + KEY.encode() + b"@host"),
        base64.b64encode(b"use:" + KEY.encode() + b"!"),
        base64.urlsafe_b64encode(b"us:" + KEY.encode()),
    ],
)
def test_a_secret_is_masked_in_every_spelling_cut_at_every_byte(spelling: bytes) -> None:
    """Whole, URL-encoded or in base64: split anywhere, never in the log."""
    text = b"before " + spelling + b" after\n"
    whole = masked([text], KEY)
    assert MASK in whole
    for cut in range(len(text) + 1):
        assert whole == masked([text[:cut], text[cut:]], KEY)
    assert whole == masked([text[i : i + 1] for i in range(len(text))], KEY)


def test_every_line_of_a_key_file_is_a_secret() -> None:
    """A script that prints an ssh key line by line prints no key."""
    key = "-----BEGIN KEY-----\nabcdefgh\nijklmnop\n-----END KEY-----\n"
    out = masked([b"> abcdefgh\n> ijklmnop\n"], key)
    assert b"> ***\n> ***\n" == out


def test_a_secret_that_begins_another_hides_both() -> None:
    """The longer one is not betrayed by masking the shorter one first."""
    assert b"x***y" == masked([b"xabcd", b"efghy"], "abcd", "abcdefgh")


def test_overlapping_secrets_leave_nothing() -> None:
    """Two secrets that share letters are both hidden."""
    assert b"-***-" == masked([b"-abcdefg", b"hij-"], "abcdef", "defghij")


def test_what_cannot_be_a_secret_is_shown_at_once() -> None:
    """A prompt without a newline is not kept back."""
    masker = Masker(["secret"])
    assert b"continue? " == masker.feed(b"continue? ")
    assert 0 == masker.held
    assert b"" == masker.feed(b"sec")
    assert 3 == masker.held
    assert b"section" == masker.feed(b"tion")


def test_half_a_secret_at_a_hole_is_masked() -> None:
    """What the cap cut in two is hidden on both sides of the hole."""
    masker = Masker(["hunter2hunter2"])
    assert b"a " == masker.feed(b"a hunter2")
    assert MASK == masker.gap()
    assert b"*** b" == masker.feed(b"hunter2 b")


def test_short_words_are_no_secrets() -> None:
    """Masking "on" everywhere would hide the log and tell the secret."""
    assert b"on and on" == masked([b"on and on"], "on")


@given(
    text=st.binary(max_size=60),
    secrets=st.lists(st.text("ab", min_size=4, max_size=9), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 120), max_size=6),
)
def test_cutting_changes_nothing(text: bytes, secrets: list[str], cuts: list[int]) -> None:
    """The pieces' masks are the whole's mask; nothing is lost, nothing shown."""
    data = text + secrets[0].encode() + b"abab" + secrets[-1].encode()
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    out = masked(pieces, *secrets)
    assert masked([data], *secrets) == out
    assert not any(secret.encode() in out for secret in secrets)
