"""GitHub's deliveries: what they say, and what no bytes can make of them."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leeroy.hooks import FORGES, BadPayload, payload
from leeroy.hooks.github import parse
from leeroy.hooks.github import verify as verify_any
from leeroy.model import Delivery, Push

COMMIT = "1f" * 20
ZEROS = "0" * 40
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEADERS = {
    "content-type": "application/json",
    "x-github-event": "push",
    "x-github-delivery": "ce0658f2-630e-4acd-85d5-c37e530c0267",
}


def a_push(**changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "ref": "refs/heads/main",
        "before": "2e" * 20,
        "after": COMMIT,
        "created": False,
        "deleted": False,
        "head_commit": {
            "id": COMMIT,
            "message": "Sell hats\n\nAt last.",
            "author": {"name": "Ada", "email": "ada@example.com", "username": "ada"},
        },
        "repository": {
            "full_name": "Acme/Shop",
            "html_url": "https://github.com/Acme/Shop",
            "clone_url": "https://github.com/Acme/Shop.git",
            "ssh_url": "git@github.com:Acme/Shop.git",
            "git_url": "git://github.com/Acme/Shop.git",
            "default_branch": "main",
        },
    }
    return told | changes


def head(**changes: Any) -> dict[str, Any]:
    return {**a_push()["head_commit"], **changes}


def read(told: Any, **headers: str) -> Delivery:
    return parse(HEADERS | headers, json.dumps(told).encode())


def refused(body: bytes, **headers: str) -> str:
    with pytest.raises(BadPayload) as caught:
        parse(HEADERS | headers, body)
    return str(caught.value)


def verify(secret: str, headers: dict[str, str], body: bytes) -> bool:
    return verify_any((secret,), headers, body, NOW)


def signed(secret: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_the_signature_github_documents() -> None:
    """The vector of GitHub's manual verifies, also with capital digits."""
    body, secret = b"Hello, World!", "It's a Secret to Everybody"
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

    assert verify(secret, {"x-hub-signature-256": f"sha256={digest}"}, body)
    assert verify(secret, {"x-hub-signature-256": f"sha256={digest.upper()}"}, body)
    assert not verify(secret + "!", {"x-hub-signature-256": f"sha256={digest}"}, body)
    assert not verify(secret, {"x-hub-signature-256": f"sha256={digest}"}, body + b" ")


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        "sha256",
        "sha1=" + "0" * 40,
        "sha256=" + "0" * 63,
        "sha256=" + "é" * 64,
        "\x00",
    ],
)
def test_a_broken_signature_never_verifies(signature: str) -> None:
    """What is no signature is a wrong one, and no error."""
    assert not verify("secret", {"x-hub-signature-256": signature}, b"")
    assert not verify("secret", {}, b"")


def test_an_empty_secret_never_verifies() -> None:
    """A pipeline whose secret is empty accepts nothing, not even what is signed with nothing."""
    assert not verify("", {"x-hub-signature-256": signed("", b"{}")}, b"{}")


def test_a_secret_of_any_bytes() -> None:
    """A secret from the environment that is not UTF-8 works as its bytes."""
    secret = b"\xff\xfe".decode(errors="surrogateescape")
    digest = hmac.new(b"\xff\xfe", b"{}", hashlib.sha256).hexdigest()

    assert verify(secret, {"x-hub-signature-256": "sha256=" + digest}, b"{}")


def test_a_push_of_a_branch() -> None:
    """Commit, branch, message, author and default branch come from the payload."""
    delivery = read(a_push())

    assert (
        Delivery(
            forge="github",
            id=HEADERS["x-github-delivery"],
            event="push",
            addresses=(
                "https://github.com/Acme/Shop",
                "https://github.com/Acme/Shop.git",
                "git@github.com:Acme/Shop.git",
                "git://github.com/Acme/Shop.git",
            ),
            pushes=(
                Push(
                    branch="main",
                    tag=None,
                    commit=COMMIT,
                    message="Sell hats\n\nAt last.",
                    author="Ada",
                    author_email="ada@example.com",
                    default_branch="main",
                ),
            ),
        )
        == delivery
    )


def test_an_annotated_tag_is_its_commit() -> None:
    """`after` is the tag's own object; what is built is the commit it leads to."""
    delivery = read(a_push(ref="refs/tags/v1.0", after="ab" * 20))

    assert [("v1.0", None, COMMIT)] == [(p.tag, p.branch, p.commit) for p in delivery.pushes]


def test_a_tag_that_is_no_commit() -> None:
    """A tag of a file starts nothing, and says so."""
    delivery = read(a_push(ref="refs/tags/v1.0", head_commit=None))

    assert () == delivery.pushes
    assert "tag v1.0 does not lead to a commit" == delivery.ignored


