"""
What a notice says: three lengths of the same news, and its title.

Pure: facts in, words out.  It is asked anew for every attempt, so a notice
that waited says what is true when it is sent.  All that strangers wrote
(branch, title, author, reasons, logs) goes through `words` first.
"""

from __future__ import annotations

import html
import ipaddress
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from urllib.parse import urlsplit

from leeroy.model import Build, Deploy, Event, Step
from leeroy.notify.words import cut, gsm, gsm_cut, gsm_length, one_line, tail
from leeroy.terms import Move, Stage, State

SMS = 160
"""How many places one SMS has."""


@dataclass(frozen=True, kw_only=True)
class News:
    """
    All the facts a message is made of.

    `event` is the move to tell of, `build` its build as it is today.
    `deploy` is the build's deploy to `event.environment` as it is today,
    `grace_s` the grace period of that environment, `runs_commit` what runs
    there now.  `waiting_for` names the gates other than the grace period that
    keep a pending deploy, `opens_at` is when its window opens.  `step` is the
    step that failed, `log_tail` the end of its log.  `head` is the head hash of
    the record of a build that is over.  `url` is the public base of every link;
    `stop_url` leads to the stop page of the pending deploy.  Times are shown in
    `zone` (None: the server's own).
    """

    build: Build
    event: Event
    deploy: Deploy | None = None
    grace_s: float = 0.0
    runs_commit: str | None = None
    waiting_for: str | None = None
    opens_at: datetime | None = None
    step: Step | None = None
    log_tail: str | None = None
    head: str | None = None
    url: str
    stop_url: str | None = None
    zone: tzinfo | None = None
    now: datetime


@dataclass(frozen=True)
class Message:
    """
    The same news in three lengths.

    `title` is one line; all titles of a build start alike, so that mail is
    threaded.  `short` fits into one SMS.  `text` and `html` stand alone, with
    or without the title.
    """

    title: str
    short: str
    text: str
    html: str


@dataclass(frozen=True)
class _Say:
    words: str


@dataclass(frozen=True)
class _Link:
    url: str


@dataclass(frozen=True)
class _Log:
    lines: str


_Block = _Say | _Link | _Log


@dataclass(frozen=True)
class _Story:
    """What happened: a few words for the title, sentences for the body, what may be done."""

    head: str
    sentences: tuple[str, ...] = ()


def message(news: News) -> Message:
    """The words for *news*, as true now as the facts in it are."""
    thread = _thread(news.build)
    if news.event.to_state is State.deploy_pending and _still_pending(news):
        return _pending(news, thread)
    story = _story(news)
    blocks: list[_Block] = [_Say(f"{thread}: {story.head}")]
    blocks += [_Say(sentence) for sentence in story.sentences]
    blocks += _about(news)
    rest: list[str] = []
    if news.head is not None:
        check = f"`leeroy verdict {news.build.id} --head {news.head[:16]}` compares"
        blocks += [_Say(f"Its record ends with the hash below; {check}."), _Log(news.head)]
        rest = [f"verdict {news.head[:16]}"]
    if news.log_tail and news.step is not None and news.log_tail.strip():
        blocks += [_Say(f"The end of the log of {_step_name(news.step)}:")]
        blocks += [_Log(tail(news.log_tail))]
    link = build_url(news)
    short = _short(f"{thread}: {'. '.join((story.head, *story.sentences[:1]))}", link, rest)
    return Message(cut(f"{thread}: {story.head}", 200), short, _text(blocks), _html(blocks))


def build_url(news: News) -> str:
    """The address of the build's page."""
    return f"{news.url.rstrip('/')}/builds/{news.build.id}"


