"""The pure half of telling forges: where they are, what a refusal means, and harmless words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leeroy.errors import Invalid, LeeroyError, NotAllowed, NotFound
from leeroy.forges import FORGES, bitbucket, datacenter, github, gitlab, place
from leeroy.forges.place import Place
from leeroy.forges.talk import Answer, DeadToken, Later, Request, converse, refusal
from leeroy.forges.values import Comment, Deployment, Hook, Status, Word
from leeroy.reporting import comment

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHA = "1" * 40


def answer(status: int, value: Any = None, **headers: str) -> Answer:
    named = {key.replace("_", "-"): text for key, text in headers.items()}
    return Answer(status=status, headers=named, body=json.dumps(value).encode(), at=NOON)


MADE = {"id": 1, "uuid": "{1}", "key": "leeroy/shop"}


def replies(*answers: Answer) -> tuple[Callable[[Request], Answer], list[Request]]:
    """Something that carries requests by giving these answers, and what it was asked."""
    left, asked = list(answers), []

    def carry(request: Request) -> Answer:
        asked.append(request)
        return left.pop(0)

    return carry, asked


def status(word: Word = Word.running, context: str = "leeroy/shop", text: str = "runs") -> Status:
    return Status(
        commit=SHA, context=context, word=word, description=text, url="https://ci/b/1", ref="main"
    )


@pytest.mark.parametrize(
    ("repository", "api", "told", "expected"),
    [
        ("https://github.com/acme/shop.git", None, None, ("github", "https://api.github.com", "acme/shop")),
        ("git@github.com:acme/shop.git", None, None, ("github", "https://api.github.com", "acme/shop")),
        ("ssh://git@ssh.github.com:443/acme/shop", None, None, ("github", "https://api.github.com", "acme/shop")),
        ("https://acme.ghe.com/a/b", None, None, ("github", "https://api.acme.ghe.com", "a/b")),
        ("https://git.example.com:8443/acme/Shop.git", None, "github", ("github", "https://git.example.com:8443/api/v3", "acme/Shop")),
        ("git@git.example.com:acme/shop.git", None, "gitea", ("gitea", "https://git.example.com/api/v1", "acme/shop")),
        ("https://gitlab.com/a/b/c/shop", None, None, ("gitlab", "https://gitlab.com/api/v4", "a/b/c/shop")),
        ("https://x.example/gitlab/a/b/shop.git", "https://x.example/gitlab/api/v4", None, ("gitlab", "https://x.example/gitlab/api/v4", "a/b/shop")),
        ("git@bitbucket.org:acme/shop.git", None, "bitbucket", ("bitbucket", "https://api.bitbucket.org/2.0", "acme/shop")),
        ("https://b.example/scm/PRJ/shop.git", None, "bitbucket", ("datacenter", "https://b.example/rest", "PRJ/shop")),
        ("ssh://git@b.example:7999/~ada/shop.git", None, "bitbucket", ("datacenter", "https://b.example/rest", "~ada/shop")),
        ("https://b.example/stash/scm/PRJ/shop.git", "https://b.example/stash/rest/", None, ("datacenter", "https://b.example/stash/rest", "PRJ/shop")),
        ("https://codeberg.org/acme/shop", None, None, ("gitea", "https://codeberg.org/api/v1", "acme/shop")),
    ],
)  # fmt: skip
def test_a_repository_is_found_on_its_forge(
    repository: str, api: str | None, told: str | None, expected: tuple[str, str, str]
) -> None:
    """Host, `api` or the webhook say which forge it is; ports and roots stay."""
    assert Place(*expected) == place.find(repository, api, told)


@pytest.mark.parametrize(
    ("repository", "told"),
    [
        (None, "github"),
        ("/srv/shop.git", "github"),
        ("file:///srv/shop.git", "github"),
        ("https://git.example.com/acme/shop", None),
        ("https://github.com/shop", None),
        ("https://github.com/a/../b", None),
        ("https://github.com:port/a/b", None),
        ("https://github.com/a/b/c", None),
    ],
)
def test_what_is_on_no_forge_is_nowhere(repository: str | None, told: str | None) -> None:
    """Local paths, unknown hosts and odd paths are told nothing."""
    assert place.find(repository, None, told) is None


def test_an_api_is_an_address_of_a_forge() -> None:
    """Everything else is a mistake that says what it should look like."""
    assert place.api_mistake("https://x.example/gitlab/api/v4") is None
    assert place.api_mistake("http://127.0.0.1:3000/api/v1") is None
    for wrong in ("x.example/api/v4", "https://x.example", "ftp://x/api/v4", "https://u:p@x/api/v4",
                  "https://x/api/v4?a=b", "https://x:y/api/v4"):  # fmt: skip
        assert place.api_mistake(wrong)


@pytest.mark.parametrize(
    ("found", "kind", "after_s"),
    [
        (answer(500), Later, None),
        (answer(408), Later, None),
        (answer(429, retry_after="7"), Later, 7),
        (answer(503, retry_after="Thu, 01 Jan 2026 12:01:00 GMT"), Later, 60),
        (answer(403, x_ratelimit_remaining="0", x_ratelimit_reset=str(int(NOON.timestamp()) + 90)), Later, 90),
        (answer(403, {"message": "You have exceeded a secondary rate limit."}), Later, None),
        (answer(429, retry_after="999999999"), Later, 6 * 3600),
        (answer(429, retry_after="soon"), Later, None),
        (answer(401), DeadToken, None),
        (answer(403, {"message": "Resource not accessible"}), NotAllowed, None),
        (answer(404), NotFound, None),
        (answer(422, {"errors": [{"message": "too long"}]}), Invalid, None),
    ],
)  # fmt: skip
def test_a_refusal_is_understood(
    found: Answer, kind: type[LeeroyError], after_s: int | None
) -> None:
    """What may get better is tried again, when the forge wants it; the rest is given up."""
    request = Request(
        method="POST", url="https://x/y", who="GitHub (x)", what="the status", needs="W"
    )
    error = refusal(request, found)
    assert type(error) is kind
    assert "GitHub (x)" in str(error)
    if isinstance(error, Later):
        expected = None if after_s is None else NOON + timedelta(seconds=after_s)
        assert expected == error.after


@given(st.binary(max_size=200), st.integers(300, 599), st.text(max_size=40))
def test_any_answer_is_a_sentence(body: bytes, code: int, header: str) -> None:
    """Whatever a forge answers, the error is one line of printable text."""
    request = Request(method="GET", url="https://x/y", who="GitHub (x)", what="the status")
    found = Answer(status=code, headers={"retry-after": header}, body=body, at=NOON)
    assert str(refusal(request, found)).isprintable()


@given(st.recursive(st.none() | st.text() | st.integers(), lambda c: st.lists(c) | st.dictionaries(st.sampled_from(["message", "error", "errors", "code", "x"]), c), max_leaves=20))  # fmt: skip
def test_any_json_of_an_error_is_read(value: Any) -> None:
    """The forges' words are found in whatever shape, or not, but nothing breaks."""
    assert len(answer(422, value).said()) <= 300


