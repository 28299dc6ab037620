"""One notice or alarm on its way: the row, its words as of now, and the headers of its mail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlsplit

from leeroy.model import Alarm, Build, Notice
from leeroy.notify.alarm import alarm
from leeroy.notify.compose import Message, News, message
from leeroy.notify.words import one_line
from leeroy.terms import State

_AUTOMATIC = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}


@dataclass(frozen=True)
class Letter:
    """A claimed row of the outbox and the facts its message is composed of."""

    notice: Notice
    news: News

    @property
    def build(self) -> Build | None:
        """The build it tells of."""
        return self.news.build

    @property
    def urgent(self) -> bool:
        """Whether somebody's grace period waits for it."""
        return self.notice.urgent and self.news.build.state is State.deploy_pending

    def words(self, now: datetime) -> Message:
        """What it says, as true *now*."""
        return message(replace(self.news, now=now))

    def headers(self) -> Mapping[str, str]:
        """What its mail carries besides its words."""
        return headers(self.news)


@dataclass(frozen=True)
class AlarmLetter:
    """A claimed row of the alarms; as a `Letter`, of no build."""

    notice: Alarm
    url: str
    build: None = None
    urgent: bool = True

    def words(self, _: datetime) -> Message:
        """What it says; always the same."""
        return alarm(self.notice, self.url)

    def headers(self) -> Mapping[str, str]:
        """What its mail carries besides its words."""
        return {**_AUTOMATIC, "X-Leeroy-State": "frozen"}


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
        **_AUTOMATIC,
        "X-Leeroy-Pipeline": one_line(build.pipeline, 100),
        "X-Leeroy-Build": str(build.id),
        "X-Leeroy-State": str(news.event.to_state),
        "X-Leeroy-Branch": ref,
    }
    return {name: value for name, value in named.items() if value}