def is_loopback(url: str) -> bool:
    """Whether the address leads nowhere but to the machine it is opened on."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _still_pending(news: News) -> bool:
    build = news.build
    return build.state is State.deploy_pending and build.environment == news.event.environment


def _pending(news: News, thread: str) -> Message:
    """A deploy that can still be stopped: when, how to stop it, and only then what it is."""
    build, deploy = news.build, news.deploy
    place = _environment(news)
    held = deploy is not None and deploy.held_at is not None
    approved = deploy is not None and deploy.approved_at is not None and not held
    what = f"{one_line(build.pipeline, 60)} #{build.id} is to be deployed to {place}"
    notes: list[str] = []
    if held and deploy is not None:
        when = f"held by {one_line(deploy.held_by or 'Leeroy', 60)}"
        why = one_line(deploy.held_reason or "", 300)
        first = f"held: {what}, and waits until a person says go."
        notes.append(f"It was {when}{f': {why}' if why else ''}.")
        notes.append(f"`leeroy approve {build.id} --environment {place}` lets it go on.")
        title = f"{place} held"
        brief = f"held: {place}" + (f" ({why})" if why else "")
    elif approved and deploy is not None:
        by = one_line(deploy.approved_by or "somebody", 60)
        first = f"approved by {by}: {what} as soon as nothing else is in the way."
        title = f"{place} approved"
        brief = f"approved: {place}"
    else:
        when = _not_before(news)
        first = f"{when}: {what}."
        title = f"{place} {when}"
        brief = f"{when}: {place}"
    stop = "Stop or hold it:"
    blocks: list[_Block] = [_Say(f"{first} {stop}" if news.stop_url else first)]
    if news.stop_url:
        blocks.append(_Link(news.stop_url))
    if is_loopback(news.url):
        blocks.append(
            _Say(f"That link works on the server only; `leeroy cancel {build.id}` stops it too.")
        )
    blocks += [_Say(note) for note in notes]
    if news.waiting_for:
        blocks.append(_Say(f"It also waits: {_sentence(news.waiting_for)}"))
    if news.event.move is not Move.announce and news.event.move is not Move.hold:
        blocks += [_Say(sentence) for sentence in _story(news).sentences]
    elif news.event.move is Move.announce and news.event.reason:
        blocks.append(_Say(_sentence(news.event.reason)))
    blocks.append(_Say(f"{thread}: {title}"))
    blocks += _about(news)
    rest = [f"leeroy cancel {build.id}"] if is_loopback(news.url) else []
    rest += [f"{one_line(build.pipeline, 40)} #{build.id}"]
    rest += [part for part in ((build.commit or "")[:7], one_line(_ref(build), 60)) if part]
    return Message(
        title=cut(f"{thread}: {title}", 200),
        short=_short(brief, news.stop_url or build_url(news), rest, f"leeroy cancel {build.id}"),
        text=_text(blocks),
        html=_html(blocks),
    )


def _not_before(news: News) -> str:
    """The earliest start; while nobody was told, as it would be if this were accepted now."""
    deploy = news.deploy
    heard = deploy is not None and deploy.heard_at is not None
    at = deploy.deploy_at if deploy is not None and heard else None
    if news.opens_at is not None:
        at = news.opens_at + timedelta(seconds=news.grace_s)
    if at is None:
        at = news.now + timedelta(seconds=news.grace_s)
    # Whole seconds, downwards: what is said must not be later than what can happen.
    local = at.replace(microsecond=0).astimezone(news.zone)
    today = news.now.astimezone(news.zone).date()
    form = "%H:%M:%S %Z" if local.date() == today else "%Y-%m-%d %H:%M:%S %Z"
    return f"not before {local.strftime(form)}"


def _story(news: News) -> _Story:
    """What happened, said in a few words and then in sentences."""
    build, event = news.build, news.event
    place = _environment(news)
    who = one_line(event.actor, 80)
    why = _sentence(event.reason) if event.reason else ""
    because = (why,) if why else ()
    if event.to_state is State.deploy_pending:
        return _past(news)
    match event.move:
        case Move.accept if build.fork and build.approved_by is None:
            asked = "A person must let a fork's code run, commit by commit: "
            return _Story("waits for approval", (f"{asked}`leeroy approve {build.id}`.", *because))
        case Move.accept:
            return _Story("accepted", because or ("It waits for a free slot.",))
        case Move.start:
            return _Story("building", ("Its tests and builds run now.",))
        case Move.requeue:
            return _Story("queued again", ("Its run was lost, so it runs again.", *because))
        case Move.pass_:
            return _Story("passed", ("All its tests and builds passed.",))
        case Move.deploy:
            stop = f"`leeroy cancel {build.id} --force` stops its script."
            return _Story(f"deploying to {place}", (f"Its deploy to {place} runs now.", stop))
        case Move.finish | Move.resolve_done:
            head = "done" if not event.environment else f"done, {place} runs it"
            said = (f"{who} says that it landed.",) if event.move is Move.resolve_done else ()
            return _Story(head, (*said, *because))
        case Move.fail | Move.resolve_failed:
            return _failure(news, who, because)
        case Move.lose:
            return _Story(
                f"interrupted, look at {place}",
                (
                    f"Its deploy to {place} was running when its supervisor or host died. "
                    "Leeroy does not know how it ended, and runs nothing there until it is told.",
                    f"Look, then `leeroy resolve {build.id} done|failed|again "
                    f"--environment {place} --reason TEXT` (`again` runs it once more).",
                    *because,
                ),
            )
        case Move.cancel:
            return _Story("cancelled", (f"Stopped by {who}.", *because))
        case Move.supersede:
            return _Story("superseded", because or ("A newer build took its place.",))
        case _:
            return _Story(str(event.to_state).replace("_", " "), because)


def _past(news: News) -> _Story:
    """A deploy was announced or held, but meanwhile it is no longer pending."""
    state, place = news.build.state, _environment(news)
    word = "held" if news.event.move is Move.hold else "announced"
    meanwhile = str(state).replace("_", " ")
    return _Story(
        f"{place} was {word}, now {meanwhile}",
        (f"Its deploy to {place} was {word}; meanwhile the build is {meanwhile}.",),
    )


def _failure(news: News, who: str, because: tuple[str, ...]) -> _Story:
    build, event, step = news.build, news.event, news.step
    place = _environment(news)
    deployed = event.to_state is State.deploy_failed
    head = f"deploy to {place} failed" if deployed else "failed"
    said: list[str] = []
    if step is not None:
        said.append(f"{_step_name(step).capitalize()} {_ending(step)}.")
    if event.move is Move.resolve_failed:
        said.append(f"{who} says that it did not land.")
    said += [sentence for sentence in because if sentence not in said]
    if deployed:
        said.append(
            f"Nothing is blocked: fix it with a new push, or `leeroy deploy ID --to {place}` "
            "brings back an older build."
        )
    elif not build.deploys or not said:
        said.append("Nothing is deployed.")
    return _Story(head, tuple(said))


def _step_name(step: Step) -> str:
    name = one_line(step.name, 60)
    if step.stage in (Stage.checkout, Stage.status) or not name:
        return f"the {step.stage}"
    if step.stage in (Stage.deploy, Stage.verify):
        return f"the {step.stage} script of {name}"
    return f"the {step.stage} {name}"


def _ending(step: Step) -> str:
    reason = one_line(step.reason or "", 200)
    if step.signal is not None:
        try:
            ended = f"was killed by {signal.Signals(step.signal).name}"
        except ValueError:
            ended = f"was killed by signal {step.signal}"
    elif step.exit_code is not None:
        ended = f"ended with exit code {step.exit_code}"
    else:
        return f"failed: {reason}" if reason else "failed"
    return f"{ended} ({reason})" if reason else ended


def _about(news: News) -> list[_Block]:
    """What it is about: commit, title, author, what runs there now, and the build's page."""
    build = news.build
    blocks: list[_Block] = []
    if build.commit:
        words = f"{build.commit[:7]} {one_line((build.message or '').split(chr(10))[0], 120)}"
        author = one_line(build.author or "", 80)
        blocks.append(_Say(words.strip() + (f" ({author})" if author else "")))
    if news.runs_commit and news.runs_commit != build.commit:
        blocks.append(_Say(f"{_environment(news)} runs {news.runs_commit[:7]} now."))
    blocks += [_Say("The build:"), _Link(build_url(news))]
    return blocks


