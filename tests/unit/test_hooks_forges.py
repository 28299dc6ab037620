"""GitLab, Bitbucket, Gitea and their kin: what their deliveries say, and what no bytes can make of them."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leeroy.hooks import FORGES, BadPayload, meant
from leeroy.model import Delivery, Pull, Push
from leeroy.terms import Turn

C1, C2, ZEROS = "1f" * 20, "2e" * 20, "0" * 40
NOW = datetime.fromtimestamp(1614265330, UTC)
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SPEC = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
SPEC_BODY = b'{"test": 2432232314}'
HEADERS = {
    "github": {"x-github-event": "pull_request", "x-github-delivery": "1"},
    "gitlab": {"x-gitlab-event": "Push Hook", "idempotency-key": "1"},
    "bitbucket": {"x-event-key": "repo:push", "x-request-uuid": "1"},
    "datacenter": {"x-event-key": "repo:refs_changed", "x-request-id": "1"},
    "gitea": {"x-gitea-event": "push", "x-gitea-delivery": "1"},
}
OWN = {
    "id": 7,
    "full_name": "acme/shop",
    "clone_url": "https://git.example/acme/shop.git",
    "default_branch": "main",
}
FORK = {"id": 8, "full_name": "mallory/shop", "clone_url": "https://git.example/mallory/shop.git"}
PROJECT = {"path_with_namespace": "acme/shop", "web_url": "https://lab.example/acme/shop"}
STASH = {
    "id": 1,
    "slug": "shop",
    "project": {"key": "PRJ"},
    "links": {"self": [{"href": "https://bb.example/x/projects/PRJ/repos/shop/browse"}]},
}


def read(forge: str, told: Any, **headers: str) -> Delivery:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    door = FORGES["bitbucket" if forge == "datacenter" else forge]
    return door.parse(HEADERS[forge] | named, json.dumps(told).encode())


def the_push(delivery: Delivery) -> Push:
    assert delivery.ignored is None
    (push,) = delivery.pushes
    return push


def the_pull(delivery: Delivery) -> Pull:
    assert delivery.ignored is None
    (pull,) = delivery.pulls
    return pull


def request(action: str = "opened", **more: Any) -> dict[str, Any]:
    """A pull request as GitHub and Gitea tell it."""
    told = {
        "number": 7,
        "title": "Hats",
        "user": {"login": "ada", "email": "ada@example.com"},
        "head": {"ref": "hats", "sha": C1, "repo": OWN},
        "base": {"ref": "main", "repo": OWN},
    }
    return {
        "action": action,
        "number": 7,
        "pull_request": told | more,
        "repository": OWN,
    }


def lab(**more: Any) -> dict[str, Any]:
    """A push as GitLab tells it."""
    told = {
        "object_kind": "push",
        "ref": "refs/heads/main",
        "before": C2,
        "after": C1,
        "checkout_sha": C1,
        "project": PROJECT,
        "commits": [
            {"id": C1, "message": "Hats", "author": {"name": "Ada", "email": "[REDACTED]"}}
        ],
    }
    return told | more


def merge(action: str = "open", changes: Any = None, **more: Any) -> dict[str, Any]:
    told = {
        "iid": 3,
        "action": action,
        "source_branch": "hats",
        "target_branch": "main",
        "source_project_id": 1,
        "target_project_id": 1,
        "source": PROJECT,
        "target": PROJECT,
        "last_commit": {"id": C1, "message": "Hats", "author": {"email": "ada@example.com"}},
    }
    return {
        "object_kind": "merge_request",
        "object_attributes": told | more,
        "project": PROJECT,
        "changes": changes,
    }


def cloud(*changes: Any) -> dict[str, Any]:
    return {"push": {"changes": list(changes)}, "repository": {"full_name": "acme/shop"}}


def moved(name: str = "main", kind: str = "branch", old: str | None = C2) -> dict[str, Any]:
    target = {"hash": C1, "message": "Hats", "author": {"raw": "Ada L. <ada@example.com>"}}
    before = None if old is None else {"type": kind, "name": name, "target": {"hash": old}}
    return {"old": before, "new": {"type": kind, "name": name, "target": target}}


def cloud_pull(**more: Any) -> dict[str, Any]:
    own = {"uuid": "{1}", "full_name": "acme/shop"}
    told = {
        "id": 5,
        "title": "Hats",
        "source": {"branch": {"name": "hats"}, "commit": {"hash": C1[:12]}, "repository": own},
        "destination": {"branch": {"name": "main"}, "repository": own},
        "author": {"nickname": "ada"},
    }
    main = {"full_name": "acme/shop", "mainbranch": {"name": "main"}}
    return {"pullrequest": told | more, "repository": main}


def stash(**more: Any) -> dict[str, Any]:
    change = {"ref": {"id": "refs/heads/main"}, "fromHash": C2, "toHash": C1, "type": "UPDATE"}
    return {"repository": STASH, "changes": [change | more]}


def stash_pull(**more: Any) -> dict[str, Any]:
    told = {
        "id": 9,
        "fromRef": {"id": "refs/heads/hats", "latestCommit": C1, "repository": STASH},
        "toRef": {"id": "refs/heads/main", "displayId": "main", "repository": STASH},
        "author": {"user": {"name": "ada", "emailAddress": "ada@example.com"}},
    }
    return {"pullRequest": told | more}


# -- signatures ---------------------------------------------------------------------------------


def test_the_published_signatures() -> None:
    """The vectors of Standard Webhooks and of Bitbucket's manual."""
    assert FORGES["gitlab"].verify((SIGNING,), SPEC, SPEC_BODY, NOW)
    secret, body = "It's a Secret to Everybody", b"Hello World!"
    code = "a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
    head = {"x-hub-signature": f"sha256={code}"}
    assert FORGES["bitbucket"].verify(("", secret), head, body, NOW)
    assert not FORGES["bitbucket"].verify(("", "other"), head, body, NOW)


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({"webhook-signature": f"v1,AAAA v2,x {SPEC['webhook-signature']}"}, True),
        ({"webhook-signature": ""}, False),
        ({"webhook-signature": "v1,✓"}, False),
        ({"webhook-id": ""}, False),
        ({"webhook-id": "other"}, False),
        ({"webhook-timestamp": ""}, False),
        ({"webhook-timestamp": "-1614265330"}, False),
        ({"webhook-timestamp": "²"}, False),
        ({"webhook-timestamp": "9" * 40}, False),
        ({"webhook-timestamp": "1614265331"}, False),
    ],
)
def test_a_signing_token(change: dict[str, str], good: bool) -> None:
    """One of several signatures is enough; anything else that differs is too little."""
    assert good is FORGES["gitlab"].verify((SIGNING,), SPEC | change, SPEC_BODY, NOW)


