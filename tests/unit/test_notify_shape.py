"""Which length a service gets, and how it is cut."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from leeroy.notify.compose import Message
from leeroy.notify.shape import Shape, html_cut, quiet, shape
from leeroy.notify.words import gsm_cut, gsm_length, one_line, plain, tail

MESSAGE = Message("the title", "the short", "the text @all", "<p>the html @all</p>\n")


def test_each_service_gets_what_it_can_show() -> None:
    """A telephone the short one; a chat without titles none; a mail HTML; a plain one text."""
    assert Shape("", "the short", "text") == shape("twilio", ["text"], 160, 0, MESSAGE)
    assert Shape("", "<p>the html @\u200ball</p>\n", "html") == shape(
        "tgram", ["html"], 4096, 0, MESSAGE
    )
    assert Shape("the title", "<p>the html @all</p>\n", "html") == shape(
        "mailto", ["html", "text"], 32768, 250, MESSAGE
    )
    assert Shape("the ti…", "the text @all", "text") == shape("json", ["text"], 32768, 7, MESSAGE)


def test_nobody_is_called() -> None:
    """What would call people in a chat, or hide an address, is broken up."""
    assert "@\u200beveryone <\u200b!channel> [x]\u200b(y) a @ b" == quiet(
        "@everyone <!channel> [x](y) a @ b"
    )


class Balance(HTMLParser):
    """Fails when tags are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()


@given(st.integers(0, 400), st.integers(0, 60))
def test_html_is_cut_between_its_parts(limit: int, lines: int) -> None:
    """What is left is whole HTML within the limit; a log keeps its end."""
    log = "\n".join(f"&lt;{number}&gt;" for number in range(lines))
    body = f'<p>one &amp; two</p>\n<p><a href="https://x/">https://x/</a> </p>\n<pre>{log}</pre>\n'

    kept = html_cut(body, limit)

    assert len(kept) <= limit
    balance = Balance()
    balance.feed(kept)
    assert [] == balance.open
    if "<pre>" in kept and lines:
        assert kept.endswith(f"&lt;{lines - 1}&gt;</pre>\n")
    if limit >= len(body):
        assert body == kept


@given(st.text(), st.integers(0, 50))
def test_words_are_cut_to_their_limits(text: str, limit: int) -> None:
    """One line is one line, an SMS keeps its places, a log its lines."""
    line = one_line(text, limit)
    assert len(line) <= limit
    assert 1 >= len(line.splitlines())
    assert gsm_length(gsm_cut(text, limit)) <= limit
    assert len(tail(text, lines=3, characters=limit)) <= limit
    assert plain(text) == plain(plain(text))


def test_terminal_sequences_are_gone() -> None:
    """Colours, links, the clipboard and titles of a terminal leave their words only."""
    log = "\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x1b\\ \x1b]52;c;aGk=\x07 10%\r100%\nnext"

    assert "100%\nnext" == plain(log)
    assert "red link" == one_line("\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link")
