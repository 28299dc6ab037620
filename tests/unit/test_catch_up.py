"""When a repository is asked, and what the kernel says of routes."""

from __future__ import annotations

import struct

import pytest

from leeroy import scripts
from leeroy.catchup import network, schedule
from leeroy.catchup.schedule import Schedule, pause_s
from leeroy.pipelines import Pipeline, parse


def pipeline(name: str, repository: str = "/srv/shop.git", poll: str = "off") -> Pipeline:
    text = f'repository = "{repository}"\npoll = "{poll}"\n[[test]]\nname = "unit"\nrun = "true"\n'
    return parse(text, name=name, file=f"{name}.toml")


def ask(plan: Schedule, now: float, *, well: bool = True, more: bool = False) -> int:
    """Ask all that are due; how many there were."""
    due = plan.due(now)
    assert [] == plan.due(now), "one that is being asked is not due"
    for key in due:
        plan.done(key, now, now, well=well, more=more)
    return len(due)


def test_one_question_for_all_pipelines_of_a_repository() -> None:
    """The shortest poll counts; other credentials are another question."""
    plan = Schedule()
    group = [pipeline("a", poll="10m"), pipeline("b", poll="1m"), pipeline("c")]
    plan.set([*group, pipeline("d", "/srv/other.git")], 0.0)
    assert 2 == ask(plan, 1.0)
    assert 61.0 == plan.next_at()
    assert 0 == ask(plan, 60.0)
    assert 1 == ask(plan, 61.0)


def test_without_poll_it_is_asked_once_until_something_happens() -> None:
    plan = Schedule()
    plan.set([pipeline("a")], 0.0)
    assert 1 == ask(plan, 0.0)
    assert plan.next_at() is None
    plan.soon(100.0)
    assert 1 == ask(plan, 100.0)
    plan.set([pipeline("a")], 200.0)
    assert plan.next_at() is None
    plan.set([pipeline("a", poll="1m")], 200.0)
    assert 260.0 == plan.next_at()
    plan.set([], 300.0)
    assert {} == plan.turns


def test_a_new_pipeline_of_a_known_repository_is_seen_soon() -> None:
    """Else the first sight is left to the next start, and swallows what was pushed until then."""
    plan = Schedule()
    plan.set([pipeline("a")], 0.0)
    assert 1 == ask(plan, 0.0)
    plan.set([pipeline("a"), pipeline("b")], 100.0)
    assert 1 == ask(plan, 100.0)
    plan.set([pipeline("a"), pipeline("b")], 200.0)
    assert plan.next_at() is None
    plan.set([pipeline("b")], 300.0)
    plan.set([pipeline("a", poll="1m"), pipeline("b")], 400.0)
    assert 1 == ask(plan, 400.0), "one that came back may have missed something"


def test_a_new_pipeline_is_not_forgotten_while_its_repository_is_asked() -> None:
    """The question under way knows nothing of it."""
    plan = Schedule()
    plan.set([pipeline("a")], 0.0)
    (key,) = plan.due(0.0)
    plan.set([pipeline("a"), pipeline("b")], 1.0)
    plan.set([pipeline("a"), pipeline("b")], 1.5)
    plan.done(key, 0.0, 2.0, well=True)
    assert [key] == plan.due(2.0)


@pytest.mark.parametrize(("poll", "pauses"), [("off", [5, 10, 20]), ("1m", [60, 120, 240])])
def test_pauses_grow_while_it_fails(poll: str, pauses: list[float]) -> None:
    """And start anew once it answers, or when everything is asked again."""
    plan = Schedule()
    plan.set([pipeline("a", poll=poll)], 0.0)
    now = 0.0
    for pause in pauses:
        assert 1 == ask(plan, now, well=False)
        assert now + pause == plan.next_at()
        now += pause
    plan.soon(now)
    assert 1 == ask(plan, now, well=False)
    assert now + pauses[0] == plan.next_at()


def test_no_pause_is_endless() -> None:
    assert schedule.LONGEST_PAUSE_S == pause_s(1000, 60.0)
    assert 7200.0 == pause_s(1000, 7200.0)


def test_what_was_left_is_looked_at_soon_but_not_for_ever() -> None:
    plan = Schedule()
    plan.set([pipeline("a")], 0.0)
    now, pauses = 0.0, []
    for _ in range(12):
        assert 1 == ask(plan, now, more=True)
        pauses.append((plan.next_at() or 0.0) - now)
        now = plan.next_at() or 0.0
    assert [1, 2, 4] == pauses[:3]
    assert schedule.LONGEST_PAUSE_S == pauses[-1]


def test_a_wish_during_the_question_is_not_lost() -> None:
    plan = Schedule()
    plan.set([pipeline("a")], 0.0)
    (key,) = plan.due(0.0)
    plan.soon(1.0, [key])
    assert [] == plan.due(1.0)
    plan.done(key, 0.0, 2.0, well=True)
    assert [key] == plan.due(2.0)


def test_a_start_with_many_is_spread_over_less_than_the_minute() -> None:
    plan = Schedule()
    plan.set([pipeline(f"p{n}", f"/srv/{n}.git") for n in range(1000)], 0.0)
    first = len(plan.due(0.0))
    assert 0 < first < 100
    assert 1000 - first == len(plan.due(schedule.SPREAD_S))


def route(kind: int, length: int) -> bytes:
    """A message of rtnetlink(7): header, then rtmsg with family and destination's length."""
    body = struct.pack("=BB10x", 2, length)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize(
    ("heard", "is_it"),
    [
        (route(24, 0), True),
        (route(24, 24), False),
        (route(25, 0), False),
        (route(24, 24) + route(24, 0), True),
        (b"", False),
        (b"\0" * 40, False),
        (route(24, 0)[:16], False),
    ],
)
def test_a_new_default_route_is_the_way_out(heard: bytes, is_it: bool) -> None:
    assert is_it is network.is_way_out(heard)


def test_an_authority_of_ones_own_may_be_named() -> None:
    """As docs/checkout.md says; any other GIT_* may not."""
    assert scripts.name_mistake("GIT_SSL_CAINFO") is None
    assert scripts.name_mistake("GIT_SSL_CAPATH") is None
    for name in ("GIT_SSH_COMMAND", "GIT_SSL_CAINFO2", "GIT_DIR", "GIT_SSL_NO_VERIFY"):
        assert scripts.name_mistake(name) is not None
