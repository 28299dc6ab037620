"""What a notice says: the time and the stop link first, three lengths, and strangers' words as data."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leeroy.model import Build, Deploy, Event, Step
from leeroy.notify.compose import Message, News, is_loopback, message
from leeroy.notify.letter import headers
from leeroy.notify.words import gsm, gsm_length
from leeroy.terms import Move, Stage, State, StepState

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
URL = "https://ci.example.com"
STOP = f"{URL}/stop/eyJhbGciOi_J9-x3"


def a_build(**changes: Any) -> Build:
    values: dict[str, Any] = {
        "id": 12,
        "place": 12,
        "pipeline": "shop",
        "pipeline_text": "",
        "repository": "https://github.com/acme/shop.git",
        "branch": "main",
        "tag": None,
        "commit": "1f2e" * 10,
        "default_branch": "main",
        "pull_request": None,
        "fork": False,
        "message": "Sell hats\n\nAt last.",
        "author": "Ada",
        "author_email": "ada@example.com",
        "trigger": "push",
        "source": None,
        "deploys": True,
        "deploy_to": None,
        "without_grace": False,
        "approved_by": None,
        "state": State.deploy_pending,
        "version": 4,
        "host": "web-1",
        "environment": "production",
        "slot": None,
        "requeues": 0,
        "due_at": None,
        "stop_at": None,
        "stop_actor": None,
        "stop_reason": None,
        "created_at": NOON,
        "started_at": NOON,
        "finished_at": None,
    }
    return Build(**values | changes)


def an_event(**changes: Any) -> Event:
    values: dict[str, Any] = {
        "build_id": 12,
        "seq": 4,
        "move": Move.announce,
        "from_state": State.passed,
        "to_state": State.deploy_pending,
        "environment": "production",
        "actor": "scheduler@web-1",
        "reason": None,
        "at": NOON,
    }
    return Event(**values | changes)


def a_deploy(**changes: Any) -> Deploy:
    values: dict[str, Any] = dict.fromkeys(Deploy.__dataclass_fields__)
    values |= {"build_id": 12, "environment": "production", "key": "k", "withdrawals": 0}
    return Deploy(**values | changes)


def a_step(**changes: Any) -> Step:
    values: dict[str, Any] = dict.fromkeys(Step.__dataclass_fields__)
    values |= {"id": 1, "build_id": 12, "stage": Stage.test, "name": "unit", "attempt": 1}
    values |= {"state": StepState.failed, "exit_code": 1}
    return Step(**values | changes)


def news(**changes: Any) -> News:
    values: dict[str, Any] = {
        "build": a_build(),
        "event": an_event(),
        "deploy": a_deploy(),
        "grace_s": 30.0,
        "url": URL,
        "stop_url": STOP,
        "zone": UTC,
        "now": NOON,
    }
    return News(**values | changes)


def moved(move: Move, to: State, **changes: Any) -> News:
    """The news of another move than an announcement."""
    environment = changes.pop("environment", None)
    reason = changes.pop("reason", None)
    event = an_event(move=move, to_state=to, environment=environment, reason=reason)
    return news(
        build=a_build(state=to, environment=environment), event=event, stop_url=None, **changes
    )


def lengths(words: Message) -> tuple[str, str, str]:
    return words.short, words.text, words.html


# -- a deploy that can still be stopped ---------------------------------------------------------


def test_an_announcement_to_the_letter() -> None:
    """First the earliest start with its zone, then the link that stops it, then all the rest."""
    words = message(news(runs_commit="abcd" * 10))

    assert "[shop] main #12: production not before 12:00:30 UTC" == words.title
    assert (
        "not before 12:00:30 UTC: shop #12 is to be deployed to production. Stop or hold it:\n"
        f"{STOP}\n\n"
        "[shop] main #12: production not before 12:00:30 UTC\n"
        "1f2e1f2 Sell hats (Ada)\n"
        "production runs abcdabc now.\n"
        "The build:\n"
        f"{URL}/builds/12\n\n"
    ) == words.text
    assert (f"not before 12:00:30 UTC: production\n{STOP}\nshop #12 1f2e1f2 main") == words.short


def test_the_time_is_the_one_that_counts() -> None:
    """Before anybody was told it is counted from now; afterwards it is the deploy's own time."""
    later = news(now=NOON + timedelta(minutes=5, milliseconds=900))
    heard = a_deploy(heard_at=NOON, deploy_at=NOON + timedelta(seconds=42))

    assert "not before 12:05:30 UTC" in message(later).title
    assert "not before 12:00:42 UTC" in message(news(deploy=heard)).title


