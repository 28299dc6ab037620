"""What was pushed while nobody could tell of it is built: once, at the head, within a minute."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gitservers import Repo, a_repo, https_git, silent_server, ssh_git
from tests.parts import need
from tests.servers import ROOT, Leeroy
from tests.waiting import until


def _first_sight(leeroy: Leeroy, name: str = "shop", after: str | None = None) -> str:
    """When the repository was asked, once it was (again)."""

    def asked() -> Any:
        row = next((p for p in leeroy.ask("pipelines") if p["name"] == name), None)
        return row and row["asked_at"] != after and row["asked_at"]

    return str(until(asked, 20, "the repository is asked"))


def _builds(leeroy: Leeroy) -> list[dict[str, Any]]:
    return list(leeroy.ask("list"))


def _killed(leeroy: Leeroy, repo: Repo) -> None:
    leeroy.start()
    _first_sight(leeroy)
    leeroy.kill()


def test_pushes_during_a_crash_are_built_once_at_the_head(either: Leeroy) -> None:
    """Two pushes while it was dead: one build; their deliveries, late, answer that build."""
    repo = either.shop(test="git rev-parse HEAD >> {world}/built", deploy="true")
    _killed(either, repo)
    passed_over = repo.commit("First", a="1")
    head = repo.commit("Second\n\nwith a body", b="2")
    began = time.monotonic()
    either.start()
    found = until(lambda: _builds(either), 20)
    assert 60 > time.monotonic() - began
    assert [(head, "main", "poll", "Ada Lovelace")] == [
        (b["commit"], b["branch"], b["trigger"], b["author"]) for b in found
    ]
    assert found[0]["message"].startswith("Second")
    number = found[0]["id"]
    for commit in (head, passed_over, head):
        status, answer = either.hook(repo, commit)
        assert (200, [number]) == (status, answer["builds"]), answer
    assert 1 == len(_builds(either))
    either.until_state(number, "deploy_pending", "deploying", "done")
    assert [head] == either.marks("built")
    # and what comes now is a push like any other
    following = repo.commit("Third", c="3")
    status, answer = either.hook(repo, following)
    assert 202 == status
    assert [number] != answer["builds"]


def test_a_delivery_first_then_the_look(leeroy: Leeroy) -> None:
    """What a delivery told of is not built again by a start."""
    repo = leeroy.shop()
    leeroy.start()
    asked = _first_sight(leeroy)
    leeroy.push(repo)
    repo.commit("More", a="1")
    number = leeroy.push(repo)
    leeroy.restart()
    _first_sight(leeroy, after=asked)
    assert number == _builds(leeroy)[0]["id"]


def test_first_sight_builds_nothing(leeroy: Leeroy) -> None:
    """A repository that is new to Leeroy is looked at, and a delivered push of its head built."""
    repo = leeroy.shop()
    repo.git("tag", "v1")
    repo.git("push", "-q", "origin", "v1")
    leeroy.start()
    _first_sight(leeroy)
    assert [] == _builds(leeroy)
    status, answer = leeroy.hook(repo)
    assert (202, [1]) == (status, answer["builds"])


def test_branches_tags_and_deletions(either: Leeroy) -> None:
    """A force push, a new branch, an annotated tag: built; unwanted and [skip ci]: not."""
    leeroy = either
    repo = leeroy.shop(more='tags = ["v*"]\nbranches = ["main"]', tail="", deploy="true")
    text = (leeroy.folder / "pipelines" / "shop.toml").read_text()
    leeroy.pipeline('branches = ["main", "work/*", "skipped"]\n' + text)
    _killed(leeroy, repo)
    repo.git("commit", "-q", "--amend", "-m", "Another past")
    repo.git("push", "-q", "--force", "origin", "main")
    forced = repo.git("rev-parse", "HEAD")
    repo.git("tag", "-a", "-m", "the first", "v1")
    repo.git("push", "-q", "origin", "v1")
    work = repo.commit("Work", branch="work/a", a="1")
    repo.commit("Not tested", branch="other", b="1")
    repo.commit("Nothing [skip ci]", branch="skipped", c="1")
    leeroy.start()
    until(lambda: len(_builds(leeroy)) >= 3, 20)
    _first_sight(leeroy, after="never")
    assert {("main", None, forced), (None, "v1", forced), ("work/a", None, work)} == {
        (b["branch"], b["tag"], b["commit"]) for b in _builds(leeroy)
    }
    assert 3 == len(_builds(leeroy))


def test_a_deleted_branch_cancels_what_waits(either: Leeroy) -> None:
    """A branch that is gone after the crash: its deploy that waits is not made."""
    leeroy = either
    repo = leeroy.shop(more='approve = true\nbranches = ["work"]')
    repo.commit("Work", branch="work", a="1")
    leeroy.start()
    _first_sight(leeroy)
    number = leeroy.push(repo, "work")
    leeroy.until_state(number, "deploy_pending")
    leeroy.kill()
    repo.git("push", "-q", "origin", "--delete", "work")
    leeroy.start()
    leeroy.until_state(number, "cancelled")
    assert "deleted" in leeroy.ask("events", id=number)[-1]["reason"]


def test_an_emptied_repository_cancels_nothing(leeroy: Leeroy) -> None:
    """A server that shows no branch at all is not believed."""
    repo = leeroy.shop(more="approve = true")
    leeroy.start()
    _first_sight(leeroy)
    number = leeroy.push(repo)
    leeroy.until_state(number, "deploy_pending")
    leeroy.kill()
    kept = repo.bare.with_name("kept.git")
    repo.bare.rename(kept)
    shutil.copytree(kept, repo.bare, ignore=lambda *_: ["refs", "packed-refs"])
    (repo.bare / "refs").mkdir()
    leeroy.start()
    until(lambda: leeroy.ask("pipelines")[0]["trouble"], 20)
    assert "no branch any more" in leeroy.ask("pipelines")[0]["trouble"]
    assert "deploy_pending" == leeroy.state(number)


@contextlib.contextmanager
def _https(leeroy: Leeroy, tmp_path: Path) -> Iterator[str]:
    with https_git(leeroy.folder / "srv", tmp_path / "https") as server:
        leeroy.tables = f'[env]\nSSL_CERT_FILE = "{server.ca}"\n'
        leeroy.env["SHOP_TOKEN"] = server.token
        yield f'repository = "{server.private()}"\ntoken = "env:SHOP_TOKEN"'


@contextlib.contextmanager
def _ssh(leeroy: Leeroy, tmp_path: Path) -> Iterator[str]:
    with ssh_git(tmp_path / "ssh") as server:
        key = tmp_path / "key"
        key.write_text(server.key)
        key.chmod(0o600)
        bare = Repo(leeroy.folder / "srv" / "shop.git", leeroy.folder)
        yield f'repository = "{server.address(bare)}"\nssh_key = "file:{key}"'


@pytest.mark.parametrize("kind", [_https, _ssh])
def test_a_server_no_webhook_can_reach(kind: Any, leeroy: Leeroy, tmp_path: Path) -> None:
    """`poll`: a push is found without any delivery; no credential is left behind."""
    repo = a_repo(leeroy.folder / "srv")
    with kind(leeroy, tmp_path) as where:
        for name in ("shop", "again"):
            leeroy.pipeline(f'{where}\npoll = "1s"\n[[test]]\nname = "unit"\nrun = "true"', name)
        leeroy.start()
        _first_sight(leeroy)
        _first_sight(leeroy, "again")
        head = repo.commit("A change", a="1")
        until(lambda: len(_builds(leeroy)) == 2, 20)
        for build in _builds(leeroy):
            assert (head, "poll") == (build["commit"], build["trigger"])
            assert "done" == leeroy.until_over(build["id"])
        leeroy.stop()
        asks = leeroy.folder / "var" / "asks"
        assert [] == (list(asks.iterdir()) if asks.exists() else [])


def test_a_repository_that_hangs_keeps_nobody_waiting(leeroy: Leeroy) -> None:
    """One server is silent: the other repository is polled, and a stop takes no longer."""
    repo = leeroy.shop()
    text = (leeroy.folder / "pipelines" / "shop.toml").read_text()
    leeroy.pipeline('poll = "1s"\n' + text)
    with silent_server() as port:
        for number in range(3):
            leeroy.pipeline(
                f'repository = "http://127.0.0.1:{port}/{number}.git"\npoll = "1s"\n'
                '[[test]]\nname = "unit"\nrun = "true"',
                f"silent{number}",
            )
        leeroy.start()
        _first_sight(leeroy)
        repo.commit("A change", a="1")
        found = until(lambda: _builds(leeroy), 20)
        assert "poll" == found[0]["trigger"]
        began = time.monotonic()
        assert 0 == leeroy.stop()
        assert 5 > time.monotonic() - began


def test_trouble_is_shown_once_and_goes_silently(leeroy: Leeroy) -> None:
    """A repository that is away: one line in the list, one in doctor; then none."""
    repo = leeroy.shop()
    text = (leeroy.folder / "pipelines" / "shop.toml").read_text()
    for name in ("shop", "other"):
        leeroy.pipeline('poll = "1s"\n' + text, name)
    away = repo.bare.with_name("away.git")
    leeroy.start()
    _first_sight(leeroy)
    repo.bare.rename(away)
    until(lambda: leeroy.ask("pipelines")[0]["trouble"], 20)
    page = leeroy.http("GET", "/", token=leeroy.token)[2].decode()
    assert 1 == page.count("cannot be asked")
    doctor = leeroy.cli("doctor", check=False).stdout
    assert 1 == doctor.count("cannot be asked")
    assert 1 == leeroy.log.read_text().count("cannot be asked")
    away.rename(repo.bare)
    until(lambda: not leeroy.ask("pipelines")[0]["trouble"], 30)
    assert "cannot be asked" not in leeroy.http("GET", "/", token=leeroy.token)[2].decode()


_HEARS = """
import subprocess, sys, threading
from leeroy.catchup import network
hearing, heard = network.listen(), threading.Event()
threading.Thread(target=network.hear, args=(hearing, heard.set), daemon=True).start()
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "route", "add", "10.9.0.0/16", "dev", "lo"], check=True)
assert not heard.wait(0.5), "a route that leads nowhere"
subprocess.run(["ip", "route", "add", "default", "dev", "lo"], check=True)
assert heard.wait(10), "the way out"
"""


def test_the_kernel_tells_that_the_network_is_back() -> None:
    """A default route in a network namespace of its own is heard of at once."""
    unshare, _ = need("unshare"), need("ip")
    done = subprocess.run(
        [unshare, "--net", "--map-root-user", sys.executable, "-c", _HEARS],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert 0 == done.returncode, done.stderr


_CUT_OFF = """
import os, signal, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
serve = subprocess.Popen([sys.executable, "-m", "leeroy", "serve"])
signal.signal(signal.SIGTERM, lambda *_: serve.terminate())
while not os.path.exists("world/back"):
    try:
        serve.wait(0.05)
        break
    except subprocess.TimeoutExpired:
        pass