def test_an_old_signature() -> None:
    """Five minutes either way, then a copied delivery is worth nothing."""
    for seconds, good in ((300, True), (301, False), (-300, True), (-301, False)):
        at = NOW + timedelta(seconds=seconds)
        assert good is FORGES["gitlab"].verify((SIGNING,), SPEC, SPEC_BODY, at)


def test_no_downgrade() -> None:
    """Once a signing token is among the secrets, showing a plain one is worth nothing."""
    for secrets in ((SIGNING,), (SIGNING, "plain"), ("plain", SIGNING)):
        for token in (SIGNING, "plain"):
            assert not FORGES["gitlab"].verify(secrets, {"x-gitlab-token": token}, b"", NOW)
        assert FORGES["gitlab"].verify(secrets, SPEC, SPEC_BODY, NOW)
    for broken in ("whsec_", "whsec_!!", "whsec_é"):
        empty = base64.b64encode(hmac.digest(b"\0", b"x", "sha256")).decode()
        head = SPEC | {"webhook-signature": f"v1,{empty}"}
        assert not FORGES["gitlab"].verify((broken,), head, SPEC_BODY, NOW)


def test_gitlabs_plain_secret() -> None:
    """Either of two during a rotation, in whatever bytes; never an empty one."""
    verify = FORGES["gitlab"].verify
    assert verify(("new", "old"), {"x-gitlab-token": "old"}, b"", NOW)
    assert not verify(("new", "old"), {"x-gitlab-token": "older"}, b"", NOW)
    assert verify(("é",), {"x-gitlab-token": "é".encode().decode("latin-1")}, b"", NOW)
    assert not verify(("✓",), {"x-gitlab-token": "✓"}, b"", NOW)
    assert not verify(("",), {"x-gitlab-token": ""}, b"", NOW)
    assert not verify(("",), {}, b"", NOW)