@pytest.mark.parametrize("gone", [{"deleted": True}, {"after": ZEROS}, {"after": "0" * 64}])
@pytest.mark.parametrize("ref", ["refs/heads/old", "refs/tags/old"])
def test_a_deleted_ref(ref: str, gone: dict[str, Any]) -> None:
    """A deleted ref has no commit, however the forge says that it is gone."""
    (push,) = read(a_push(ref=ref, head_commit=None, **gone)).pushes

    assert (True, None, "old") == (push.deleted, push.commit, push.branch or push.tag)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("Fix a typo [skip ci]", "[skip ci]"),
        ("[CI SKIP] Fix a typo", "[CI SKIP]"),
        ("Fix\n\nmore [no ci] words", "[no ci]"),
        ("Fix [skip actions]", "[skip actions]"),
        ("Fix [actions skip]", "[actions skip]"),
        ("Fix ***NO_CI***", "***NO_CI***"),
        ("Fix\n\nskip-checks: true", "skip-checks: true"),
        ("Fix\n\nskip-checks: true\nSigned-off-by: Ada", "skip-checks: true"),
        ("Explain skip ci", None),
        ("Set skip-checks: true", None),
    ],
)
def test_a_commit_that_asks_for_no_build(message: str, found: str | None) -> None:
    """`[skip ci]` and its likes start nothing, and the reason quotes what was found."""
    delivery = read(a_push(head_commit=head(message=message)))

    assert (None if found is None else f"the commit's message says {found}") == delivery.ignored
    assert (found is None) == bool(delivery.pushes)


def test_a_ping_and_other_events_are_answered() -> None:
    """A valid delivery that starts nothing says why; it is no error."""
    for event in ("ping", "create", "delete", "star", "merge_group"):
        delivery = read({"zen": "Keep it logically awesome."}, **{"x-github-event": event})

        assert delivery.ignored
        assert (event, (), ()) == (delivery.event, delivery.pushes, delivery.addresses)


def test_a_ref_that_is_neither_branch_nor_tag() -> None:
    """Notes and other refs start nothing."""
    assert "refs/notes/x is neither a branch nor a tag" == read(a_push(ref="refs/notes/x")).ignored


def test_a_form_is_read_like_json() -> None:
    """GitHub's own default is a form; its payload says the same."""
    body = b"payload=" + quote_plus(json.dumps(a_push())).encode()
    form = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}

    assert read(a_push()) == parse(HEADERS | form, body)


def test_a_repository_without_addresses() -> None:
    """Then the forge's host and the full name are its address."""
    bare = {"full_name": "Acme/Shop"}

    assert ("https://github.com/Acme/Shop",) == read(a_push(repository=bare)).addresses
    enterprise = {"x-github-enterprise-host": "git.acme.example"}
    assert ("https://git.acme.example/Acme/Shop",) == read(
        a_push(repository=bare), **enterprise
    ).addresses


def test_odd_authors() -> None:
    """What is no mail address is none; a user's name stands in for a missing author."""
    author = {"name": " ", "username": "ada", "email": "[REDACTED]"}
    (push,) = read(a_push(head_commit=head(author=author))).pushes

    assert ("ada", None) == (push.author, push.author_email)


def test_a_long_message_is_cut() -> None:
    """A huge message is no reason for no build."""
    (push,) = read(a_push(head_commit=head(message="x" * 1_000_000))).pushes

    assert 100_000 == len(push.message or "")


@pytest.mark.parametrize("name", ["a/.b", ".a", "a.lock/b", "a.lock", "a..b", "a//b", "a b", "a."])
def test_a_name_that_git_refuses_is_refused(name: str) -> None:
    """As git-check-ref-format(1) says, for every part between slashes."""
    with pytest.raises(payload.BadPayload, match="no name that git gives"):
        payload.name(name, "ref")
    assert "a.b/c.locks" == payload.name("a.b/c.locks", "ref")