subprocess.run(["ip", "route", "add", "default", "dev", "lo"], check=True)
sys.exit(serve.wait())
"""


def test_a_network_that_was_away_is_made_up_for(leeroy: Leeroy) -> None:
    """A server without any way out: once there is one, what was pushed meanwhile is found, once."""
    unshare, _ = need("unshare"), need("ip")
    repo = leeroy.shop()
    leeroy.write_settings()
    leeroy.cli("migrate")

    def asked() -> Any:
        with contextlib.closing(sqlite3.connect(leeroy.folder / "var" / "leeroy.db")) as database:
            row = database.execute("SELECT asked_at FROM remotes").fetchone()
            return row and row[0]

    def builds() -> list[dict[str, Any]]:
        return list(json.loads(leeroy.cli("list", "--json").stdout))

    argv = [unshare, "--net", "--map-root-user", sys.executable, "-c", _CUT_OFF]
    with leeroy.log.open("ab") as log:
        leeroy.process = subprocess.Popen(
            argv,
            cwd=leeroy.folder,
            env=leeroy.environment(),
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        first = until(asked, 30, "the first sight")
        repo.commit("Unheard", a="1")
        head = repo.commit("The head", b="1")
        assert (first, []) == (asked(), builds())
        (leeroy.world / "back").touch()
        found = until(builds, 30, "what was pushed meanwhile")
        assert [(head, "poll")] == [(build["commit"], build["trigger"]) for build in found]
    finally:
        os.killpg(leeroy.process.pid, signal.SIGTERM)
        leeroy.process.wait(20)


def test_an_absence_of_the_database_is_made_up_for(leeroy: Leeroy) -> None:
    """A delivery that was answered 503 is stored after all, or found by asking: one build."""
    repo = leeroy.shop()
    leeroy.start()
    _first_sight(leeroy)
    head = repo.commit("A change", a="1")
    with contextlib.closing(sqlite3.connect(leeroy.folder / "var" / "leeroy.db")) as other:
        other.execute("BEGIN IMMEDIATE")  # nobody else can write
        status, _ = leeroy.hook(repo, head)
        assert 503 == status
        other.rollback()
    [found] = until(lambda: _builds(leeroy), 30)
    assert head == found["commit"] and found["trigger"] in ("push", "poll")
    assert "done" == leeroy.until_over(found["id"])
    assert 1 == len(_builds(leeroy))
