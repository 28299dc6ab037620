"""Kills, broken mirrors, full disks, and many checkouts at once: the next one works."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from leeroy.runner import checkout
from tests.checkouts import Host, Run
from tests.gitservers import Repo, a_repo, git, silent_server
from tests.parts import missing
from tests.waiting import until


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "data")


@pytest.fixture
def shop(tmp_path: Path) -> Repo:
    return a_repo(tmp_path / "srv")


def a_big_change(repo: Repo, seed: int) -> str:
    """A commit of some hundred files that do not compress."""
    noise = random.Random(seed)
    for number in range(200):
        folder = repo.work / f"{seed}-{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / str(number)).write_bytes(noise.randbytes(5000))
    return repo.commit(f"big {seed}")


def test_a_killed_checkout_leaves_a_usable_mirror(host: Host, shop: Repo) -> None:
    """Killed at any moment, first clone or later fetch, the next checkout has every file."""
    commit = ""
    for attempt in range(16):
        if attempt % 4 == 0:
            commit = a_big_change(shop, attempt)
        run = host.start(shop.bare, commit=commit, branch="main")
        try:
            # 16 moments between the start of Python and the last file
            run.process.wait(0.03 + 0.012 * attempt)
        except subprocess.TimeoutExpired:
            run.kill()
        else:
            run.wait()
        if attempt % 4 == 3:
            outcome = host.checkout(shop.bare, commit=commit, branch="main")
            assert commit == outcome.head, outcome.error
            assert "" == git(outcome.workspace, "status", "--porcelain")
            assert 200 * (attempt // 4 + 1) + 2 == len(git(outcome.workspace, "ls-files").split())
    git(host.mirror(shop.bare), "fsck", "--connectivity-only")


def test_a_fetch_is_one_pack(host: Host, shop: Repo) -> None:
    """A commit that is in the mirror has its files there: no fetch writes object by object."""
    host.checkout(shop.bare)
    commit = shop.commit("small", **{"one": "file"})

    assert commit == host.checkout(shop.bare, commit=commit, branch="main").head
    objects = host.mirror(shop.bare) / "objects"
    assert ["info", "pack"] == sorted(path.name for path in objects.iterdir())


def test_a_fetch_holds_the_lock_to_its_end(host: Host) -> None:
    """When only our program is killed, nobody touches the mirror before its git is gone as well."""
    with silent_server() as port:
        address = f"http://127.0.0.1:{port}/shop.git"
        run = host.start(address)
        lock = Path(f"{host.mirror(address)}.lock")
        # not merely any git: the mirror is made by short ones before, and they need no lock
        until(lambda: is_fetching(run), what="git to connect")

        os.kill(run.process.pid, 9)
        run.process.wait()
        held = not free(lock)
        run.kill()

        assert held
        until(lambda: free(lock), what="the lock to be free")


def is_fetching(run: Run) -> bool:
    """Whether git's transport lives in *run*'s session."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, fields = (folder / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if int(fields.split()[3]) == run.process.pid and name.startswith("git-remote"):
            return True
    return False


def free(lock: Path) -> bool:
    """Whether nobody holds *lock*."""
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize("marked", [False, True])
def test_left_over_locks_are_cleared(host: Host, shop: Repo, marked: bool) -> None:
    """Locks and halves of packs that a killed git left do not stop the next one."""
    host.checkout(shop.bare)
    mirror = host.mirror(shop.bare)
    for name in ("refs/heads/main.lock", "packed-refs.lock", "objects/pack/tmp_pack_x"):
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).touch()
    if marked:
        Path(f"{mirror}.lock").write_text("fetching\n")
    commit = shop.commit("new")

    outcome = host.checkout(shop.bare, commit=commit, branch="main")

    assert commit == outcome.head
    assert ("an earlier fetch was cut off; cleaning up after it\n" in outcome.log) == marked
    assert [] == [*mirror.rglob("*.lock"), *mirror.rglob("tmp_*")]
    assert "" == Path(f"{mirror}.lock").read_text()


def test_many_share_one_mirror(host: Host, shop: Repo) -> None:
    """Checkouts of one repository at the same time, first and again, do not disturb each other."""
    commit = a_big_change(shop, 1)
    first = [host.start(shop.bare, workspace=f"a{number}") for number in range(5)]
    firsts = [run.wait() for run in first]
    commits = [shop.commit(f"{number}", branch=f"b{number}") for number in range(5)]
    second = [
        host.start(shop.bare, workspace=f"b{number}", commit=name, branch=f"b{number}")
        for number, name in enumerate(commits)
    ]
    seconds = [run.wait() for run in second]

    assert [commit] * 5 == [outcome.head for outcome in firsts]
    assert commits == [outcome.head for outcome in seconds]
    assert any("another build is fetching this repository; waiting for it" in o.log for o in firsts)
    assert 1 == sum("cloning" in outcome.log for outcome in firsts)


