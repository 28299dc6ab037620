"""Which commit a checkout takes, and how it says that there is none; from a local repository."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from leeroy.runner import checkout
from tests.checkouts import Host
from tests.gitservers import Repo, a_repo, git


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "data")


@pytest.fixture
def shop(tmp_path: Path) -> Repo:
    return a_repo(tmp_path / "srv")


def test_without_any_wish_it_is_the_remotes_head(host: Host, shop: Repo) -> None:
    """`leeroy trigger` without a branch builds the remote's HEAD, and says which branch."""
    outcome = host.checkout(shop.bare)

    assert outcome.result == {
        "commit": shop.git("rev-parse", "main"),
        "branch": "main",
        "default_branch": "main",
        "message": "Open the shop",
        "author": "Ada Lovelace",
        "author_email": "ada@example.com",
    }
    assert outcome.commit == outcome.head
    assert "print('shop')\n" == (outcome.workspace / "src/shop.py").read_text()
    assert "" == git(outcome.workspace, "status", "--porcelain")


def test_a_branch_is_its_newest_commit(host: Host, shop: Repo) -> None:
    """A branch means its head, as often as it moves."""
    host.checkout(shop.bare)
    for number in range(2):
        commit = shop.commit(f"change {number}", branch="release/1.0")

        outcome = host.checkout(shop.bare, branch="release/1.0")

        assert commit == outcome.commit == outcome.head
        assert (outcome.result or {})["branch"] == "release/1.0"
        assert (outcome.result or {})["default_branch"] == "main"


def test_a_commit_wins_over_its_branch(host: Host, shop: Repo) -> None:
    """What was pushed is built, also when the branch has moved on since."""
    first = shop.commit("first")
    shop.commit("second")

    for _ in range(2):  # with and without a mirror
        assert first == host.checkout(shop.bare, commit=first, branch="main").head


def test_a_commit_of_an_unknown_branch_is_found(host: Host, shop: Repo) -> None:
    """A commit alone is enough, on whatever branch it is."""
    host.checkout(shop.bare)
    commit = shop.commit("elsewhere", branch="elsewhere")

    outcome = host.checkout(shop.bare, commit=commit)

    assert commit == outcome.head
    assert (outcome.result or {})["branch"] is None


def test_a_short_commit_is_completed(host: Host, shop: Repo) -> None:
    """Twelve digits (Bitbucket sends no more) become the whole name, beside a branch so called."""
    commit = shop.commit("short")
    shop.commit("trap", branch=commit[:12])

    assert commit == host.checkout(shop.bare, commit=commit[:12]).commit
    assert commit == host.checkout(shop.bare, commit=commit[:7].upper(), branch="main").commit


def test_a_short_commit_of_several_is_refused(host: Host, shop: Repo) -> None:
    """Leeroy does not guess between two commits."""
    tree = shop.git("rev-parse", "HEAD^{tree}")
    seen: dict[str, int] = {}
    for number in range(200_000):
        text = f"tree {tree}\nauthor a <a> {number} +0000\ncommitter a <a> {number} +0000\n\nx\n"
        digits = hashlib.sha1(b"commit %d\0" % len(text) + text.encode()).hexdigest()[:7]
        if digits in seen:
            break
        seen[digits] = number
    for branch, when in (("one", seen[digits]), ("two", number)):
        text = f"tree {tree}\nauthor a <a> {when} +0000\ncommitter a <a> {when} +0000\n\nx\n"
        shop.git("push", "-q", "origin", f"{_store(shop, text)}:refs/heads/{branch}")

    outcome = host.checkout(shop.bare, commit=digits)

    assert 1 == outcome.code
    assert f"2 commits begin with {digits}; give more digits: {digits}" in outcome.error


def _store(repo: Repo, text: str) -> str:
    return repo.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=text)


@pytest.mark.parametrize("annotated", [False, True])
def test_a_tag_is_peeled(host: Host, shop: Repo, annotated: bool) -> None:
    """A tag, annotated or not, means the commit it stands on; scripts can ask for it."""
    host.checkout(shop.bare)
    commit = shop.commit("release")
    shop.git("tag", *(["-a", "-m", "one"] if annotated else []), "v1.0")
    shop.git("push", "-q", "origin", "v1.0")

    outcome = host.checkout(shop.bare, tag="v1.0")

    assert commit == outcome.commit == outcome.head
    assert (outcome.result or {})["branch"] is None
    assert "v1.0" == git(outcome.workspace, "describe", "--tags")
    # a tag object given as commit (GitHub's `after`) is peeled as well
    assert (
        commit == host.checkout(shop.bare, tag="v1.0", commit=shop.git("rev-parse", "v1.0")).commit
    )


def test_a_tag_on_a_known_commit_is_fetched(host: Host, shop: Repo) -> None:
    """The commit being there is not enough for a release: its scripts ask for the tag."""
    commit = shop.commit("release")
    host.checkout(shop.bare, commit=commit, branch="main")
    shop.git("push", "-q", "origin", "HEAD:refs/tags/v2")

    outcome = host.checkout(shop.bare, tag="v2", commit=commit)

    assert "v2" == git(outcome.workspace, "describe", "--tags")


