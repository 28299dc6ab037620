"""What forges are told, by a real server, a git server over https, and each forge's stand-in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from leeroy.advance import accept
from leeroy.clock import utc_now
from leeroy.db.engine import Database
from tests.functional.test_forges import ZEROS, a_commit, deliver, gitea_push, gitlab_push
from tests.gitservers import Repo, a_repo, https_git
from tests.servers import SECRET, Leeroy, push_payload
from tests.standins import (
    TOKEN,
    Bitbucket,
    DataCenter,
    Gitea,
    GitHub,
    GitLab,
    StandIn,
    standing_in,
)
from tests.waiting import until

FORGES = [GitHub, GitLab, Bitbucket, DataCenter, Gitea]
WORDS: dict[type[StandIn], tuple[str, str, str]] = {
    GitHub: ("pending", "success", "failure"),
    Gitea: ("pending", "success", "failure"),
    GitLab: ("running", "success", "failed"),
    Bitbucket: ("INPROGRESS", "SUCCESSFUL", "FAILED"),
    DataCenter: ("INPROGRESS", "SUCCESSFUL", "FAILED"),
}
WAIT = 'until test -e "{world}/%s"; do sleep 0.05; done'


class World:
    """A server whose pipeline `shop` is on a git server over https and on *forge*."""

    def __init__(self, leeroy: Leeroy, repo: Repo, repository: str, forge: StandIn) -> None:
        self.leeroy, self.repo, self.repository, self.forge = leeroy, repo, repository, forge

    def pipeline(self, test: str, deploy: str | None = None, more: str = "") -> None:
        deploys = (
            ""
            if deploy is None
            else f"[[deploy]]\nenvironment = \"production\"\ngrace = \"0s\"\nrun = '''{deploy}'''\n"
        )
        self.leeroy.pipeline(
            f'repository = "{self.repository}"\nsecret = "env:SHOP_HOOK"\n'
            f'token = "file:token"\napi = "{self.forge.api}"\n{more}\n'
            f"[[test]]\nname = \"unit\"\nrun = '''{test}'''\n{deploys}"
        )

    def trigger(self) -> int:
        made = self.leeroy.ask("trigger", name="shop", branch="main")
        return int(made["id"])

    def push(self) -> int:
        """The build of a push, told by the forge's own signed delivery."""
        commit = self.repo.git("rev-parse", "main")
        change = {"ref": {"id": "refs/heads/main"}, "fromHash": ZEROS, "toHash": commit}
        links = {"clone": [{"href": self.repository, "name": "http"}]}
        stash = {
            "repository": {"slug": "shop", "links": links},
            "changes": [change | {"type": "ADD"}],
        }
        told = {
            GitHub: ("github", push_payload(self.repo, commit, "main"), "push"),
            GitLab: ("gitlab", gitlab_push(self.repo, commit), "Push Hook"),
            DataCenter: ("datacenter", stash, "repo:refs_changed"),
            Gitea: ("gitea", gitea_push(self.repo, "refs/heads/main", commit), "push"),
        }.get(type(self.forge))
        if told is None:
            # Bitbucket Cloud tells no address, and its host is one that no test reaches.
            return self.trigger()
        forge, body, event = told
        text = json.dumps(body).replace(str(self.repo.bare), self.repository)
        status, answer = deliver(self.leeroy, forge, json.loads(text), event)
        assert 202 == status, answer
        return int(answer["builds"][0])

    def pull(self, number: int = 7, **columns: Any) -> int:
        """A build of a pull request, as a delivery makes it."""
        commit = self.repo.git("rev-parse", "HEAD")
        state = {"GitLab": "opened", "GitHub": "open", "Gitea": "open"}
        name = type(self.forge).__name__
        self.forge.pulls[number] = {"state": state.get(name, "OPEN"), "sha": commit}
        text = (self.leeroy.folder / "pipelines" / "shop.toml").read_text()
        database = Database(self.leeroy.settings.get("database") or self.sqlite)
        try:
            build = database.transact(
                lambda conn: accept(
                    conn,
                    now=utc_now(),
                    actor="github",
                    house=(),
                    trigger="pull_request",
                    pipeline="shop",
                    pipeline_text=text,
                    repository=self.repository,
                    branch="main",
                    commit=commit,
                    pull_request=number,
                    **columns,
                )
            )
        finally:
            database.close()
        return build.id

    @property
    def sqlite(self) -> str:
        return f"sqlite:///{self.leeroy.folder}/var/leeroy.db"

    def go(self, name: str) -> None:
        (self.leeroy.world / name).touch()

    def log(self) -> str:
        return self.leeroy.log.read_text()


