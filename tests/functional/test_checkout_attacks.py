"""Hostile names, repositories and workspaces: nothing of theirs runs, nothing of ours gets out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.checkouts import Host
from tests.gitservers import Repo, a_repo, git


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "data")


@pytest.fixture
def shop(tmp_path: Path) -> Repo:
    return a_repo(tmp_path / "srv")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A command that leaves a trace when anybody runs it; `trap.parent / "PWNED"` is the trace."""
    path = tmp_path / "trap.sh"
    path.write_text(f"#!/bin/sh\ntouch {tmp_path}/PWNED\nexec cat\n")
    path.chmod(0o755)
    return path


def sprung(trap: Path) -> bool:
    """Whether the trap was run."""
    return (trap.parent / "PWNED").exists()


@pytest.mark.parametrize(
    "name", ["$(touch PWNED)", "x;touch$IFS'P'", 'x;touch$IFS"P"', "a&b|c`id`"]
)
def test_names_of_branches_are_data(host: Host, shop: Repo, name: str, tmp_path: Path) -> None:
    """S10: a branch or tag whose name is a shell's line is built like any other."""
    name = name.replace(" ", "${IFS}")
    commit = shop.git("commit-tree", "-m", "odd", "HEAD^{tree}")
    shop.git("push", "-q", "origin", f"{commit}:refs/heads/{name}", f"{commit}:refs/tags/{name}")

    for _ in range(2):  # without a mirror and with one
        assert commit == host.checkout(shop.bare, branch=name).head
        assert commit == host.checkout(shop.bare, tag=name).head
        assert commit == host.checkout(shop.bare, branch=name, commit=commit).head
    assert [] == [*tmp_path.rglob("PWNED"), *tmp_path.rglob("P")]


@pytest.mark.parametrize(
    "wish",
    [
        {"branch": "--upload-pack=touch${IFS}PWNED;git-upload-pack"},
        {"branch": "-x"},
        {"tag": "--upload-pack=touch${IFS}PWNED"},
        {"pull_request_ref": "--upload-pack=touch${IFS}PWNED"},
        {"pull_request_ref": "refs/heads/main:refs/heads/other"},
        {"branch": "main:refs/heads/other"},
        {"branch": "../../config"},
        {"branch": "main\nevil"},
        {"commit": "--all"},
        {"commit": "HEAD"},
    ],
)
def test_names_that_are_options_are_refused(host: Host, shop: Repo, wish: dict[str, str]) -> None:
    """S10: what git might read as an option or a refspec is refused before git is run at all."""
    outcome = host.checkout(shop.bare, **wish)

    assert 1 == outcome.code
    assert 1 == len(outcome.error.splitlines())
    assert "" == outcome.log
    assert not (host.data / "mirrors").exists()


@pytest.mark.parametrize(
    "address",
    [
        "ext::sh -c touch% PWNED",
        "ext::./trap.sh",
        "fd::7",
        "--upload-pack=./trap.sh",
        "-oProxyCommand=./trap.sh:x",
        "ssh://-oProxyCommand=touch${IFS}PWNED/x",
        "git@-oProxyCommand=x:y",
    ],
)
def test_addresses_that_are_commands_are_refused(host: Host, address: str) -> None:
    """S11: no address makes git run anything but its own transports."""
    outcome = host.checkout(address)

    assert 1 == outcome.code
    assert 1 == len(outcome.error.splitlines())
    assert not (host.data / "mirrors").exists()