def test_the_zone_and_another_day() -> None:
    """The operator's zone is named; a start that is not today has its date."""
    berlin = ZoneInfo("Europe/Berlin")
    tomorrow = a_deploy(heard_at=NOON, deploy_at=NOON + timedelta(hours=20))

    assert message(news(zone=berlin)).text.startswith("not before 13:00:30 CET:")
    assert "not before 2026-01-02 09:00:00 CET" in message(news(zone=berlin, deploy=tomorrow)).title


def test_a_loopback_address_names_the_command() -> None:
    """A link that works on the server only comes with the command that works there too."""
    local = "http://127.0.0.1:8082"
    words = message(news(url=local, stop_url=f"{local}/stop/x"))

    assert "`leeroy cancel 12`" in words.text
    assert "leeroy cancel 12" in words.short
    assert "leeroy cancel" not in message(news()).text
    assert [True, True, True, False, False] == [
        is_loopback(url)
        for url in (
            "http://localhost",
            "http://[::1]:1",
            "http://0.0.0.0",
            URL,
            "http://localhost.de",
        )
    ]


def test_a_held_deploy() -> None:
    """Who held it, why, and the command that lets it go on."""
    held = a_deploy(held_at=NOON, held_by="ada", held_reason="the sale runs until six")
    event = an_event(move=Move.hold, from_state=State.deploy_pending)
    words = message(news(deploy=held, event=event))

    assert "[shop] main #12: production held" == words.title
    assert words.text.startswith("held: shop #12 is to be deployed to production")
    assert "It was held by ada: the sale runs until six." in words.text
    assert "`leeroy approve 12 --environment production`" in words.text
    assert STOP in words.text.splitlines()
    assert words.short.startswith("held: production (the sale runs until six)\n")


def test_an_approved_deploy() -> None:
    """Nobody reads a time that no longer counts."""
    words = message(news(deploy=a_deploy(approved_at=NOON, approved_by="ada")))

    assert words.text.startswith("approved by ada:")
    assert "not before" not in words.text


def test_other_gates_are_named() -> None:
    """What else keeps the deploy stands in the notice."""
    assert "It also waits: shop/production is frozen." in (
        message(news(waiting_for="shop/production is frozen")).text
    )


@pytest.mark.parametrize("state", [State.deploying, State.cancelled, State.done])
def test_an_announcement_that_came_too_late(state: State) -> None:
    """A notice that waited says what is true when it is sent, and offers no stop."""
    words = message(news(build=a_build(state=state)))

    for text in lengths(words):
        assert STOP not in text
        assert "not before" not in text
    assert str(state) in words.title


# -- what happened ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "title", "text"),
    [
        (moved(Move.accept, State.queued), "accepted", "waits for a free slot"),
        (moved(Move.start, State.building), "building", "run now"),
        (moved(Move.requeue, State.queued), "queued again", "Its run was lost"),
        (moved(Move.pass_, State.passed), "passed", "passed"),
        (
            moved(Move.deploy, State.deploying, environment="production"),
            "deploying to production",
            "`leeroy cancel 12 --force`",
        ),
        (
            moved(Move.finish, State.done, environment="production"),
            "done, production runs it",
            "done",
        ),
        (
            moved(Move.fail, State.failed, step=a_step()),
            "failed",
            "The test unit ended with exit code 1.",
        ),
        (
            moved(Move.fail, State.failed, step=a_step(exit_code=None, signal=9, reason="timeout")),
            "failed",
            "was killed by SIGKILL (timeout)",
        ),
        (
            moved(
                Move.fail,
                State.deploy_failed,
                environment="production",
                step=a_step(stage=Stage.verify, name="production"),
            ),
            "deploy to production failed",
            "`leeroy deploy ID --to production`",
        ),
        (
            moved(Move.lose, State.interrupted, environment="production"),
            "interrupted, look at production",
            "`leeroy resolve 12 done|failed|again --environment production --reason TEXT`",
        ),
        (moved(Move.cancel, State.cancelled, reason="wrong branch"), "cancelled", "wrong branch."),
        (moved(Move.supersede, State.superseded), "superseded", "A newer build took its place"),
    ],
)
def test_every_news(told: News, title: str, text: str) -> None:
    """Each move has its own words, its build's page, and the same start of the title."""
    words = message(told)

    assert f"[shop] main #12: {title}" == words.title
    assert text in words.text
    assert f"{URL}/builds/12" in words.text.splitlines()
    assert f"{URL}/builds/12" in words.short.splitlines()


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("move", Move)
def test_any_move_to_any_state_has_words(move: Move, state: State) -> None:
    """No combination is an error, and none is empty."""
    words = message(moved(move, state, environment="production", reason="because"))

    assert all(lengths(words)) and words.title
    assert gsm_length(words.short) <= 160