def test_giteas_signatures() -> None:
    """Under any family's header; of a form the JSON in it is signed; an empty digest is none."""
    verify, body = FORGES["gitea"].verify, b'{"a": "b c"}'
    code = hmac.new(b"key", body, hashlib.sha256).hexdigest()
    for name in ("x-forgejo-signature", "x-gitea-signature", "x-gogs-signature"):
        assert verify(("key",), {name: code}, body, NOW)
        assert not verify(("key",), {name: ""}, body, NOW)
        assert not verify(("",), {name: code}, body, NOW)
    assert verify(("key",), {"x-hub-signature-256": f"sha256={code}"}, body, NOW)
    form = {"x-gitea-signature": code, "content-type": "application/x-www-form-urlencoded"}
    assert verify(("key",), form, b"payload=%7B%22a%22%3A+%22b+c%22%7D", NOW)
    assert not verify(("key",), form, b"\xff", NOW)


# -- pushes -------------------------------------------------------------------------------------


def test_gitlabs_push() -> None:
    """Message and author are those of the commit that is checked out."""
    push = the_push(read("gitlab", lab()))
    assert ("main", C1, "Hats", "Ada", None) == (
        push.branch,
        push.commit,
        push.message,
        push.author,
        push.author_email,
    )
    tag = the_push(read("gitlab", lab(ref="refs/tags/v1", after=C2, before=ZEROS)))
    assert ("v1", C1) == (tag.tag, tag.commit)
    system = lab(object_kind=None, event_name="push", commits=None)
    assert the_push(read("gitlab", system, x_gitlab_event="System Hook")).message is None
    assert the_push(read("gitlab", lab(after=ZEROS, checkout_sha=None))).deleted


def test_gitlabs_other_deliveries() -> None:
    """What starts nothing has a reason, and what is no delivery of GitLab says so."""
    assert "pipeline" in (read("gitlab", {"object_kind": "pipeline"}).ignored or "")
    assert "nothing moved" in (read("gitlab", lab(before=C1)).ignored or "")
    with pytest.raises(BadPayload, match="template"):
        read("gitlab", {"hello": "world"})
    with pytest.raises(BadPayload, match="project is missing"):
        read("gitlab", lab(project=None))


def test_gitlabs_names_for_a_delivery() -> None:
    """The key that redeliveries keep; before there was any, the same body is the same news."""
    assert "1" == read("gitlab", lab()).id
    assert "2" == read("gitlab", lab(), idempotency_key="", webhook_id="2").id
    assert "3" == read("gitlab", lab(), idempotency_key="", x_gitlab_event_uuid="3").id
    assert read("gitlab", lab(), idempotency_key="").id.startswith("sha256:")


def test_gitlabs_address_by_its_instance() -> None:
    """A project that tells no address is found by the instance and its path."""
    bare = {"path_with_namespace": "a/b/c"}
    found = read("gitlab", lab(project=bare), x_gitlab_instance="https://lab.example/")
    assert ("https://lab.example/a/b/c",) == found.addresses


def test_bitbuckets_push() -> None:
    """Every ref of a push; what did not move, is skipped or is neither branch nor tag is left out."""
    gone = {"old": moved("old")["new"], "new": None}
    skipped = moved("skipped")
    skipped["new"]["target"]["message"] = "Hats [skip ci]"
    told = cloud(
        moved(),
        moved("v1", "tag", None),
        gone,
        moved("still", old=C1),
        skipped,
        moved("x", "bookmark"),
    )
    found = read("bitbucket", told)
    assert [("main", None, C1), (None, "v1", C1), ("old", None, None)] == [
        (p.branch, p.tag, p.commit) for p in found.pushes
    ]
    assert ("Ada L.", "ada@example.com") == (found.pushes[0].author, found.pushes[0].author_email)
    assert "nothing moved" == read("bitbucket", cloud()).ignored
    assert "skip ci" in (read("bitbucket", cloud(skipped)).ignored or "")
    assert read("bitbucket", {}, x_event_key="repo:fork").ignored
    with pytest.raises(BadPayload, match="full_name"):
        read("bitbucket", {"push": {"changes": [moved()]}})