@pytest.mark.parametrize("forge", sorted(FORGES))
@pytest.mark.parametrize("word", list(Word))
def test_every_word_has_one_on_each_forge(forge: str, word: Word) -> None:
    """And a sentence of any length fits."""
    where = Place(forge, "https://x.example/api", "acme/shop")
    carry, asked = replies(answer(201, MADE))
    converse(FORGES[forge].status(where, status(word, text="x" * 500)), carry)
    [request] = asked
    assert request.body is not None
    assert len(request.body["description"]) == 140
    assert request.body["state"]
    assert SHA in request.url


def test_gitlab_is_told_what_it_knows() -> None:
    """To arrive where one is, is refused by its machine, and as good as told; nothing else is."""
    where = Place("gitlab", "https://gitlab.com/api/v4", "a/b/shop")
    said = {"message": "Cannot transition status via :run from :running (Reason(s): ...)"}
    carry, asked = replies(answer(400, said))
    converse(gitlab.status(where, status()), carry)
    assert "/projects/a%2Fb%2Fshop/statuses/" in asked[0].url
    assert "main" == (asked[0].body or {})["ref"]
    with pytest.raises(Invalid):
        converse(gitlab.status(where, status()), replies(answer(400, {"message": "no"}))[0])


PAGE = Answer(
    status=200, headers={"content-type": "text/html"}, body=b"<html>Log in</html>", at=NOON
)


@pytest.mark.parametrize("forge", sorted(FORGES))
def test_not_every_answer_is_a_forges(forge: str) -> None:
    """The page of a login, or a list, made nothing: it is tried again, and said."""
    where = Place(forge, "https://x.example/api", "acme/shop")
    strange = [PAGE] if forge == "datacenter" else [PAGE, answer(200, []), answer(200, {"a": 1})]
    for one in strange:  # Data Center answers a status with nothing at all
        with pytest.raises(Later, match="is no answer of that API"):
            converse(FORGES[forge].status(where, status()), replies(one)[0])
    hook = Hook(url="https://ci.example/hooks/x", secret="s")
    for one in (PAGE, answer(201, []), answer(201, {"a": 1})):
        with pytest.raises(Later, match="is no answer of that API"):
            converse(FORGES[forge].register(where, hook), replies(answer(200, []), one)[0])
    with pytest.raises(Later, match="is no answer of that API"):
        converse(FORGES[forge].register(where, hook), replies(PAGE)[0])
    made = converse(FORGES[forge].register(where, hook), replies(answer(200), answer(201, MADE))[0])
    assert made.new and made.id


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("forge", sorted(FORGES))
def test_who_may_not_make_a_webhook_is_told_what_it_takes(forge: str, status: int) -> None:
    where = Place(forge, "https://x.example/api", "acme/shop")
    hook = Hook(url="https://ci.example/hooks/x", secret="s")
    with pytest.raises(NotAllowed) as found:
        converse(FORGES[forge].register(where, hook), replies(answer(status))[0])
    right = {
        "github": "Webhooks: write",
        "gitlab": "scope api",
        "bitbucket": "scope webhook",
        "datacenter": "REPO_ADMIN",
        "gitea": "write:repository",
    }[forge]
    assert right in str(found.value)