def test_a_tag_of_a_file_is_no_commit(host: Host, shop: Repo) -> None:
    """A tag can stand on a file; that cannot be built, and the sentence says so."""
    shop.git(
        "push",
        "-q",
        "origin",
        "HEAD:refs/heads/x",
        f"{shop.git('rev-parse', 'HEAD:README')}:refs/tags/odd",
    )

    for _ in range(2):
        outcome = host.checkout(shop.bare, tag="odd")
        assert 1 == outcome.code
        assert (
            f"{shop.bare} has no tag odd" in outcome.error
            or "does not lead to a commit" in outcome.error
        )


def test_a_pull_request_is_fetched_by_its_ref(host: Host, shop: Repo) -> None:
    """A pull request's commit is on no branch; its own ref leads to it."""
    tree = shop.git("rev-parse", "HEAD^{tree}")
    commit = shop.git("commit-tree", "-m", "from a fork", tree)
    shop.git("push", "-q", "origin", f"{commit}:refs/pull/7/head")

    for _ in range(2):
        for name in (None, commit, commit[:12]):
            outcome = host.checkout(
                shop.bare, branch="main", commit=name, pull_request_ref="refs/pull/7/head"
            )
            assert commit == outcome.head
        shutil.rmtree(host.mirror(shop.bare))


def test_deploys_need_no_network(host: Host, shop: Repo) -> None:
    """What was tested can be deployed while the forge is away."""
    commit = host.checkout(shop.bare).commit
    shop.bare.rename(shop.bare.with_name("away"))

    outcome = host.checkout(
        shop.bare, commit=commit[:10], branch="new", from_mirror=True, workspace="1-production"
    )

    assert commit == outcome.head
    assert f"commit {commit[:12]} is in the mirror already; nothing is fetched" in outcome.log