@pytest.mark.parametrize(
    ("raw", "name", "mail"),
    [
        ("Ada <ada@example.com>", "Ada", "ada@example.com"),
        ("<ada@example.com>", None, "ada@example.com"),
        ("Ada <nobody>", "Ada", None),
        ("Ada", "Ada", None),
        (None, None, None),
    ],
)
def test_bitbuckets_authors(raw: str | None, name: str | None, mail: str | None) -> None:
    """Name and address come out of one text, as far as they are in it."""
    told = moved()
    told["new"]["target"]["author"]["raw"] = raw
    push = the_push(read("bitbucket", cloud(told)))
    assert (name, mail) == (push.author, push.author_email)


def test_data_centers_push() -> None:
    """Branches, tags and deletes, with a commit's message where it is told."""
    commit = {"message": "Hats", "author": {"name": "ada", "emailAddress": "ada@example.com"}}
    found = read("datacenter", stash(toCommit=commit))
    push = the_push(found)
    assert ("main", C1, "Hats", "ada") == (push.branch, push.commit, push.message, push.author)
    assert meant(found, "https://bb.example/x/scm/prj/shop.git")
    assert the_push(read("datacenter", stash(type="DELETE"))).deleted
    assert "did not move" in (read("datacenter", stash(fromHash=C1)).ignored or "")
    notes = stash(ref={"id": "refs/notes/x"})
    assert "neither" in (read("datacenter", notes).ignored or "")
    assert "works" in (read("datacenter", {}, x_event_key="diagnostics:ping").ignored or "")
    assert read("datacenter", {}, x_event_key="repo:forked").ignored
    with pytest.raises(BadPayload, match="project and name"):
        read("datacenter", stash() | {"repository": {}})


def test_an_old_server_tells_no_address() -> None:
    """Then project and name decide, on whatever host the pipeline's repository is."""
    bare = {"slug": "shop", "project": {"key": "PRJ"}}
    found = read("datacenter", stash() | {"repository": bare})
    for own in ("ssh://git@bb.example:7999/prj/shop.git", "https://bb.example/scm/PRJ/shop.git"):
        assert meant(found, own)
    for other in ("https://bb.example/scm/PRJ/shop2.git", "", None, "/srv/prj/shop"):
        assert not meant(found, other)
    elsewhere = bare | {"links": {"self": [{"href": "https://bb.example/nowhere"}, {}]}}
    assert ("//PRJ/shop",) == read("datacenter", stash() | {"repository": elsewhere}).addresses


def gitea(**more: Any) -> dict[str, Any]:
    head = {"id": C1, "message": "Hats", "author": {"name": "Ada"}}
    told = {"ref": "refs/heads/main", "before": C2, "after": C1, "repository": OWN}
    return told | {"head_commit": head, "secret": "never looked at"} | more


def test_giteas_pushes() -> None:
    """The newest commit is `head_commit`, or in old versions the listed one, or none at all."""
    assert "Hats" == the_push(read("gitea", gitea())).message
    old = [{"id": C2, "message": "old"}, {"id": C1, "message": "new"}]
    assert "new" == the_push(read("gitea", gitea(head_commit=None, commits=old))).message
    assert "old" == the_push(read("gitea", gitea(head_commit=None, commits=old[:1]))).message
    assert the_push(read("gitea", gitea(head_commit=None))).message is None
    assert "nothing moved" in (read("gitea", gitea(before=C1)).ignored or "")
    forgejo = read("gitea", gitea(), x_forgejo_event="star", x_forgejo_delivery="9")
    assert ("9", "star") == (forgejo.id, forgejo.event)
    assert "Forgejo's star" in (forgejo.ignored or "")
    with pytest.raises(BadPayload, match="repository is missing"):
        read("gitea", gitea(repository=None))