def test_bitbucket_keys_have_forty_characters_at_most() -> None:
    """The text where it fits, else its SHA-1, which has exactly forty."""
    assert "leeroy/shop" == bitbucket.key("leeroy/shop")
    assert "x" * 40 == bitbucket.key("x" * 40)
    long = "leeroy/" + "shop" * 20
    assert hashlib.sha1(long.encode()).hexdigest() == bitbucket.key(long)


def test_an_old_data_center_is_told_in_the_old_way() -> None:
    """Where the repository has no builds, the commit has; it knows no word for cancelled."""
    where = Place("datacenter", "https://b.example/rest", "PRJ/shop")
    carry, asked = replies(answer(404), answer(204))
    converse(datacenter.status(where, status(Word.stopped)), carry)
    assert ["CANCELLED", "FAILED"] == [(r.body or {})["state"] for r in asked]
    assert asked[1].url == f"https://b.example/rest/build-status/1.0/commits/{SHA}"


def test_a_comment_whose_answer_was_lost_is_found_again() -> None:
    """The marker says which one it is; then it is edited, and none is made."""
    where = Place("github", "https://api.github.com", "acme/shop")
    told = Comment(number=7, text="news", marker="leeroy-abc", known=None, look=True)
    listed = [{"id": 1, "body": "hi"}, {"id": 2, "body": "old\n[//]: # (leeroy-abc)"}]
    carry, asked = replies(answer(200, listed), answer(200, {"id": 2}))
    assert "2" == converse(github.comment(where, told), carry)
    assert ["GET", "PATCH"] == [request.method for request in asked]


def test_a_comment_that_somebody_deleted_is_made_anew() -> None:
    """The next news make another one."""
    where = Place("github", "https://api.github.com", "acme/shop")
    told = Comment(number=7, text="news", marker="leeroy-abc", known="2", look=False)
    carry, asked = replies(answer(404), answer(201, {"id": 3}))
    assert "3" == converse(github.comment(where, told), carry)
    assert ["PATCH", "POST"] == [request.method for request in asked]


def test_a_pull_request_with_a_newer_commit_is_left_open() -> None:
    """Only what failed is closed."""
    where = Place("github", "https://api.github.com", "acme/shop")
    carry, asked = replies(answer(200, {"state": "open", "head": {"sha": "2" * 40}}))
    assert "newer commit" in (converse(github.close(where, 7, SHA), carry) or "")
    assert 1 == len(asked)


def test_a_deployment_avoids_the_traps() -> None:
    """GitHub would merge into the commit, and wait for our own status."""
    where = Place("github", "https://api.github.com", "acme/shop")
    told = Deployment(
        commit=SHA, environment="production", word=Word.waiting, description="d",
        log_url="https://ci/b/1", marker="m", known=None, look=True,
    )  # fmt: skip
    carry, asked = replies(answer(200, [{"id": 5, "payload": "{}"}]), answer(201, {"id": 6}))
    assert "6" == converse(github.deployment(where, told), carry)
    body = asked[1].body or {}
    assert (False, []) == (body["auto_merge"], body["required_contexts"])


@given(st.text())
def test_a_log_in_a_comment_ends_no_fence_and_gives_no_order(text: str) -> None:
    """No run of backticks, no mention, no line that starts with a slash."""
    evil = f"```\n/merge\n  /close\n@all {text}\n```\n"
    for line in comment.fenced(evil).split("\n"):
        assert "``" not in line
        assert not line.lstrip(" \t").startswith("/")
        assert "@all" not in line


@given(st.text())
def test_strangers_words_are_no_markup(text: str) -> None:
    """Neither HTML nor links nor mentions; one line."""
    plain = comment.plain(f"<img> [x](y) @all !1 {text}")
    assert "\n" not in plain
    assert "\\<img\\>" in plain and "@all" not in plain and "](" not in plain