@contextmanager
def a_world(leeroy: Leeroy, tmp_path: Path, kind: type[StandIn]) -> Iterator[World]:
    repo = a_repo(tmp_path / "srv")
    with https_git(tmp_path / "srv", tmp_path / "web") as https, standing_in(kind()) as forge:
        forge.project = "public/shop"
        leeroy.tables = f'[env]\nSSL_CERT_FILE = "{https.ca}"\n'
        (leeroy.folder / "token").write_text(TOKEN)
        try:
            yield World(leeroy, repo, https.public(), forge)
        except AssertionError as exc:
            log = leeroy.log.read_text()[-3000:] if leeroy.log.exists() else ""
            exc.add_note(f"refused: {forge.refused}\nstatuses: {forge.statuses}\n{log}")
            raise


@pytest.fixture
def github(leeroy: Leeroy, tmp_path: Path) -> Iterator[World]:
    with a_world(leeroy, tmp_path, GitHub) as world:
        yield world


@pytest.mark.parametrize("kind", FORGES)
def test_a_build_is_told_from_its_start_to_its_deploy(
    leeroy: Leeroy, tmp_path: Path, kind: type[StandIn]
) -> None:
    """Each forge hears of tests and deploy in its own words, in order, and refuses nothing."""
    running, good, _ = WORDS[kind]
    with a_world(leeroy, tmp_path, kind) as world:
        world.pipeline(WAIT % "tested", WAIT % "deployed")
        leeroy.start()
        build = world.push()
        forge = world.forge
        until(lambda: running in forge.states("leeroy/shop"), 20, "the tests run")
        world.go("tested")
        until(lambda: running in forge.states("leeroy/shop/production"), 20, "the deploy runs")
        world.go("deployed")
        assert "done" == leeroy.until_over(build)
        until(lambda: good in forge.states("leeroy/shop/production"), 20, "the deploy is told")
        for context in ("leeroy/shop", "leeroy/shop/production"):
            told = forge.states(context)
            assert good == told[-1], told
            assert good not in told[:-1]
        commit = world.repo.git("rev-parse", "main")
        for status in forge.statuses:
            assert commit == status["sha"]
            url = status.get("target_url") or status.get("url")
            assert f"{leeroy.url}/builds/{build}" == url
        assert [] == [r for r in forge.refused if "transition" not in str(r[2])]
        if kind is GitHub:
            until(lambda: forge.deployed[-1:] and "success" == forge.deployed[-1]["state"], 20)
            assert "in_progress" in [d["state"] for d in forge.deployed]
            assert f"{leeroy.url}/builds/{build}" == forge.deployed[-1]["log_url"]
            assert ["production"] == [d["environment"] for d in forge.deployments.values()]
        assert TOKEN not in world.log()


@pytest.mark.parametrize("kind", FORGES)
def test_a_pull_request_has_one_comment_and_is_closed(
    leeroy: Leeroy, tmp_path: Path, kind: type[StandIn]
) -> None:
    """The comment is edited in place, shows the failure harmlessly, and the request is closed."""
    _, _, bad = WORDS[kind]
    evil = "printf '@everyone\\n```\\n/merge\\n<b>boo</b>\\n'; exit 3"
    with a_world(leeroy, tmp_path, kind) as world:
        world.pipeline(f"{WAIT % 'go'}\n{evil}", more="close_failing = true")
        leeroy.start()
        first = world.pull()
        forge = world.forge
        until(lambda: forge.comments, 20, "the comment")
        world.go("go")
        assert "failed" == leeroy.until_over(first)
        until(lambda: forge.pulls[7]["state"] in ("closed", "DECLINED"), 20, "it is closed")
        until(lambda: "exited 3" in forge.comments[1]["text"], 20)
        assert bad == forge.states("leeroy/shop")[-1]
        assert 1 == len(forge.comments)
        text = forge.comments[1]["text"]
        assert f"{leeroy.url}/builds/{first}" in text
        fence = text.partition("```text\n")[2]
        inside, _, after = fence.partition("\n```\n")
        assert "boo" in inside and "leeroy-" in after, "the log did not end its fence"
        assert "@everyone" not in text
        assert "\n/merge" not in text
        second = world.pull()
        assert "failed" == leeroy.until_over(second)
        until(lambda: f"/builds/{second}" in forge.comments[1]["text"], 20)
        assert 1 == len(forge.comments)


