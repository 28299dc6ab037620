"""What GitHub and GitLab keep of their deliveries: which failed, and which of those still hold."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from leeroy.errors import NotAllowed
from leeroy.forges import github, gitlab
from leeroy.forges.place import Place
from leeroy.forges.steady import MOST_PAGES, following, instant, lost
from leeroy.forges.talk import converse
from leeroy.forges.values import Failed
from tests.unit.test_forges import NOON, SHA, answer, replies

URL = "https://ci.example.com/hooks"
GITHUB = Place("github", "https://api.github.com", "acme/shop")
GITLAB = Place("gitlab", "https://gitlab.com/api/v4", "acme/web/shop")
HOOKS = [{"id": 1, "config": {"url": "https://else.example"}}, {"id": 2, "config": {"url": URL}}]


def listed(
    number: int,
    guid: str,
    code: int,
    minutes: int = 0,
    event: str = "pull_request",
    action: str = "opened",
) -> Any:
    at = (NOON - timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
    return {
        "id": number,
        "guid": guid,
        "delivered_at": at,
        "event": event,
        "action": action,
        "status_code": code,
    }


def test_github_tells_what_never_got_through() -> None:
    """By the id that all attempts share, over pages, until the first sight; pushes aside."""
    first = [
        listed(9, "mended", 202),
        listed(8, "mended", 502, 1),
        listed(7, "lost", 502, 2),
        listed(6, "hopeless", 400, 3),
        listed(5, "push", 502, 4, event="push"),
        listed(1, "no news", 502, 4, action="labeled"),
    ]
    second = [listed(4, "lost", 504, 5), listed(3, "forged", 401, 6), listed(2, "older", 502, 60)]
    link = '<https://api.github.com/x?cursor=v1_9%2F%2B&per_page=100>; rel="next"'
    carry, asked = replies(answer(200, HOOKS), answer(200, first, link=link), answer(200, second))
    found = converse(github.failed(GITHUB, URL, NOON - timedelta(minutes=30)), carry)
    assert [("lost", "7"), ("forged", "3")] == [(one.key, one.id) for one in found]
    assert {"2"} == {one.hook for one in found}
    assert asked[1].url.endswith("/repos/acme/shop/hooks/2/deliveries?per_page=100")
    assert asked[2].url.endswith("&cursor=v1_9/%2B"), "what it named, percent-encoded anew"


def test_a_hook_that_is_not_there_has_no_deliveries() -> None:
    """Another server's webhook is none of ours; a token that may not look is told what it needs."""
    carry, asked = replies(answer(200, HOOKS[:1]))
    assert [] == converse(github.failed(GITHUB, URL, NOON), carry)
    carry, _ = replies(answer(200, [{"id": 1, "url": "https://else.example"}]))
    assert [] == converse(gitlab.failed(GITLAB, URL, NOON), carry)
    assert 1 == len(asked)
    with pytest.raises(NotAllowed, match="Webhooks: write"):
        converse(github.failed(GITHUB, URL, NOON), replies(answer(403, {}))[0])


def test_an_endless_list_ends() -> None:
    """GitHub is asked for so many pages at most."""
    link = '<https://api.github.com/x?cursor=again>; rel="next"'
    pages = [answer(200, [listed(1, "lost", 502)], link=link) for _ in range(MOST_PAGES)]
    carry, asked = replies(answer(200, HOOKS), *pages)
    assert 1 == len(converse(github.failed(GITHUB, URL, NOON), carry))
    assert MOST_PAGES + 1 == len(asked)


@pytest.mark.parametrize(
    ("action", "now", "holds"),
    [
        ("opened", {"state": "open", "head": {"sha": SHA}}, True),
        ("opened", {"state": "open", "head": {"sha": "2" * 40}}, False),
        ("synchronize", {"state": "closed", "head": {"sha": SHA}}, False),
        ("closed", {"state": "closed", "head": {"sha": SHA}}, True),
        ("closed", {"state": "open", "head": {"sha": SHA}}, False),
        ("opened", {"state": "open", "draft": True, "head": {"sha": SHA}}, False),
        ("edited", {"state": "open", "head": {"sha": SHA}}, False),
    ],
)
def test_github_is_asked_whether_it_still_holds(action: str, now: Any, holds: bool) -> None:
    told = {"number": 7, "action": action, "pull_request": {"head": {"sha": SHA}}}
    one = Failed(hook="2", id="9", key="x", at=NOON)
    carry, asked = replies(answer(200, {"request": {"payload": told}}), answer(200, now))
    assert (7 if holds else None) == converse(github.holds(GITHUB, one), carry)
    assert asked[0].url.endswith("/hooks/2/deliveries/9")
    told |= {"action": "edited", "changes": {"base": {"ref": {"from": "else"}}}}
    based = {"state": "open", "head": {"sha": SHA}}
    carry, _ = replies(answer(200, {"request": {"payload": told}}), answer(200, based))
    assert 7 == converse(github.holds(GITHUB, one), carry), "another base is news"
    gone, _ = replies(answer(200, {"request": {"payload": None}}))
    assert converse(github.holds(GITHUB, one), gone) is None
    away, _ = replies(answer(200, {"request": {"payload": told}}), answer(404, {}))
    assert converse(github.holds(GITHUB, one), away) is None