def test_submodules_are_not_touched(host: Host, shop: Repo, trap: Path) -> None:
    """S12: .gitmodules is a file like any other, whatever addresses and paths it names."""
    commit = shop.git("rev-parse", "HEAD")
    shop.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    modules = (
        f'[submodule "../../evil"]\n\tpath = sub\n\turl = ext::{trap}\n\tupdate = !{trap}\n'
        f'[submodule "b"]\n\tpath = src\n\turl = -u./{trap.name}\n'
    )
    (shop.work / ".gitmodules").write_text(modules)
    shop.git("add", ".gitmodules")
    shop.git("commit", "-q", "-m", "modules")
    shop.git("push", "-q", "origin", "HEAD")

    workspace = host.checkout(shop.bare).workspace

    assert modules == (workspace / ".gitmodules").read_text()
    assert [] == list((workspace / "sub").iterdir())
    assert not (workspace / ".git/modules").exists()
    assert not sprung(trap)


def test_filters_hooks_and_monitors_never_run(host: Host, shop: Repo, trap: Path) -> None:
    """S13: neither what a repository contains nor what an old workspace was told is run."""
    home = trap.parent / "home"
    home.mkdir()
    config = (
        f'[filter "evil"]\n\tsmudge = {trap}\n\tclean = {trap}\n\tprocess = {trap}\n\trequired\n'
        f"[core]\n\tfsmonitor = {trap}\n\thooksPath = {trap.parent}/hooks\n\tsshCommand = {trap}\n"
        f"\tpager = {trap}\n[credential]\n\thelper = !{trap}\n"
        f"[uploadpack]\n\tpackObjectsHook = {trap}\n"
    )
    (home / ".gitconfig").write_text(config)
    hooks = ["post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"]
    for folder in (trap.parent / "hooks", shop.work / ".git/hooks", shop.work / "hooks"):
        folder.mkdir(exist_ok=True)
        for hook in hooks:
            (folder / hook).write_text(trap.read_text())
            (folder / hook).chmod(0o755)
    host = Host(
        host.data, {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "GIT_EDITOR": str(trap)}
    )
    shop.git("config", "core.hooksPath", "/dev/null")  # while this test itself commits
    # all of a bare repository's files, in a tree: git must not take the folder for a repository
    shop.commit(
        "evil",
        **{
            ".gitattributes": "* filter=evil diff=evil merge=evil\n",
            ".gitconfig": config,
            "config": config,
            "HEAD": "ref: refs/heads/main\n",
            "objects/x": "",
            "refs/x": "",
            "README": "evil\n",
        },
    )

    first = host.checkout(shop.bare)
    assert 0 == first.code
    with (first.workspace / ".git/config").open("a") as file:
        file.write(config)
    (first.workspace / ".git/hooks").mkdir()
    for hook in hooks:
        (first.workspace / ".git/hooks" / hook).write_text(trap.read_text())
        (first.workspace / ".git/hooks" / hook).chmod(0o755)
    shop.commit("evil again", README="more evil\n")
    second = host.checkout(shop.bare)
    third = host.checkout(shop.bare, branch="main")

    assert [0, 0] == [second.code, third.code]
    assert "more evil\n" == (second.workspace / "README").read_text()
    assert "evil" not in (second.workspace / ".git/config").read_text()
    assert not (second.workspace / ".git/hooks").exists()
    assert not sprung(trap)


def test_a_local_repository_cannot_run_anything_here(host: Host, shop: Repo, trap: Path) -> None:
    """S13: a repository on this machine is only read; its own settings and hooks run nothing."""
    for key in ("uploadpack.packObjectsHook", "core.fsmonitor", "core.sshCommand", "core.gitProxy"):
        git(shop.bare, "config", key, str(trap))
    git(shop.bare, "config", "core.hooksPath", str(trap.parent))
    git(shop.bare, "config", "extensions.partialClone", "evil")
    git(shop.bare, "config", "core.repositoryFormatVersion", "1")
    git(shop.bare, "config", "remote.evil.promisor", "true")
    git(shop.bare, "config", "remote.evil.url", f"ext::{trap}")
    tree = shop.git("rev-parse", "HEAD:src")
    (shop.bare / "objects" / tree[:2] / tree[2:]).unlink(missing_ok=True)

    host.checkout(shop.bare)

    assert not sprung(trap)