def test_the_workspace_is_fresh(host: Host, shop: Repo, tmp_path: Path) -> None:
    """Nothing an earlier build left in the workspace is seen, and links are not followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("keep")
    workspace = host.checkout(shop.bare).workspace
    (workspace / "left").write_text("over")
    (workspace / "link").symlink_to(outside)
    closed = workspace / "closed"
    closed.mkdir()
    (closed / "file").touch()
    closed.chmod(0)

    host.checkout(shop.bare)
    assert not (workspace / "left").exists()

    shutil.rmtree(workspace)
    workspace.symlink_to(outside)
    assert 0 == host.checkout(shop.bare).code
    assert not workspace.is_symlink()
    assert "keep" == (outside / "precious").read_text()


def test_scripts_find_an_ordinary_clone(host: Host, shop: Repo, tmp_path: Path) -> None:
    """A deploy script can push HEAD, ask for origin/main, tags and the history."""
    commit = shop.commit("second")
    target = a_repo(tmp_path / "heroku", commits=False)

    workspace = host.checkout(shop.bare, branch="main").workspace
    git(workspace, "push", "-q", str(target.bare), "HEAD:refs/heads/main")

    assert commit == git(target.bare, "rev-parse", "main")
    assert commit == git(workspace, "rev-parse", "origin/main")
    assert "2" == git(workspace, "rev-list", "--count", "HEAD")
    assert str(shop.bare) == git(workspace, "remote", "get-url", "origin")


def test_a_branch_may_become_a_folder(host: Host, shop: Repo) -> None:
    """`fix` deleted and `fix/one` made: the ref that is gone does not stand in the way."""
    shop.commit("x", branch="fix")
    host.checkout(shop.bare)
    shop.git("push", "-q", "origin", ":fix")
    shop.git("checkout", "-q", "main")
    shop.git("branch", "-D", "fix")
    commit = shop.commit("y", branch="fix/one")

    assert commit == host.checkout(shop.bare, branch="fix/one").head
    commit = shop.commit("z", branch="fix/one")
    assert commit == host.checkout(shop.bare, branch="fix/one", commit=commit).head


def test_a_force_pushed_away_commit_is_named(host: Host, shop: Repo) -> None:
    """What the server has thrown away is said to be gone, and nothing else is built instead."""
    host.checkout(shop.bare)
    shop.git("checkout", "-q", "-b", "gone")
    gone = shop.git("commit-tree", "-m", "gone", "HEAD^{tree}")

    outcome = host.checkout(shop.bare, commit=gone, branch="main")

    assert 1 == outcome.code
    assert outcome.result is None
    assert (
        f"commit {gone[:12]} is not in {shop.bare} any more: was it force-pushed away?\n"
        == outcome.error
    )


def test_a_force_pushed_away_commit_the_server_still_has_is_built(host: Host, shop: Repo) -> None:
    """A commit no branch shows any more is fetched by its name."""
    host.checkout(shop.bare)
    commit = shop.commit("will be replaced")
    shop.git("reset", "-q", "--hard", "HEAD^")
    shop.commit("the replacement")

    assert commit == host.checkout(shop.bare, commit=commit, branch="main").head


def test_a_sha256_repository(host: Host, tmp_path: Path) -> None:
    """Repositories with 64-digit names work like the others."""
    shop = a_repo(tmp_path / "srv", "modern", "--object-format=sha256")
    host.checkout(shop.bare)
    commit = shop.commit("second")

    assert 64 == len(commit)
    assert commit == host.checkout(shop.bare, commit=commit, branch="main").head
    assert commit == host.checkout(shop.bare, commit=commit[:40]).head


def test_an_unborn_default_branch(host: Host, tmp_path: Path) -> None:
    """An empty repository is told apart from a broken one, before and after the first push."""
    shop = a_repo(tmp_path / "srv", commits=False)

    for _ in range(2):
        outcome = host.checkout(shop.bare)
        assert 1 == outcome.code
        assert (
            f"{shop.bare} shows no commit: it is empty, or its default branch does not exist; "
            "push a commit to it, or name a branch\n"
        ) == outcome.error
    commit = shop.commit("first")
    assert commit == host.checkout(shop.bare).head


def test_the_default_branch_is_renamed(host: Host, shop: Repo) -> None:
    """Deploys go to the default branch by default, so a new one must become known."""
    host.checkout(shop.bare)
    git(shop.bare, "symbolic-ref", "HEAD", "refs/heads/trunk")
    commit = shop.commit("first", branch="trunk")

    outcome = host.checkout(shop.bare, commit=commit, branch="trunk")

    assert (outcome.result or {})["default_branch"] == "trunk"


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"branch": "nope"}, "{} has no branch nope; was it deleted, or never pushed?\n"),
        ({"tag": "v9"}, "{} has no tag v9; was it deleted, or never pushed?\n"),
        (
            {"pull_request_ref": "refs/pull/9/head"},
            "{} has no refs/pull/9/head; was it deleted, or never pushed?\n",
        ),
        (
            {"commit": "abcdef0123"},
            "commit abcdef0123 is not in {} any more: was it force-pushed away?\n",
        ),
    ],
)
def test_what_is_not_there_is_named(
    host: Host, shop: Repo, mirrored: bool, wish: dict[str, str], sentence: str
) -> None:
    """Each missing thing has its own sentence, with and without a mirror."""
    if mirrored:
        host.checkout(shop.bare)

    outcome = host.checkout(shop.bare, **wish)

    assert 1 == outcome.code
    assert sentence.format(shop.bare) == outcome.error
    assert not (outcome.run_dir / "checkout.json").exists()


def test_a_missing_repository_is_named(host: Host, tmp_path: Path) -> None:
    """A wrong path is said to be one."""
    path = tmp_path / "nowhere.git"

    outcome = host.checkout(path)

    assert 1 == outcome.code
    sentence = f"there is no git repository at {path} on this machine; is the path right?\n"
    assert sentence == outcome.error


def test_odd_authors_and_messages_travel_whole(host: Host, shop: Repo) -> None:
    """Texts of a commit are data: quotes, markup and other alphabets arrive as they are."""
    subject = "Añade «cosas» \x1b[31mred <b> $(id) %s"
    shop.git(
        "commit", "-q", "--allow-empty", "-m", f"{subject}\n\nbody\n", "--author", "Ünï <ü@例.jp>"
    )
    shop.git("push", "-q", "origin", "HEAD")

    outcome = host.checkout(shop.bare, branch="main")

    assert outcome.result is not None
    assert f"{subject}\n\nbody" == outcome.result["message"]
    assert "Ünï" == outcome.result["author"]
    assert "ü@例.jp" == outcome.result["author_email"]
    assert "\x1b" not in outcome.log


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", json.dumps({"repository": "/x", "workspace": "relative"})]
)
def test_a_request_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    """A broken request ends with a sentence, not with a traceback."""
    (tmp_path / checkout.REQUEST).write_text(text)

    done = subprocess.run(
        checkout.argv(),
        env={"LEEROY_RUN_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode
    assert 1 == len(done.stderr.splitlines())
    assert "the request" in done.stderr


def test_a_missing_git_and_a_closed_disk_are_named(shop: Repo, tmp_path: Path) -> None:
    """What this machine lacks is said in a sentence as well."""
    without = Host(tmp_path / "bare", {"PATH": "/nowhere"}).checkout(shop.bare)
    in_the_way = Host(tmp_path / "other")
    in_the_way.data.mkdir()
    (in_the_way.data / "mirrors").write_text("a file")
    closed = in_the_way.checkout(shop.bare)

    assert "git is not installed on this machine; install it\n" == without.error
    assert os.EX_IOERR == closed.code
    assert f"the checkout failed at {in_the_way.data}/mirrors" in closed.error
    assert 1 == len(closed.error.splitlines())


def test_a_token_of_two_lines_is_refused(host: Host) -> None:
    """A token file with more than the token in it is named, its content is not."""
    outcome = host.checkout("https://example.com/shop.git", token="canary\nmore")

    assert 1 == outcome.code
    assert "the token has a line break" in outcome.error
    assert "canary" not in outcome.error
    assert [checkout.REQUEST] == [path.name for path in outcome.run_dir.iterdir()]