def _thread(build: Build) -> str:
    """How every title of the build starts."""
    ref = one_line(_ref(build), 60)
    return " ".join(filter(None, (f"[{one_line(build.pipeline, 60)}]", ref, f"#{build.id}")))


def _ref(build: Build) -> str:
    return build.branch or build.tag or ""


def _environment(news: News) -> str:
    return one_line(news.event.environment or news.build.environment or "", 60) or "nowhere"


def _sentence(text: str) -> str:
    """The text as a sentence: harmless, one line, with its full stop."""
    words = one_line(text, 500)
    return words if words.endswith((".", "!", "?", "…")) else f"{words}."


def _text(blocks: Sequence[_Block]) -> str:
    parts: list[str] = []
    for block in blocks:
        match block:
            case _Say(words):
                parts.append(f"{words}\n")
            case _Link(url):
                # Alone on its line: mail programs and chats glue what touches it to the link.
                parts.append(f"{url}\n\n")
            case _Log(lines):
                parts.append(f"\n{lines}\n")
    return "".join(parts)


def _html(blocks: Sequence[_Block]) -> str:
    parts: list[str] = []
    for block in blocks:
        match block:
            case _Say(words):
                parts.append(f"<p>{html.escape(words, quote=False)}</p>\n")
            case _Link(url):
                safe = html.escape(url)
                parts.append(f'<p><a href="{safe}">{safe}</a> </p>\n')
            case _Log(lines):
                parts.append(f"<pre>{html.escape(lines, quote=False)}</pre>\n")
    return "".join(parts)


def _short(first: str, link: str, rest: Sequence[str], instead: str | None = None) -> str:
    """
    One SMS: the first line cut to fit, the link alone and whole, then what there is room for.

    A link too long for an SMS, or not in its letters, gives way to *instead*, a command,
    or goes missing.
    """
    if gsm_length(link) > SMS - 30 or gsm(link) != link:
        words = [instead] if instead else []
        return gsm_cut(" ".join([gsm(first), *words, *map(gsm, rest)]), SMS)
    room = SMS - gsm_length(link) - 2
    first = gsm_cut(gsm(first), room)
    room -= gsm_length(first)
    ending = ""
    for part in map(gsm, rest):
        piece = f" {part}" if ending else part
        if gsm_length(piece) <= room:
            ending += piece
            room -= gsm_length(piece)
        elif room >= 12:
            ending += gsm_cut(piece, room)
            break
    return f"{first}\n{link}\n{ending}"