def test_the_end_of_the_log() -> None:
    """A failure shows the last lines of the step's log, without terminal sequences."""
    log = "".join(f"line {number}\n" for number in range(100)) + "\x1b[31mAssertionError\x1b[0m\n"
    words = message(moved(Move.fail, State.failed, step=a_step(), log_tail=log))

    assert words.text.endswith("line 99\nAssertionError\n")
    assert "line 70\n" not in words.text
    assert "AssertionError</pre>" in words.html


# -- strangers' words ---------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>\r\nBcc: eve@evil.example\r\n\r\n@everyone "
    "\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07 \u202egnp.exe \x00 [x](http://evil.example)"
)


def test_hostile_words_are_data() -> None:
    """Markup, mail headers, terminal sequences and turned text do nothing, in no length."""
    build = a_build(message=HOSTILE, author=HOSTILE, branch=HOSTILE, pipeline=HOSTILE)
    words = message(news(build=build, event=an_event(reason=HOSTILE), waiting_for=HOSTILE))

    for text in (words.title, *lengths(words)):
        assert not re.search(r"[\x00\x1b\r\u202e]", text)
    assert "\n" not in words.title
    assert "<script>" not in words.html
    assert all("\n" not in value for value in headers(news(build=build)).values())


FOREIGN = st.text(max_size=400) | st.sampled_from(
    [HOSTILE, "€" * 200, "😀" * 90, "\\" * 300, "ß" * 200, "%s{}$(id)", "\n" * 50]
)
LINKS = st.text("abcXYZ019_-~.", min_size=1, max_size=140).map(lambda text: f"{URL}/stop/{text}")


@given(
    st.sampled_from(list(Move)),
    st.sampled_from(list(State)),
    FOREIGN,
    FOREIGN,
    FOREIGN,
    LINKS | st.just("https://хост.example/stop/1"),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_the_short_length_is_always_one_sms(
    move: Move, state: State, one: str, two: str, three: str, link: str, held: bool
) -> None:
    """Whatever strangers write, the short length has at most 160 places of the SMS alphabet."""
    told = news(
        build=a_build(state=state, message=one, author=two, branch=three, pipeline=two),
        event=an_event(move=move, to_state=state, environment=one, reason=two, actor=three),
        deploy=a_deploy(held_at=NOON if held else None, held_by=one, held_reason=three),
        step=a_step(name=two, reason=one),
        log_tail=three,
        waiting_for=one,
        stop_url=link,
    )
    words = message(told)

    assert gsm_length(words.short) <= 160
    assert gsm(words.short) == words.short
    assert len(words.title) <= 200
    # A link stands alone, with white space after it, or does not stand there at all.
    for text in (words.short, words.text):
        assert all(line == link for line in text.split("\n") if "/stop/" in line and link in line)
    inside = re.sub(r"</?(?:p|pre|a(?: href=\"[^\"]*\")?)>", "", words.html)
    assert "<" not in inside
    assert html.unescape(words.html)


def test_the_link_is_whole_or_missing() -> None:
    """A link too long for an SMS gives way to the command."""
    long = f"{URL}/stop/{'x' * 150}"
    words = message(news(stop_url=long))

    assert long in words.text.splitlines()
    assert "/stop/" not in words.short
    assert "leeroy cancel 12" in words.short


def test_headers_thread_a_build() -> None:
    """All mail of a build refers to one root; robots do not answer it."""
    found = headers(news())

    assert "<build-12@ci.example.com>" == found["References"] == found["In-Reply-To"]
    assert "auto-generated" == found["Auto-Submitted"]
    assert ("shop", "12", "deploy_pending", "main") == tuple(
        found[f"X-Leeroy-{name}"] for name in ("Pipeline", "Build", "State", "Branch")
    )
