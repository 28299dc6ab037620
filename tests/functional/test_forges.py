"""Deliveries of every forge, through a real server, to builds of the very commit."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.gitservers import Repo
from tests.servers import SECRET, Leeroy, push_payload
from tests.waiting import until

ZEROS = "0" * 40
SIGNING = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def digest(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def signed_by_gitlab(body: bytes, at: float) -> dict[str, str]:
    name, sent = str(uuid.uuid4()), str(int(at))
    code = hmac.new(bytes(range(32)), f"{name}.{sent}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": name,
        "webhook-timestamp": sent,
        "webhook-signature": f"v1,AAAA v1,{base64.b64encode(code).decode()}",
    }


def deliver(
    leeroy: Leeroy, forge: str, told: dict[str, Any], event: str, **more: str
) -> tuple[int, dict[str, Any]]:
    """One delivery as that forge sends it; status and answer."""
    body = json.dumps(told).encode()
    number = str(uuid.uuid4())
    headers = {
        "github": {
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": number,
            "X-Hub-Signature-256": f"sha256={digest(body)}",
        },
        "gitlab": {"X-Gitlab-Event": event, "Idempotency-Key": number, "X-Gitlab-Token": SECRET},
        "bitbucket": {
            "X-Event-Key": event,
            "X-Request-UUID": number,
            "X-Hub-Signature": f"sha256={digest(body)}",
        },
        "datacenter": {
            "X-Event-Key": event,
            "X-Request-Id": number,
            "X-Hub-Signature": f"sha256={digest(body)}",
        },
        "gitea": {
            "X-Forgejo-Event": event,
            "X-Forgejo-Delivery": number,
            "X-Forgejo-Signature": digest(body),
            "X-GitHub-Event": event,
        },
    }[forge] | {"Content-Type": "application/json", **more}
    door = "bitbucket" if forge == "datacenter" else forge
    status, _, text = leeroy.http("POST", f"/hooks/{door}", body, headers)
    return status, json.loads(text)


def a_repository(repo: Repo) -> dict[str, Any]:
    where = str(repo.bare)
    return {"id": 7, "full_name": "acme/shop", "clone_url": where, "default_branch": "main"}


def gitlab_push(repo: Repo, commit: str) -> dict[str, Any]:
    return {
        "object_kind": "push",
        "ref": "refs/heads/main",
        "before": ZEROS,
        "after": commit,
        "checkout_sha": commit,
        "commits": [],
        "project": {"git_http_url": str(repo.bare), "default_branch": "main"},
    }


def gitea_push(repo: Repo, ref: str, commit: str) -> dict[str, Any]:
    return {
        "ref": ref,
        "before": ZEROS,
        "after": commit,
        "head_commit": {"id": commit, "message": "Sell hats"},
        "repository": a_repository(repo),
    }


def test_no_secret_opens_another_forges_door(leeroy: Leeroy) -> None:
    """What signs at one forge's address is not believed at another's, nor shown instead."""
    leeroy.env["SIGN"] = SIGNING
    repo = leeroy.shop()
    file = leeroy.folder / "pipelines" / "shop.toml"
    text = file.read_text()
    both = 'secret = ["env:SHOP_HOOK", "env:SIGN"]'
    commit = repo.git("rev-parse", "main")
    told = push_payload(repo, commit, "main")
    file.write_text('forge = "gitlab"\n' + text.replace('secret = "env:SHOP_HOOK"', both))
    leeroy.start()
    status, answer = deliver(leeroy, "github", told, "push")
    assert 401 == status and "/hooks/gitlab" in answer["error"]
    assert 401 == deliver(leeroy, "gitlab", gitlab_push(repo, commit), "Push Hook")[0]
    file.write_text('forge = "github"\n' + text)
    leeroy.restart()
    status, answer = deliver(leeroy, "gitlab", gitlab_push(repo, commit), "Push Hook")
    assert 401 == status and "/hooks/github" in answer["error"]
    assert 202 == deliver(leeroy, "github", told, "push")[0]


def pull(repo: Repo, action: str, commit: str, **more: Any) -> dict[str, Any]:
    """GitHub's delivery of pull request 7 from a fork."""
    fork = {"id": 8, "full_name": "mallory/shop", "clone_url": "https://github.com/mallory/shop"}
    request = {
        "number": 7,
        "title": "Sell $(id) cheaper",
        "user": {"login": "mallory"},
        "head": {"ref": "main", "sha": commit, "repo": fork},
        "base": {"ref": "main", "repo": a_repository(repo)},
    }
    return {
        "action": action,
        "number": 7,
        "pull_request": request | more,
        "repository": a_repository(repo),
    }