def _cut_pack(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:200])


def _lose_objects(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*"):
        pack.unlink()


def _become_a_file(mirror: Path) -> None:
    mirror.rename(mirror.with_name("aside"))
    mirror.write_text("a file")


def _spoil_refs(mirror: Path, text: str) -> None:
    """What a power cut may leave of a ref that was written just before."""
    git(mirror, "pack-refs", "--all")
    (mirror / "packed-refs").unlink()
    ref = mirror / "refs" / "heads" / "main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(text)


DAMAGES = {
    "cut pack": _cut_pack,
    "no objects": _lose_objects,
    "no HEAD": lambda mirror: (mirror / "HEAD").unlink(),
    "empty HEAD": lambda mirror: (mirror / "HEAD").write_text(""),
    "bad config": lambda mirror: (mirror / "config").write_text("[core\n"),
    "bad refs": lambda mirror: (mirror / "packed-refs").write_text("garbage\n"),
    "empty": lambda mirror: subprocess.run(["find", str(mirror), "-mindepth", "1", "-delete"]),
    "a file": _become_a_file,
}


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_mirror_is_cloned_anew(host: Host, shop: Repo, damage: str, new: bool) -> None:
    """Whatever a crash or a bad disk did to the mirror, the build goes on with a new one."""
    commit = host.checkout(shop.bare).commit
    DAMAGES[damage](host.mirror(shop.bare))
    if new:
        commit = shop.commit("new")

    outcome = host.checkout(shop.bare, commit=commit, branch="main")

    assert commit == outcome.head, outcome.error
    assert "a shop\n" == (outcome.workspace / "README").read_text()
    assert [] == list((host.data / "mirrors").glob("*.old"))
    git(host.mirror(shop.bare), "fsck")


@pytest.mark.parametrize("text", ["0" * 40 + "\n", "\0" * 41, ""], ids=["0", "nothing", "empty"])
def test_a_ref_that_a_power_cut_spoiled_is_mended(host: Host, shop: Repo, text: str) -> None:
    """The commit is there and nothing has to be fetched, but no workspace can be made of it."""
    commit = host.checkout(shop.bare).commit
    _spoil_refs(host.mirror(shop.bare), text)

    outcome = host.checkout(shop.bare, commit=commit)

    assert "" == outcome.error
    assert commit == outcome.head
    git(host.mirror(shop.bare), "fsck")


def test_a_broken_mirror_is_kept_while_the_server_is_away(host: Host, shop: Repo) -> None:
    """Only a whole new mirror replaces a broken one, and builds that borrow from it go on."""
    outcome = host.checkout(shop.bare)
    mirror = host.mirror(shop.bare)
    (mirror / "config").write_text("[core\n")
    shop.bare.rename(shop.bare.with_name("away"))
    failed = host.checkout(shop.bare, workspace="2")
    shop.bare.with_name("away").rename(shop.bare)

    assert 1 == failed.code
    assert f"there is no git repository at {shop.bare}" in failed.error
    assert "Open the shop" == git(outcome.workspace, "log", "-1", "--format=%s")
    assert 0 == host.checkout(shop.bare, workspace="2").code
    assert "Open the shop" == git(outcome.workspace, "log", "-1", "--format=%s")


def test_many_packs_become_few(host: Host, shop: Repo) -> None:
    """A mirror of years stays quick, and loses no object while it is tidied."""
    host.checkout(shop.bare)
    mirror = host.mirror(shop.bare)
    lonely = git(mirror, "commit-tree", "-m", "nobody shows me", "main^{tree}")
    blobs = [git(mirror, "hash-object", "-w", "--stdin", stdin=f"{n}") for n in range(55)]
    for name in (lonely, *blobs):
        git(mirror, "pack-objects", "-q", "objects/pack/pack", stdin=name)
    git(mirror, "prune-packed")
    commit = shop.commit("new")

    outcome = host.checkout(shop.bare, commit=commit, branch="main")

    assert "tidying the mirror\n" in outcome.log
    assert len(list(mirror.glob("objects/pack/*.pack"))) < 5
    for name in (lonely, *blobs):
        git(mirror, "cat-file", "-e", name)
    assert lonely == host.checkout(shop.bare, commit=lonely).head


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    path = tmp_path / "small"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        missing("the right to mount a tmpfs")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_named(small_disk: Path, shop: Repo) -> None:
    """A disk too small ends with that sentence, and no checkout.json claims otherwise."""
    a_big_change(shop, 1)

    outcome = Host(small_disk).checkout(shop.bare)

    assert checkout.NO_ROOM == outcome.code
    assert "No space left on device" in outcome.error
    assert "make room on this disk\n" in outcome.error
    assert outcome.result is None