def test_a_tag_is_told_twice_alike() -> None:
    """Push and create are about the same, also when the tag is annotated."""
    pushed = read("gitea", gitea(ref="refs/tags/v1", after=C2, before=ZEROS))
    made = {"ref": "v1", "ref_type": "tag", "sha": C2, "repository": OWN}
    created = read("gitea", made, x_gitea_event="create")
    assert pushed.about == created.about is not None
    assert (C1, C2) == (the_push(pushed).commit, the_push(created).commit)
    assert read("gitea", gitea()).about is None
    branch = read("gitea", made | {"ref_type": "branch"}, x_gitea_event="create")
    assert "push as well" in (branch.ignored or "")


def test_giteas_deletes() -> None:
    """They come as an event of their own, with a short name."""
    for kind in ("branch", "tag"):
        told = {"ref": "old", "ref_type": kind, "repository": OWN}
        gone = read("gitea", told, x_gitea_event="delete")
        assert the_push(gone).deleted
        assert gone.about is None
    assert read("gitea", {"ref": "x", "ref_type": "wiki"}, x_gitea_event="delete").ignored


def test_giteas_delivery_at_githubs_door() -> None:
    """It is told the way: it means other things by the same headers."""
    with pytest.raises(BadPayload, match="/hooks/gitea"):
        read("github", request(), x_gitea_event="pull_request")


# -- pull requests ------------------------------------------------------------------------------


@pytest.mark.parametrize("forge", ["github", "gitea"])
def test_a_pull_request_of_our_own(forge: str) -> None:
    """Its number, commit, branches, ref and author."""
    head = {"x_gitea_event": "pull_request"}
    pull = the_pull(read(forge, request(), **({} if forge == "github" else head)))
    assert (
        Pull(
            number=7,
            turn=Turn.changed,
            commit=C1,
            branch="hats",
            base_branch="main",
            fork=False,
            ref="refs/pull/7/head",
            head_repository=str(OWN["clone_url"]),
            title="Hats",
            author="ada",
            author_email="ada@example.com",
            default_branch="main",
        )
        == pull
    )


@pytest.mark.parametrize(
    ("action", "changes", "turn"),
    [
        ("synchronize", None, Turn.changed),
        ("ready_for_review", None, Turn.changed),
        ("reopened", None, Turn.reopened),
        ("closed", None, Turn.closed),
        ("edited", {"base": {"ref": {"from": "next"}}}, Turn.changed),
        ("edited", {"title": {"from": "Caps"}}, None),
        ("labeled", None, None),
        (None, None, None),
    ],
)
def test_what_becomes_of_a_pull_request(action: Any, changes: Any, turn: Turn | None) -> None:
    """Only what may bring an untested commit, or ends it, counts."""
    told = request(action) | {"changes": changes}
    found = read("github", told)
    assert turn == (found.pulls[0].turn if found.pulls else None)


def test_a_draft() -> None:
    """It is tested once it is ready for review; closing it counts at once."""
    assert "draft" in (read("github", request(draft=True)).ignored or "")
    assert Turn.closed is the_pull(read("github", request("closed", draft=True))).turn


def test_giteas_words() -> None:
    """Gitea says synchronized; a draft becomes none by its title."""
    for told in (
        request("synchronized"),
        request("edited") | {"changes": {"title": {"from": "WIP: Hats"}}},
        request("edited") | {"changes": {"ref": {"from": "next"}}},
    ):
        assert Turn.changed is the_pull(read("gitea", told, x_gitea_event="pull_request")).turn


@pytest.mark.parametrize(
    "side",
    [
        FORK,
        None,
        FORK | {"full_name": "acme/shop"},
        FORK | {"id": 7},
        {"full_name": ""},
        {"id": 0},
    ],
)
def test_a_fork_is_known_by_every_path(side: Any) -> None:
    """A source that is gone, has another id, or another name, is no source of ours."""
    pull = the_pull(read("github", request(head={"ref": "main", "sha": C1, "repo": side})))
    assert pull.fork
    assert pull.author_email is None


