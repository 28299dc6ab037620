"""What an alarm says, in the lengths of a `Message`; pure."""

from __future__ import annotations

import html

from leeroy.model import Alarm
from leeroy.notify.compose import SMS, Message
from leeroy.notify.words import gsm, gsm_cut, gsm_length, one_line


def alarm(told: Alarm, url: str) -> Message:
    """The words of *told*; its link stands alone, with white space around it."""
    title, body = one_line(told.title, 200), one_line(told.body, 2000)
    short = gsm_cut(gsm(f"{title}. {body}"), SMS - gsm_length(url) - 2)
    return Message(
        title,
        f"{short}\n{url}",
        f"{title}\n\n{body}\n\n{url}\n",
        f"<p>{html.escape(title)}</p><p>{html.escape(body)}</p>"
        f'<p><a href="{html.escape(url)}">{html.escape(url)}</a></p>',
    )