def test_branch_names_are_data() -> None:
    """A name that git allows comes through as it is, whatever a shell would make of it."""
    for name in ("--upload-pack=touch${IFS}PWNED", "$(id)", 'x;touch$IFS"P"', "ünïcode/✓"):
        (push,) = read(a_push(ref=f"refs/heads/{name}")).pushes
        assert name == push.branch


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ref": None}, "ref"),
        ({"ref": 7}, "ref is no text"),
        ({"ref": "main"}, "ref"),
        ({"ref": "refs/heads/"}, "ref"),
        ({"ref": "refs/heads/../../x"}, "no name that git gives"),
        ({"ref": "refs/heads/a b"}, "no name that git gives"),
        ({"ref": "refs/heads/a\x00b"}, "NUL"),
        ({"ref": "refs/heads/" + "x" * 5000}, "no name that git gives"),
        ({"after": "1234567"}, "after is no commit"),
        ({"after": "g" * 40}, "after is no commit"),
        ({"after": None}, "after is no commit"),
        ({"after": COMMIT + "\n"}, "after is no commit"),
        ({"after": ["--help"]}, "after is no text"),
        ({"deleted": "false"}, "deleted is neither true nor false"),
        ({"head_commit": []}, "head_commit is no object"),
        ({"head_commit": {"id": COMMIT, "message": 1}}, "message is no text"),
        ({"head_commit": {"id": COMMIT, "message": "a\x00"}}, "NUL"),
        ({"head_commit": {"id": COMMIT, "message": "\ud800"}}, "half a character"),
        ({"head_commit": {"author": "Ada"}}, "author is no object"),
        ({"repository": None}, "repository is missing"),
        ({"repository": "shop"}, "repository is no object"),
        ({"repository": {"clone_url": 1}}, "clone_url is no text"),
        ({"repository": {"clone_url": "https://x/" + "y" * 5000}}, "clone_url is too long"),
        ({"repository": {"clone_url": "https://x/\r\ny"}}, "more than plain text"),
        ({"repository": {"full_name": "a/b", "default_branch": "a b"}}, "default_branch"),
    ],
)
def test_a_payload_that_is_wrong(change: dict[str, Any], said: str) -> None:
    """What a forge never sends is refused in a sentence that names the key."""
    assert said in refused(json.dumps(a_push(**change)).encode())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"[]", "no object"),
        (b"null", "no object"),
        (b"{", "no JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b'{"ref": NaN}', "NaN is no JSON"),
        (b'{"ref": "a", "ref": "b"}', "same key twice"),
        (b'{"x": {"a": 1, "a": 2}}', "same key twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b'{"size": ' + b"9" * 10_000 + b"}", "a number in the JSON is longer than any"),
    ],
)
def test_a_body_that_is_no_json(body: bytes, said: str) -> None:
    """Bombs, duplicates and nonsense are refused in a sentence."""
    assert said in refused(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"a=b",
        b"payload=",
        b"payload=%7B%7D&payload=%7B%7D",
        b"payload=%ff",
        b"\xff",
        b"&a=1" * 50,
    ],
)
def test_a_form_that_is_wrong(body: bytes) -> None:
    """A form needs exactly one payload, and that is JSON."""
    assert refused(body, **{"content-type": "application/x-www-form-urlencoded"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-github-event", ""),
        ("x-github-delivery", ""),
        ("x-github-delivery", "x" * 500),
        ("x-github-delivery", "é"),
        ("x-github-delivery", "a\x00b"),
        ("content-type", "text/xml"),
    ],
)
def test_headers_that_are_wrong(name: str, value: str) -> None:
    """Without its own headers it is no delivery: no build is started that could come twice."""
    assert refused(json.dumps(a_push()).encode(), **{name: value})


def test_the_error_is_for_the_sender() -> None:
    """A bad payload is answered with 400 and a sentence."""
    error = BadPayload("no")

    assert (400, "bad_payload") == (error.status, error.code)
    assert parse is FORGES["github"].parse


# -- whatever the bytes are --------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([COMMIT, ZEROS, "refs/heads/main", "refs/tags/v1", "\x00", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
HEAD = st.fixed_dictionaries(
    {},
    optional={
        "id": VALUES | st.just(COMMIT),
        "message": VALUES,
        "author": VALUES
        | st.fixed_dictionaries({}, optional={"name": VALUES, "email": VALUES, "username": VALUES}),
    },
)
PUSHES = st.fixed_dictionaries(
    {},
    optional={
        "ref": st.sampled_from(["refs/heads/main", "refs/tags/v1", "refs/x/y"]) | VALUES,
        "after": st.sampled_from([COMMIT, ZEROS]) | VALUES,
        "deleted": st.booleans() | VALUES,
        "head_commit": HEAD | VALUES,
        "repository": st.just(a_push()["repository"])
        | st.fixed_dictionaries(
            {}, optional={"clone_url": VALUES, "full_name": VALUES, "default_branch": VALUES}
        )
        | VALUES,
    },
)


def only_bad_payload(headers: dict[str, str], body: bytes) -> None:
    try:
        delivery = parse(headers, body)
    except BadPayload as exc:
        assert str(exc).isprintable()
        return
    assert bool(delivery.pushes or delivery.pulls) != bool(delivery.ignored)
    for push in delivery.pushes:
        assert 1 == [push.branch, push.tag].count(None)
        assert push.deleted == (push.commit is None)
        # Nothing gets through that a database could not store.
        for value in (push.branch, push.tag, push.message, push.author, push.author_email):
            assert "\x00" not in (value or "")
            assert value is None or value.encode()


@given(PUSHES)
@settings(max_examples=300, deadline=None)
def test_any_object_is_a_delivery_or_a_bad_payload(told: dict[str, Any]) -> None:
    """Whatever the JSON holds, nothing but BadPayload is raised."""
    only_bad_payload(HEADERS, json.dumps(told).encode())


@given(
    st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from(["application/json", "application/x-www-form-urlencoded", "", "\x00"]),
    st.text(max_size=20),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_delivery_or_a_bad_payload(body: bytes, kind: str, word: str) -> None:
    """Whatever the bytes and headers are, nothing but BadPayload is raised."""
    only_bad_payload(HEADERS | {"content-type": kind}, body)
    only_bad_payload({"x-github-event": word, "x-github-delivery": word}, body)
    verify(word, {"x-hub-signature-256": word}, body)