@pytest.mark.parametrize(
    ("head", "base", "fork"),
    [
        ({"repo_id": 7}, {"repo_id": 7}, False),
        ({"repo_id": 8}, {"repo_id": 7}, True),
        ({"repo_id": 0}, {"repo_id": 0}, True),
        ({}, {}, True),
    ],
)
def test_gitea_may_tell_ids_alone(head: Any, base: Any, fork: bool) -> None:
    """The same id is proof enough; nothing known is none."""
    told = request(head={"ref": "x", "sha": C1} | head, base={"ref": "main"} | base)
    assert fork is the_pull(read("gitea", told, x_gitea_event="pull_request")).fork


def test_gogs_tells_no_commit() -> None:
    """Its branches and repositories have keys of their own."""
    told = {
        "action": "opened",
        "number": 2,
        "pull_request": {
            "head_branch": "hats",
            "base_branch": "main",
            "head_repo": OWN,
            "base_repo": OWN,
        },
        "repository": OWN,
    }
    head = {"x_gitea_event": "", "x_gogs_event": "pull_request", "x_gogs_delivery": "1"}
    pull = the_pull(read("gitea", told, **head))
    assert (None, "hats", "main", False) == (
        pull.commit,
        pull.branch,
        pull.base_branch,
        pull.fork,
    )


@pytest.mark.parametrize(
    ("told", "turn"),
    [
        (merge(), Turn.changed),
        (merge("update", oldrev=C2), Turn.changed),
        (merge("update", {"draft": {"previous": True, "current": False}}), Turn.changed),
        (merge("update", {"target_branch": {"previous": "next"}}), Turn.changed),
        (merge("update", {"labels": {}}), None),
        (merge("approved"), None),
        (merge("reopen"), Turn.reopened),
        (merge("close", last_commit=None), Turn.closed),
        (merge("merge", draft=True), Turn.closed),
        (merge(draft=True), None),
        (merge(work_in_progress=True), None),
        (merge(last_commit={"id": C1, "message": "[skip ci]"}), None),
    ],
)
def test_gitlabs_merge_requests(told: dict[str, Any], turn: Turn | None) -> None:
    """New commits, ready for review and another target count; labels and drafts do not."""
    found = read("gitlab", told)
    assert turn == (found.pulls[0].turn if found.pulls else None)
    assert bool(found.ignored) == (turn is None)


@pytest.mark.parametrize(
    ("more", "fork"),
    [
        ({}, False),
        ({"source_project_id": 2}, True),
        ({"source": PROJECT | {"path_with_namespace": "mallory/shop"}}, True),
        ({"source": None}, True),
    ],
)
def test_gitlabs_forks(more: dict[str, Any], fork: bool) -> None:
    """Other ids, other names, or a source project that is gone."""
    pull = the_pull(read("gitlab", merge(**more)))
    assert (fork, "refs/merge-requests/3/head") == (pull.fork, pull.ref)
    assert (pull.author_email is None) == fork


def test_bitbuckets_pull_requests() -> None:
    """Twelve digits, no ref to fetch, and the source repository's address."""
    found = read("bitbucket", cloud_pull(), x_event_key="pullrequest:created")
    pull = the_pull(found)
    assert (C1[:12], None, False) == (pull.commit, pull.ref, pull.fork)
    assert ("main", "ada") == (pull.default_branch, pull.author)
    source = cloud_pull()["pullrequest"]["source"]
    for theirs, address in (
        ({"uuid": "{2}", "full_name": "mallory/shop"}, "https://bitbucket.org/mallory/shop.git"),
        (None, None),
    ):
        told = cloud_pull(source=source | {"repository": theirs})
        pull = the_pull(read("bitbucket", told, x_event_key="pullrequest:updated"))
        assert (True, address) == (pull.fork, pull.head_repository)
    assert read("bitbucket", cloud_pull(draft=True), x_event_key="pullrequest:created").ignored
    done = read("bitbucket", cloud_pull(draft=True), x_event_key="pullrequest:fulfilled")
    assert Turn.closed is the_pull(done).turn


