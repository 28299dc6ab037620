"""
The one comment on a pull request, in Markdown.  Pure.

What strangers wrote (branch, log, reason) calls nobody, is no markup and gives
no orders: GitLab takes a line that starts with a slash for a command, even in
a fence that it thinks has ended.
"""

from __future__ import annotations

import re

from leeroy.forges.values import Word
from leeroy.model import Build, Step
from leeroy.notify.words import one_line, tail
from leeroy.reporting.standing import Standing

_ICONS = {
    Word.waiting: "\N{HOURGLASS WITH FLOWING SAND}",
    Word.running: "\N{HOURGLASS WITH FLOWING SAND}",
    Word.passed: "\N{WHITE HEAVY CHECK MARK}",
    Word.failed: "\N{CROSS MARK}",
    Word.error: "\N{WARNING SIGN}",
    Word.stopped: "\N{BLACK SQUARE FOR STOP}",
}
_WORDS = {
    Word.waiting: "waits",
    Word.running: "runs",
    Word.passed: "passed",
    Word.failed: "failed",
    Word.error: "could not be tested",
    Word.stopped: "was stopped",
}
_INVISIBLE = "\u200b"
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$-])")
_CALLS = re.compile(r"([@#!~%&$](?=\w)|:(?=\w+:)|(?<=\w)://)")


def text(
    build: Build,
    standing: Standing,
    *,
    url: str,
    marker: str,
    step: Step | None,
    log: str | None,
) -> str:
    """The comment about *build*, with the end of the failing step's *log*."""
    head = f"{_ICONS[standing.word]} **{plain(build.pipeline)}** {_WORDS[standing.word]}"
    commit = f" at {code((build.commit or '')[:10])}" if build.commit else ""
    lines = [
        f"{head}{commit}: [build {build.id}]({url})",
        "",
        f"Leeroy: {plain(standing.sentence)}",
    ]
    if standing.word in (Word.failed, Word.error) and step is not None and log and log.strip():
        name = code(f"{step.stage} {step.name}")
        lines += ["", f"The end of the log of {name}:", "", "```text", fenced(tail(log)), "```"]
    # A definition of a link that nobody uses: no forge shows it.
    lines += ["", f"[//]: # (leeroy-{marker})"]
    return "\n".join(lines) + "\n"


def plain(words: str) -> str:
    """A stranger's words in running text: one line, no markup, nobody called."""
    quiet = _CALLS.sub(rf"\1{_INVISIBLE}", one_line(words, 300))
    return _MARKUP.sub(r"\\\1", quiet)


def code(words: str) -> str:
    """A stranger's words as code inside a line."""
    return f"`{one_line(words, 200).replace('`', chr(39))}`"


def fenced(lines: str) -> str:
    """A stranger's lines between fences: none of them ends the fence, calls, or commands."""
    calm = re.sub(r"`(?=`)", f"`{_INVISIBLE}", lines)
    calm = re.sub(r"@(?=\w)", f"@{_INVISIBLE}", calm)
    return re.sub(r"^(?=[ \t]*/)", _INVISIBLE, calm, flags=re.M)