def test_a_merge_request_of_a_fork_is_told_where_gitlab_keeps_it(
    leeroy: Leeroy, tmp_path: Path
) -> None:
    """Approved by a person; the status goes to the fork, the comment to the merge request."""
    with a_world(leeroy, tmp_path, GitLab) as world:
        forge, repo = world.forge, world.repo
        assert isinstance(forge, GitLab)
        world.pipeline("true", "touch {world}/deployed", 'branches = ["main"]\n')
        leeroy.start()
        commit = a_commit(repo, "Strange hats", "refs/merge-requests/3/head")
        forge.forks[commit] = "mallory/web/shop"
        forge.pulls[3] = {"state": "opened", "sha": commit}
        here = world.repository.rpartition("/public/")[0]
        ours = {"path_with_namespace": "public/shop", "git_http_url": world.repository}
        theirs = {
            "path_with_namespace": "mallory/web/shop",
            "git_http_url": f"{here}/mallory/web/shop.git",
        }
        request = {
            "iid": 3,
            "action": "open",
            "source_branch": "hats",
            "target_branch": "main",
            "source_project_id": 2,
            "target_project_id": 1,
            "source": theirs,
            "target": ours,
            "last_commit": {"id": commit, "message": "Strange hats"},
        }
        told = {"object_kind": "merge_request", "object_attributes": request, "project": ours}
        status, answer = deliver(leeroy, "gitlab", told, "Merge Request Hook")
        assert 202 == status, answer
        (number,) = answer["builds"]
        until(lambda: ["pending"] == forge.states("leeroy/shop"), 20, "it waits for a person")
        leeroy.ask("approve", id=number)
        assert "done" == leeroy.until_over(number), leeroy.logged(number)
        until(lambda: "success" in forge.states("leeroy/shop"), 20)
        until(lambda: "passed" in forge.comments[1]["text"], 20)
        assert {commit} == {one["sha"] for one in forge.statuses}
        assert [] == [r for r in forge.refused if "transition" not in str(r[2])]
        assert not (leeroy.world / "deployed").exists()


def test_a_forge_that_is_down_delays_nothing_and_is_told_later(github: World) -> None:
    """500, a hang and 429: the build is over all the same, and the newest state arrives."""
    leeroy, forge = github.leeroy, github.forge
    github.pipeline("true", "true")
    forge.broken(500)
    leeroy.start()
    build = github.trigger()
    assert "done" == leeroy.until_over(build, timeout=10)
    until(lambda: len(forge.asked) > 1, 20, "it was tried")
    forge.hang()
    again = github.trigger()
    assert "done" == leeroy.until_over(again, timeout=10)
    forge.well()
    until(lambda: ["success"] == forge.states("leeroy/shop"), 30, "only the newest state is told")
    until(lambda: ["success"] == forge.states("leeroy/shop/production"), 30)
    forge.broken(429, Retry_After="3")
    asked = len(forge.asked_at)

    def told() -> list[float]:
        """When reports were tried since; catch-up asks for missed deliveries beside them."""
        since = zip(forge.asked[asked:], forge.asked_at[asked:], strict=False)
        return [at for (_, path), at in since if "/hooks" not in path]

    third = github.trigger()
    assert "done" == leeroy.until_over(third, timeout=10)
    until(lambda: len(told()) > 1, 30, "asked again")
    gaps = [after - before for before, after in pairwise(told())]
    assert min(gaps) > 2.5, "no sooner than it was told, whichever of the reports"
    forge.well()
    until(lambda: f"/builds/{third}" in forge.statuses[-1]["target_url"], 30)


