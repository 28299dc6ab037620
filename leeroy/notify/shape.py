"""
Which of a message's lengths a service takes.

Pure: what the service can (its formats, its limits) comes in as values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from leeroy.notify.compose import Message
from leeroy.notify.words import cut

_SHORT_BELOW = 500
"""A body limit that leaves room for hardly more than an SMS."""
_CALM = frozenset(["mailto", "mailtos", "json", "jsons", "form", "forms", "xml", "xmls"])
"""Services that do nothing with an `@`."""
_MARGIN = 100
"""What Apprise may add when it turns our HTML into the one a service knows."""
_PING = re.compile(r"(@(?=\w)|<(?=[!@#])|\](?=\())")


class Shape(NamedTuple):
    """What is handed to a service: `format` is Apprise's word, html or text."""

    title: str
    body: str
    format: str


def shape(
    service: str, formats: Sequence[str], body_limit: int, title_limit: int, message: Message
) -> Shape:
    """The length and format of *message* that the service can show."""
    if body_limit < _SHORT_BELOW:
        return Shape("", message.short, "text")
    # Without a title of its own a service would put ours before the time and the stop link.
    title = cut(message.title, title_limit) if title_limit > 0 else ""
    markup = formats[0] == "html" or "text" not in formats
    body = message.html if markup else message.text
    if service not in _CALM:
        title, body = quiet(title), quiet(body)
    if not markup:
        return Shape(title, cut(body, body_limit), "text")
    return Shape(title, html_cut(body, body_limit - _MARGIN), "html")


def html_cut(body: str, limit: int) -> str:
    """
    The paragraphs of *body* that fit into so many characters, none of them broken.

    A log keeps its last lines.  Half a tag would make a service refuse the
    whole message, at every attempt.
    """
    kept = ""
    for block in re.split(r"(?<=</p>\n)|(?<=</pre>\n)", body):
        room = limit - len(kept)
        if block.startswith("<pre>") and len(block) > room:
            lines = block.removeprefix("<pre>").removesuffix("</pre>\n").split("\n")
            while lines and len(block) > room:
                block = "<pre>" + "\n".join(lines := lines[1:]) + "</pre>\n"
            if not lines:
                break
        if len(block) > room:
            break
        kept += block
    return kept


def quiet(text: str) -> str:
    """The text with an invisible space where a chat would call people or hide an address."""
    return _PING.sub("\\1\u200b", text)