def a_commit(repo: Repo, message: str, ref: str) -> str:
    """A commit that only *ref* shows, as a forge shows a pull request's."""
    tree = repo.git("rev-parse", "main^{tree}")
    commit = repo.git("commit-tree", "-p", "main", "-m", message, tree)
    repo.git("push", "-q", str(repo.bare), f"+{commit}:{ref}")
    return commit


def built(leeroy: Leeroy, answer: tuple[int, dict[str, Any]], commit: str) -> dict[str, Any]:
    status, told = answer
    assert 202 == status, told
    (number,) = told["builds"]
    build = leeroy.until_state(number, "passed", "deploy_pending", "deploying", "done")
    assert commit == build["commit"]
    return build


def test_every_forge_starts_a_build(leeroy: Leeroy) -> None:
    """A push told by GitLab, Gitea or Data Center builds its commit, and so do annotated tags."""
    repo = leeroy.shop(test='test "$(git rev-parse HEAD)" = "$LEEROY_COMMIT"')
    leeroy.start()
    commit = repo.git("rev-parse", "main")

    built(leeroy, deliver(leeroy, "gitlab", gitlab_push(repo, commit), "Push Hook"), commit)
    told = gitea_push(repo, "refs/heads/main", commit)
    built(leeroy, deliver(leeroy, "gitea", told, "push"), commit)
    links = {"clone": [{"href": str(repo.bare), "name": "http"}]}
    change = {"ref": {"id": "refs/heads/main"}, "fromHash": ZEROS, "toHash": commit, "type": "ADD"}
    told = {"repository": {"slug": "shop", "links": links}, "changes": [change]}
    built(leeroy, deliver(leeroy, "datacenter", told, "repo:refs_changed"), commit)

    # `after` is the object of an annotated tag; what is built is the commit it leads to.
    repo.git("tag", "-a", "-m", "one", "v1")
    repo.git("push", "-q", "origin", "v1")
    tag = repo.git("rev-parse", "v1")
    assert tag != commit
    told = push_payload(repo, commit, "main") | {"ref": "refs/tags/v1", "after": tag}
    built(leeroy, deliver(leeroy, "github", told, "push"), commit)
    told = gitlab_push(repo, commit) | {"object_kind": "tag_push", "ref": "refs/tags/v1"}
    built(leeroy, deliver(leeroy, "gitlab", told | {"after": tag}, "Tag Push Hook"), commit)


def test_gitlab_signed(leeroy: Leeroy) -> None:
    """With a signing token nothing else counts, and neither does an old signature."""
    repo = leeroy.shop()
    leeroy.env["SHOP_SIGNING"] = SIGNING
    file = leeroy.folder / "pipelines" / "shop.toml"
    both = '["env:SHOP_SIGNING", "env:SHOP_HOOK"]'
    file.write_text(file.read_text().replace('"env:SHOP_HOOK"', both))
    leeroy.start()
    commit = repo.git("rev-parse", "main")
    told = gitlab_push(repo, commit)
    body = json.dumps(told).encode()

    assert 401 == deliver(leeroy, "gitlab", told, "Push Hook")[0]
    old = signed_by_gitlab(body, time.time() - 301)
    assert 401 == deliver(leeroy, "gitlab", told, "Push Hook", **old)[0]
    now = signed_by_gitlab(body, time.time())
    built(leeroy, deliver(leeroy, "gitlab", told, "Push Hook", **now), commit)


def test_a_tag_that_is_told_twice(either: Leeroy) -> None:
    """Gitea tells of a tag as push and as create: one build; pushed anew, it is built anew."""
    leeroy = either
    repo = leeroy.shop()
    leeroy.start()
    commit = repo.git("rev-parse", "main")
    repo.git("tag", "-a", "-m", "one", "v1")
    repo.git("push", "-q", "origin", "v1")
    tag = repo.git("rev-parse", "v1")
    pushed = gitea_push(repo, "refs/tags/v1", commit) | {"after": tag}
    created = {"ref": "v1", "ref_type": "tag", "sha": tag, "repository": a_repository(repo)}

    first = deliver(leeroy, "gitea", created, "create")
    assert 202 == first[0]
    status, again = deliver(leeroy, "gitea", pushed, "push")
    assert (200, first[1]["builds"]) == (status, again["builds"])
    anew = deliver(leeroy, "gitea", pushed, "push")
    assert 202 == anew[0]
    status, again = deliver(leeroy, "gitea", created, "create")
    assert (200, anew[1]["builds"]) == (status, again["builds"])
    assert commit == leeroy.until_state(first[1]["builds"][0], "done")["commit"]