def test_a_mirror_shares_no_file_with_a_local_repository(host: Host, shop: Repo) -> None:
    """Hard links would let the repository's owner change what was tested under our feet."""
    host.checkout(shop.bare)

    mirror = host.mirror(shop.bare)
    assert [] == [p for p in mirror.rglob("*") if p.is_file() and p.stat().st_nlink > 1]


def test_a_local_repository_may_belong_to_somebody_else(host: Host, shop: Repo) -> None:
    """The operator has named the path, so git's distrust of other owners stops no build."""
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    for path in (shop.bare, *shop.bare.rglob("*")):
        os.chown(path, 65534, 65534)
    for path in (shop.work, *shop.work.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)

    assert 0 == host.checkout(shop.bare).code
    assert 0 == host.checkout(f"file://{shop.work}").code


@pytest.mark.parametrize("entry", [".git", ".GIT", "git~1"])
def test_a_tree_cannot_write_into_git(host: Host, shop: Repo, trap: Path, entry: str) -> None:
    """A tree with a .git of its own is refused by git, and nothing else is built instead."""
    blob = shop.git("hash-object", "-w", "--stdin", stdin=trap.read_text())
    hooks = shop.git("mktree", stdin=f"100755 blob {blob}\tpost-checkout\n")
    inner = shop.git("mktree", stdin=f"040000 tree {hooks}\thooks\n")
    tree = shop.git("mktree", stdin=f"040000 tree {inner}\t{entry}\n")
    shop.git("push", "-q", "origin", f"{shop.git('commit-tree', '-m', 'x', tree)}:refs/heads/evil")

    outcome = host.checkout(shop.bare, branch="evil")

    assert 1 == outcome.code
    assert "checking out " in outcome.error
    assert "damaged" not in outcome.log
    assert not sprung(trap)


def test_a_symlink_in_the_tree_leads_nowhere(host: Host, shop: Repo, tmp_path: Path) -> None:
    """A tree with a link and a folder of the same name cannot write through the link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    blob = shop.git("hash-object", "-w", "--stdin", stdin="evil")
    link = shop.git("hash-object", "-w", "--stdin", stdin=str(outside))
    folder = shop.git("mktree", stdin=f"100644 blob {blob}\tfile\n")
    tree = shop.git("mktree", stdin=f"120000 blob {link}\tA\n040000 tree {folder}\ta\n")
    shop.git("push", "-q", "origin", f"{shop.git('commit-tree', '-m', 'x', tree)}:refs/heads/evil")

    outcome = host.checkout(shop.bare, branch="evil")

    assert (outcome.workspace / "A").is_symlink()
    assert [] == list(outside.iterdir())


def test_a_broken_mirror_never_leads_to_another_repository(host: Host, shop: Repo) -> None:
    """Git must not look for a repository in the folders above: there may be somebody's own."""
    host.data.mkdir()
    git(host.data, "init", "-q", "-b", "mine")
    (host.data / "file").touch()
    git(host.data, "add", "file")
    git(host.data, "commit", "-q", "-m", "mine")
    before = git(host.data, "for-each-ref")
    host.checkout(shop.bare)
    (host.mirror(shop.bare) / "HEAD").unlink()
    commit = shop.commit("new")

    outcome = host.checkout(shop.bare, commit=commit, branch="main")

    assert commit == outcome.head
    assert before == git(host.data, "for-each-ref")


def test_a_closed_and_deep_workspace_can_be_removed(host: Host, shop: Repo) -> None:
    """A build may leave folders nobody may enter, and deeper ones than Python can walk."""
    workspace = host.checkout(shop.bare).workspace
    here = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

    try:
        outcome = host.checkout(shop.bare)

        assert 0 == outcome.code
        assert not (workspace / "d").exists()
    finally:
        # pytest could not remove it either
        subprocess.run(["rm", "-rf", str(workspace)], check=True)
