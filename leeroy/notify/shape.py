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
    return Shape(title, body if markup else cut(body, body_limit), "html" if markup else "text")


def quiet(text: str) -> str:
    """The text with an invisible space where a chat would call people or hide an address."""
    return _PING.sub("\\1\u200b", text)