def test_a_deleted_branch(leeroy: Leeroy) -> None:
    """What waits of a deleted branch is cancelled, and a test that runs is stopped."""
    leeroy.settings["slots"] = 1
    repo = leeroy.shop(test="touch {world}/runs; sleep 60")
    leeroy.start()
    running, waiting = leeroy.push(repo), leeroy.push(repo)
    until(lambda: (leeroy.world / "runs").exists(), 20)
    status, answer = leeroy.hook(repo, deleted=True, after=ZEROS, head_commit=None)

    assert (200, []) == (status, answer["builds"])
    assert "main was deleted; builds cancelled: 2" == answer["reason"]
    assert "cancelled" == leeroy.state(waiting)
    assert "cancelled" == leeroy.until_over(running)
    last = leeroy.ask("events", id=waiting)[-1]
    assert ("github", "main was deleted") == (last["actor"], last["reason"])


SPY = """
env > {world}/env-$LEEROY_BUILD; touch "$HOME/poison"
test -z "$LEEROY_PULL_REQUEST" || echo "$HOME" > {world}/home
"""


def test_a_fork_waits_runs_without_secrets_and_never_deploys(either: Leeroy) -> None:
    """A person approves one commit; it gets no secret, no shared home and no deploy."""
    leeroy = either
    repo = leeroy.shop(
        test=SPY,
        deploy="touch {world}/deployed",
        more='branches = ["*"]\ngrace = "0s"\n',
    )
    file = leeroy.folder / "pipelines" / "shop.toml"
    text = file.read_text().replace("[[deploy]]", 'secrets = { KEY = "env:THE_KEY" }\n[[deploy]]')
    file.write_text(text)
    leeroy.env["THE_KEY"] = "sesame-open-wide"
    leeroy.start()
    one = a_commit(repo, "one", "refs/pull/7/head")

    status, answer = deliver(leeroy, "github", pull(repo, "opened", one), "pull_request")
    assert 202 == status, answer
    for seen in (leeroy.cli("list").stdout, leeroy.cli("show", str(answer["builds"][0])).stdout):
        assert "pull request" in seen and "let a fork's code run" in seen
        assert "pull request 7 of https://github.com/mallory/shop" in seen
    (first,) = answer["builds"]
    build = leeroy.build(first)
    assert ("queued", 7, one) == (build["state"], build["pull_request"], build["commit"])
    assert f"leeroy approve {first}" in build["waiting_for"]

    # The same commit once more is no other build, and a new one needs its own approval.
    status, answer = deliver(leeroy, "github", pull(repo, "edited", one), "pull_request")
    assert 200 == status, answer
    two = a_commit(repo, "two", "refs/pull/7/head")
    status, answer = deliver(leeroy, "github", pull(repo, "synchronize", two), "pull_request")
    (second,) = answer["builds"]
    assert "cancelled" == leeroy.state(first)
    leeroy.push(repo)  # runs beside it, though the fork's build was there before
    leeroy.ask("approve", id=second)
    assert "done" == leeroy.until_over(second)

    assert two == leeroy.build(second)["commit"]
    seen = (leeroy.world / f"env-{second}").read_text()
    assert "sesame-open-wide" not in seen
    assert "LEEROY_PULL_REQUEST=7" in seen
    home = Path((leeroy.world / "home").read_text().strip())
    assert f".fork-{second}" == home.name
    assert "announce" not in leeroy.moves(second)
    leeroy.restart()  # the next round, which else comes within ten minutes
    until(lambda: not home.exists(), 20, "what a fork leaves in its home is gone")
    assert (home.parent / "shop" / "poison").exists()