def event(
    number: int, key: str, status: str, minutes: int = 0, changes: Any = None, **more: Any
) -> Any:
    at = (NOON - timedelta(minutes=minutes)).strftime("%Y-%m-%d %H:%M:%S UTC")
    told = {"iid": 7, "action": "open", "updated_at": at, "last_commit": {"id": SHA}} | more
    return {
        "id": number,
        "request_headers": {"Idempotency-Key": key},
        "request_data": {
            "object_kind": "merge_request",
            "object_attributes": told,
            "changes": changes or {},
        },
        "response_status": status,
    }


def test_gitlab_tells_what_never_got_through() -> None:
    """Whatever the order of its list, the newest first; the time is the merge request's own."""
    push = {"id": 1, "request_data": {"object_kind": "push"}, "response_status": "500"}
    first = [event(2, "lost", "internal error", 9), event(3, "late", "502", 2), push]
    second = [
        event(4, "mended", "500", 8),
        event(5, "mended", "202", 1),
        event(6, "old", "500", 60),
    ]
    hooks = answer(200, [{"id": 2, "url": URL}])
    carry, asked = replies(
        hooks, answer(200, first, x_next_page="2"), answer(200, second, x_next_page="")
    )
    found = converse(gitlab.failed(GITLAB, URL, NOON - timedelta(minutes=30)), carry)
    assert [("late", "3"), ("lost", "2")] == [(one.key, one.id) for one in found]
    assert asked[2].url.endswith("/projects/acme%2Fweb%2Fshop/hooks/2/events?per_page=100&page=2")


@pytest.mark.parametrize(
    ("more", "news"),
    [
        ({"action": "update", "oldrev": "2" * 40}, True),
        ({"action": "update"}, False),
        ({"action": "update", "changes": {"labels": {}}}, False),
        ({"action": "update", "changes": {"target_branch": {"previous": "x"}}}, True),
        ({"action": "update", "changes": {"draft": {"previous": True, "current": False}}}, True),
        ({"action": "update", "changes": {"draft": {"previous": False}}}, False),
        ({"action": "approved"}, False),
        ({"action": "open", "draft": True}, False),
        ({"action": "close", "draft": True}, True),
    ],
)
def test_gitlabs_other_events_are_no_news(more: Any, news: bool) -> None:
    """What would start nothing must not stand before what would."""
    carry, _ = replies(
        answer(200, [{"id": 2, "url": URL}]), answer(200, [event(2, "x", "500", **more)])
    )
    assert news == bool(converse(gitlab.failed(GITLAB, URL, NOON - timedelta(hours=1)), carry))


@pytest.mark.parametrize(
    ("action", "now", "holds"),
    [
        ("open", {"state": "opened", "draft": True, "sha": SHA}, False),
        ("open", {"state": "opened", "sha": SHA}, True),
        ("update", {"state": "opened", "sha": "2" * 40}, False),
        ("update", {"state": "merged", "sha": SHA}, False),
        ("merge", {"state": "merged", "sha": SHA}, True),
        ("close", {"state": "opened", "sha": SHA}, False),
    ],
)
def test_gitlab_is_asked_whether_it_still_holds(action: str, now: Any, holds: bool) -> None:
    told = event(1, "x", "500", action=action)["request_data"]
    one = Failed(hook="2", id="9", key="x", at=NOON, told=told)
    assert (7 if holds else None) == converse(
        gitlab.holds(GITLAB, one), replies(answer(200, now))[0]
    )
    nothing = Failed(hook="2", id="9", key="x", at=NOON, told={"object_attributes": []})
    assert converse(gitlab.holds(GITLAB, nothing), replies()[0]) is None


def test_again() -> None:
    """The addresses and the method that each forge wants; no body."""
    one = Failed(hook="2", id="9", key="x", at=NOON)
    for forge, place, end in (
        (github, GITHUB, "/repos/acme/shop/hooks/2/deliveries/9/attempts"),
        (gitlab, GITLAB, "/projects/acme%2Fweb%2Fshop/hooks/2/events/9/resend"),
    ):
        carry, asked = replies(answer(202, {}))
        converse(forge.again(place, one), carry)
        assert ("POST", None) == (asked[0].method, asked[0].body)
        assert asked[0].url.endswith(end)


def test_small_words() -> None:
    """Times and statuses in every shape that forges give them; a list without a next page ends."""
    assert NOON == instant("2026-01-01T12:00:00Z") == instant("2026-01-01 12:00:00 UTC")
    assert NOON == instant("2026-01-01T12:00:00.000Z") == instant("2026-01-01T12:00:00")
    assert instant("yesterday") is None and instant(5) is None and instant(None) is None
    assert all(map(lost, (0, 401, 404, 500, 502, "internal error", None, "504")))
    assert not any(map(lost, (200, 202, "200", 302, 400, "413")))
    assert following(answer(200, [], link='<https://x/?cursor=a>; rel="prev"'), "cursor") is None
    assert following(answer(200, [], link='<https://x/?page=2>; rel="next"'), "cursor") is None
    both = '<https://x/?cursor=a>; rel="prev", <https://x/?per_page=3&cursor=b>; rel="next"'
    assert "b" == following(answer(200, [], link=both), "cursor")
