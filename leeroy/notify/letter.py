"""One notice on its way: the row, today's facts, and the headers of its mail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from leeroy.model import Notice
from leeroy.notify.compose import News
from leeroy.notify.words import one_line


@dataclass(frozen=True)
class Letter:
    """A claimed row of the outbox and the facts its message is composed of."""

    notice: Notice
    news: News


def headers(news: News) -> Mapping[str, str]:
    """
    What a mail about *news* carries besides its words.

    All mail of a build hangs on one root that nobody ever sent, so mail
    programs show it as one conversation.  No Message-ID: each mail has its own.
    """
    build = news.build
    root = f"<build-{build.id}@{urlsplit(news.url).hostname or 'localhost'}>"
    ref = one_line(build.branch or build.tag or "", 200)
    named = {
        "References": root,
        "In-Reply-To": root,
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "X-Leeroy-Pipeline": one_line(build.pipeline, 100),
        "X-Leeroy-Build": str(build.id),
        "X-Leeroy-State": str(news.event.to_state),
        "X-Leeroy-Branch": ref,
    }
    return {name: value for name, value in named.items() if value}
