"""Pull requests missed while Leeroy was away: GitHub and GitLab are asked to send them again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_forges import a_commit, a_repository, gitlab_push, pull
from tests.functional.test_reports import World, a_world
from tests.gitservers import free_port
from tests.keepers import KeepingGitHub, KeepingGitLab
from tests.servers import Leeroy, push_payload
from tests.waiting import until

Keeping = KeepingGitHub | KeepingGitLab


class Missed:
    """What a forge tells of pull requests and pushes, in its own words."""

    def __init__(self, world: World) -> None:
        assert isinstance(world.forge, KeepingGitHub | KeepingGitLab)
        self.world, self.forge, self.repo = world, world.forge, world.repo
        self.github = isinstance(self.forge, KeepingGitHub)

    def _send(self, event: str, told: dict[str, Any]) -> None:
        text = json.dumps(told).replace(str(self.repo.bare), self.world.repository)
        self.forge.send(event, json.loads(text))

    def push(self, commit: str) -> None:
        if self.github:
            self._send("push", push_payload(self.repo, commit, "main"))
        else:
            self._send("Push Hook", gitlab_push(self.repo, commit))

    def pull(self, number: int, action: str, commit: str) -> None:
        """Tell of a pull request; what the forge shows of it is set apart, by `shows`."""
        if self.github:
            ours = a_repository(self.repo)
            head = {"ref": "hats", "sha": commit, "repo": ours}
            action = {"open": "opened", "update": "synchronize", "close": "closed"}[action]
            told = pull(self.repo, action, commit, head=head, number=number)
            self._send("pull_request", told | {"number": number})
        else:
            project = {"path_with_namespace": "acme/shop", "git_http_url": str(self.repo.bare)}
            request = {
                "iid": number,
                "action": action,
                "oldrev": "1" * 40,
                "updated_at": datetime.now(UTC).isoformat(),
                "source_branch": "hats",
                "target_branch": "main",
                "source_project_id": 1,
                "target_project_id": 1,
                "source": project,
                "target": project,
                "last_commit": {"id": commit, "message": "Sell hats"},
            }
            told = {"object_kind": "merge_request", "object_attributes": request}
            self._send("Merge Request Hook", told | {"project": project})

    def shows(self, number: int, commit: str, *, open: bool = True) -> None:
        word = ("open" if self.github else "opened") if open else "closed"
        self.forge.pulls[number] = {"state": word, "sha": commit}

    def commit(self, number: int, message: str) -> str:
        kind = f"refs/pull/{number}" if self.github else f"refs/merge-requests/{number}"
        return a_commit(self.repo, message, f"{kind}/head")


@pytest.mark.parametrize("kind", [KeepingGitHub, KeepingGitLab])
def test_missed_pull_requests_are_sent_again_once(
    leeroy: Leeroy, tmp_path: Path, kind: type[Keeping]
) -> None:
    """Of each the newest that still holds; what was stored, or is over, is left alone."""
    with a_world(leeroy, tmp_path, kind) as world:
        port = free_port()
        leeroy.settings["listen"] = f"127.0.0.1:{port}"
        leeroy.settings["url"] = f"http://127.0.0.1:{port}"
        world.pipeline("true", more='branches = ["main"]')
        leeroy.start()
        missed = Missed(world)
        forge = missed.forge
        until(lambda: leeroy.ask("pipelines")[0]["asked_at"], 20, "the first sight")
        leeroy.cli("hook", "add", "shop")
        known = missed.commit(5, "stored, though the forge heard nothing")
        missed.shows(5, known)
        missed.pull(5, "open", known)
        forge.doubtful()
        listings = forge.listings()
        leeroy.kill()

        old, new = missed.commit(7, "one"), missed.commit(7, "two")
        missed.pull(7, "open", old)
        missed.pull(7, "update", new)
        missed.shows(7, new)
        gone = missed.commit(8, "opened and closed")
        missed.pull(8, "open", gone)
        missed.pull(8, "close", gone)
        missed.shows(8, gone, open=False)
        head = world.repo.commit("A push", a="1")
        missed.push(head)
        leeroy.start()

        def pulls() -> list[dict[str, Any]]:
            return [build for build in leeroy.ask("list") if build["pull_request"] == 7]

        found = until(pulls, 20, "the pull request is tested")
        assert [(new, "pull_request")] == [(b["commit"], b["trigger"]) for b in found]
        asked = until(lambda: forge.attempts[1:], 30, "the close is told too") and forge.attempts
        told = [str(one.get("told", one.get("request_data"))) for one in asked]
        assert 2 == len(told)
        assert {True} == {any(word in text for text in told) for word in (new, gone)}
        assert not any(old in text or "'open'" in text or "'opened'" in text for text in told)
        until(lambda: forge.listings() > listings, 10)
        before = [b["id"] for b in leeroy.ask("list")]
        builds = sorted((b["pull_request"] or 0, b["commit"]) for b in leeroy.ask("list"))
        assert [(0, head), (5, known), (7, new)] == builds, "the push is found, and built once"

        listings = forge.listings()
        leeroy.restart()
        until(lambda: forge.listings() > listings, 20, "the list is looked at again")
        assert 2 == len(forge.attempts)
        assert before == [b["id"] for b in leeroy.ask("list")]


def test_a_token_that_may_not_see_deliveries_is_no_trouble(leeroy: Leeroy, tmp_path: Path) -> None:
    """A line in the log; pushes are found all the same, and a stop is quick."""
    with a_world(leeroy, tmp_path, KeepingGitHub) as world:
        world.pipeline("true", more='poll = "1s"')
        world.forge.broken(403)
        leeroy.start()
        until(lambda: "failed deliveries are not asked for" in world.log(), 20)
        head = world.repo.commit("A push", a="1")
        found = until(lambda: leeroy.ask("list"), 20)
        assert [head] == [build["commit"] for build in found]
        world.forge.hang()
        leeroy.restart()
        assert 0 == leeroy.stop(timeout=5)