def test_forks_and_base_branches(leeroy: Leeroy) -> None:
    """`never` has a reason, `test` runs at once without secrets; another base may be tested."""
    repo = leeroy.shop()
    (leeroy.folder / "pipelines" / "shop.toml").unlink()
    leeroy.tables = '[executors.inside]\nwrap = ["env", "INSIDE=yes"]\n'
    leeroy.env["THE_KEY"] = "sesame-open-wide"
    for name, base, more in (
        ("never", "closed", 'forks = "never"\n'),
        ("test", "open", 'forks = "test"\nexecutor = "inside"\n'),
    ):
        leeroy.pipeline(
            f'repository = "{repo.bare}"\nsecret = "env:SHOP_HOOK"\nbranches = ["{base}"]\n{more}'
            f'[[test]]\nname = "unit"\nrun = "env > {leeroy.world}/{name}"\n'
            'secrets = { KEY = "env:THE_KEY" }\n',
            name,
        )
    leeroy.start()
    commit = a_commit(repo, "one", "refs/pull/7/head")

    def into(base: str, action: str = "opened", **more: Any) -> tuple[int, dict[str, Any]]:
        side = {"ref": base, "repo": a_repository(repo)}
        return deliver(
            leeroy, "github", pull(repo, action, commit, base=side) | more, "pull_request"
        )

    status, answer = into("closed")
    assert (200, []) == (status, answer["builds"])
    assert 'pipeline never tests none (forks = "never")' in answer["reason"]
    assert "pipeline test does not test pull requests into closed" in answer["reason"]
    assert (200, []) == (into("else")[0], into("else")[1]["builds"])
    renamed = {"changes": {"title": {"from": "Sell hats"}}}
    assert 200 == into("open", "edited", **renamed)[0], "another title is no news"
    moved = {"changes": {"base": {"ref": {"from": "else"}}}}
    status, answer = into("open", "edited", **moved)
    (number,) = answer["builds"]
    assert (202, "test") == (status, leeroy.build(number)["pipeline"])
    assert "done" == leeroy.until_over(number), leeroy.logged(number)
    seen = (leeroy.world / "test").read_text()
    assert "INSIDE=yes" in seen and "sesame-open-wide" not in seen
    assert not (leeroy.world / "never").exists()


def test_a_closed_pull_request(leeroy: Leeroy) -> None:
    """Closing cancels; opening again tests the same commit again; drafts and others wait."""
    repo = leeroy.shop()
    leeroy.start()
    commit = a_commit(repo, "one", "refs/pull/7/head")
    ask = lambda action, **more: deliver(  # noqa: E731
        leeroy, "github", pull(repo, action, commit, **more), "pull_request"
    )

    status, answer = ask("opened", draft=True)
    assert (200, []) == (status, answer["builds"])
    assert "draft" in answer["reason"]
    (first,) = ask("ready_for_review")[1]["builds"]
    status, answer = ask("closed")
    assert "pull request 7 was closed; builds cancelled: 1" == answer["reason"]
    assert "cancelled" == leeroy.state(first)
    status, answer = ask("reopened")
    assert 202 == status
    base = {"ref": "main", "repo": {"id": 7, "full_name": "acme/shop"}}
    status, answer = ask("reopened", head={"ref": "x", "sha": "2e" * 20, "repo": None}, base=base)
    assert 202 == status
    assert "approve" in leeroy.build(answer["builds"][0])["waiting_for"]


def test_a_branch_of_the_same_repository(leeroy: Leeroy) -> None:
    """A merge request of our own runs at once, with our secrets, and never deploys."""
    repo = leeroy.shop(deploy="touch {world}/deployed", more='branches = ["*"]\ngrace = "0s"\n')
    leeroy.start()
    commit = a_commit(repo, "one", "refs/merge-requests/3/head")
    project = {"path_with_namespace": "acme/shop", "git_http_url": str(repo.bare)}
    request = {
        "iid": 3,
        "action": "open",
        "source_branch": "hats",
        "target_branch": "main",
        "source_project_id": 1,
        "target_project_id": 1,
        "source": project,
        "target": project,
        "last_commit": {"id": commit, "message": "Sell hats"},
    }
    told = {"object_kind": "merge_request", "object_attributes": request, "project": project}

    build = built(leeroy, deliver(leeroy, "gitlab", told, "Merge Request Hook"), commit)
    assert "done" == leeroy.until_over(build["id"])
    assert not (leeroy.world / "deployed").exists()


@pytest.mark.parametrize("forge", ["github", "gitlab", "bitbucket", "gitea"])
def test_hook_show(leeroy: Leeroy, forge: str) -> None:
    """What to enter is told in the words of that forge."""
    leeroy.write_settings()
    leeroy.pipeline(
        f'repository = "https://git.acme.example/shop"\nforge = "{forge}"\n'
        'secret = "env:SHOP_HOOK"\n[[test]]\nname = "unit"\nrun = "true"\n'
    )
    shown = json.loads(leeroy.cli("hook", "show", "shop", "--json").stdout)
    assert [forge] == [one["forge"] for one in shown["forges"]]
    assert shown["url"].endswith(f"/hooks/{forge}")
    assert f"/hooks/{forge}" in leeroy.cli("hook", "show", "shop").stdout