def test_a_dead_token_is_said_once_and_a_new_one_catches_up(github: World) -> None:
    """401: one line in the log for all its reports, doctor names it, a new value mends it."""
    leeroy, forge = github.leeroy, github.forge
    github.pipeline("true", "true")
    forge.token = "the-new-one"
    leeroy.start()
    for _ in range(2):
        assert "done" == leeroy.until_over(github.trigger(), timeout=10)
    until(lambda: "is dead" in github.log(), 20)
    leeroy.restart()
    assert "done" == leeroy.until_over(github.trigger(), timeout=10)
    doctor = leeroy.cli("doctor", check=False)
    assert "the token file:token of pipeline shop is dead" in doctor.stdout
    (leeroy.folder / "token").write_text("the-new-one\n")
    until(lambda: "success" in forge.states("leeroy/shop/production"), 30)
    assert 1 == github.log().count("is dead")
    assert TOKEN not in github.log()
    until(lambda: "is dead" not in leeroy.cli("doctor", check=False).stdout, 10)


def test_a_refusal_is_given_up_and_seen(github: World) -> None:
    """404: no second try, and page and doctor say so."""
    leeroy, forge = github.leeroy, github.forge
    forge.project = "else/where"
    github.pipeline("true")
    leeroy.start()
    assert "done" == leeroy.until_over(github.trigger(), timeout=10)
    until(lambda: "given up" in github.log(), 20)
    assert "Commit statuses: write" in leeroy.cli("doctor", check=False).stdout
    page = leeroy.http("GET", "/", token=leeroy.token)[2].decode()
    assert "reports to forges were given up" in page


def test_what_was_not_told_is_told_after_a_crash(github: World) -> None:
    """kill -9 while the forge is away: the next server tells, and makes no second comment."""
    leeroy, forge = github.leeroy, github.forge
    github.pipeline("true")
    leeroy.start()
    build = github.pull()
    assert "done" == leeroy.until_over(build)
    until(lambda: forge.comments and "success" in forge.states("leeroy/shop"), 20)
    forge.hang()
    second = github.pull()
    assert "done" == leeroy.until_over(second)
    leeroy.kill()
    forge.well()
    leeroy.start()
    until(lambda: f"/builds/{second}" in forge.statuses[-1]["target_url"], 30)
    until(lambda: f"/builds/{second}" in forge.comments[1]["text"], 30)
    assert 1 == len(forge.comments)
    assert SECRET not in str(forge.statuses)


@pytest.mark.parametrize("kind", FORGES)
def test_the_webhook_is_registered_once(
    leeroy: Leeroy, tmp_path: Path, kind: type[StandIn]
) -> None:
    """`hook add` makes it, and a second time brings it up to date; a refusal is a sentence."""
    with standing_in(kind()) as forge:
        (leeroy.folder / "token").write_text(TOKEN)
        leeroy.settings["url"] = "http://127.0.0.1:8082"
        leeroy.write_settings()
        leeroy.pipeline(
            f'repository = "git@git.example.com:{forge.project}.git"\nsecret = "env:SHOP_HOOK"\n'
            f'token = "file:token"\napi = "{forge.api}"\n[[test]]\nname = "unit"\nrun = "true"\n'
        )
        first = json.loads(leeroy.cli("hook", "add", "shop", "--json").stdout)
        again = json.loads(leeroy.cli("hook", "add", "shop", "--json").stdout)
        assert (True, False) == (first["new"], again["new"])
        assert first["id"] == again["id"] != ""
        assert 1 == len(forge.hooks)
        [hook] = forge.hooks.values()
        door = {GitHub: "github", GitLab: "gitlab", Gitea: "gitea"}.get(kind, "bitbucket")
        assert f"http://127.0.0.1:8082/hooks/{door}" == first["url"]
        assert first["url"] in str(hook) and SECRET in str(hook)
        forge.token = "another"
        done = leeroy.cli("hook", "add", "shop", check=False)
        assert 6 == done.returncode and "answers 401" in done.stderr
        forge.token, forge.project = TOKEN, "some/thing"
        done = leeroy.cli("hook", "add", "shop", check=False)
        assert 4 == done.returncode and "the token does not see it" in done.stderr
        assert TOKEN not in done.stderr + done.stdout