def test_data_centers_pull_requests() -> None:
    """Their own refs; forks by project, name and id."""
    pull = the_pull(read("datacenter", stash_pull(), x_event_key="pr:opened"))
    assert ("refs/pull-requests/9/from", "hats", "main") == (
        pull.ref,
        pull.branch,
        pull.base_branch,
    )
    assert (False, "ada@example.com") == (pull.fork, pull.author_email)
    theirs = {"id": 2, "slug": "shop", "project": {"key": "~MALLORY"}}
    source = stash_pull()["pullRequest"]["fromRef"] | {"repository": theirs}
    pull = the_pull(read("datacenter", stash_pull(fromRef=source), x_event_key="pr:modified"))
    assert pull.fork
    assert read("datacenter", stash_pull(draft=True), x_event_key="pr:opened").ignored
    assert Turn.closed is the_pull(read("datacenter", stash_pull(), x_event_key="pr:merged")).turn


# -- whatever the bytes are ---------------------------------------------------------------------

SAMPLES: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("github", request(), {}),
    ("gitlab", lab(), {}),
    ("gitlab", merge("update", {"draft": {"previous": True}}), {}),
    ("bitbucket", cloud(moved(), moved("v1", "tag")), {}),
    ("bitbucket", cloud_pull(), {"x_event_key": "pullrequest:created"}),
    ("datacenter", stash(), {}),
    ("datacenter", stash_pull(), {"x_event_key": "pr:opened"}),
    ("gitea", gitea(), {}),
    (
        "gitea",
        {"ref": "v1", "ref_type": "tag", "sha": C1, "repository": OWN},
        {"x_gitea_event": "create"},
    ),
    ("gitea", request(), {"x_gitea_event": "pull_request"}),
]
ODD = st.sampled_from(
    [None, True, 0, -1, 2**70, 1.5, "", "\x00", "\ud800", "x" * 5000, "refs/heads/a b", "../..",
     C1[:12], ZEROS, [], {}, [[]], [{}], {"a": 1}, "$(id)", "--help"]
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def storable(delivery: Delivery) -> None:
    """Nothing gets through that a database could not store."""
    assert bool(delivery.pushes or delivery.pulls) != bool(delivery.ignored)
    for one in (*delivery.pushes, *delivery.pulls):
        for value in vars(one).values():
            if isinstance(value, str):
                assert "\x00" not in value
                assert value.encode()
    for pull in delivery.pulls:
        assert 1 <= pull.number < 2**63


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda one: f"{one[0]}-{len(json.dumps(one[1]))}")
def test_every_value_may_be_odd(sample: tuple[str, dict[str, Any], dict[str, str]]) -> None:
    """Any one value replaced by nonsense is understood or refused, and never an accident."""
    forge, told, headers = sample
    everywhere = places(told)

    @given(st.sampled_from(everywhere), ODD, st.booleans())
    @settings(max_examples=150, deadline=None, database=None)
    def mutated(path: tuple[Any, ...], odd: Any, gone: bool) -> None:
        changed: Any = copy.deepcopy(told)
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        if gone and isinstance(inner, dict):
            del inner[path[-1]]
        else:
            inner[path[-1]] = odd
        understood(lambda: read(forge, changed, **headers))

    mutated()


def understood(reading: Callable[[], Delivery]) -> None:
    try:
        storable(reading())
    except BadPayload as exc:
        assert str(exc).isprintable()


@given(st.sampled_from(sorted(HEADERS)), st.binary(max_size=200), st.text(max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_bytes(forge: str, body: bytes, word: str) -> None:
    """Whatever bytes and headers come, they are a delivery, refused, or not signed."""
    door = FORGES["bitbucket" if forge == "datacenter" else forge]
    for headers in (HEADERS[forge], dict.fromkeys([*HEADERS[forge], *SPEC], word)):
        understood(lambda headers=headers: door.parse(headers, body))  # type: ignore[misc]
        assert not door.verify((SIGNING, "x"), headers, body, NOW)
    names = ("x-gitlab-token", "x-hub-signature", "x-forgejo-signature", "x-hub-signature-256")
    assert not door.verify(("some other secret",), dict.fromkeys(names, word), body, NOW)


def test_a_compressed_body_is_never_unpacked() -> None:
    """A bomb stays packed: it is refused as it is."""
    for forge in ("github", "gitlab", "gitea"):
        with pytest.raises(BadPayload, match="compressed"):
            read(forge, {}, content_encoding="gzip")
