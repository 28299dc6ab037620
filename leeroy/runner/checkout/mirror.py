# ruff: noqa: PTH103, PTH104, PTH108, PTH112, PTH114, PTH118, PTH120, PTH123, PTH208
# importing pathlib would take 3 ms of every checkout
"""
The bare mirror of one repository, shared by every checkout on this host.

It only ever grows: its objects are never thrown away, for workspaces borrow
them.  Everything that writes to it holds the lock beside it, and the fetches
inherit that lock, so whoever gets it knows that no older fetch is still alive
and what such a one left half done may be cleaned away.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess

from .git import say
from .trouble import Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .git import Git

HEADS = "+refs/heads/*:refs/heads/*"
TAGS = "+refs/tags/*:refs/tags/*"
MANY_PACKS = 50


class Mirror:
    """The mirror at *path*; use it in a `with`, which holds its lock."""

    def __init__(self, path: str, git: Git) -> None:
        self.path = path
        self.git = git
        self._lock = -1

    def __enter__(self) -> Mirror:
        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        self._lock = os.open(self.path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another build is fetching this repository; waiting for it")
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            if os.pread(self._lock, 1, 0):
                say("an earlier fetch was cut off; cleaning up after it")
                self._clean()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    @property
    def exists(self) -> bool:
        """Whether there is a mirror at all."""
        return os.path.isdir(self.path)

    @property
    def default_branch(self) -> str | None:
        """The branch the remote's HEAD named when it was last asked; None if it named none."""
        try:
            with open(os.path.join(self.path, "HEAD"), encoding="utf-8") as file:
                head = file.read().strip()
        except (OSError, UnicodeDecodeError):
            return None
        return (
            head.removeprefix("ref: refs/heads/") if head.startswith("ref: refs/heads/") else None
        )

    def look(self, *names: str) -> list[str | None]:
        """The commit each name leads to (tags are peeled), None where there is none."""
        asked = "".join(f"{name}^{{commit}}\n" for name in names)
        answer = self.git.local(
            self.path,
            "cat-file",
            "--batch-check=%(objectname)",
            stdin=asked,
            doing="reading the mirror",
        )
        lines = answer.split("\n")[: len(names)]
        return [line if re.fullmatch(r"[0-9a-f]{40,64}", line) else None for line in lines]

    def find(self, short: str) -> str | None:
        """
        The one commit whose name begins with *short*.

        Raises:
            Trouble: Several do.
        """
        # not `short^{commit}`: a branch of that name would win
        names = self.git.local(
            self.path, "rev-parse", f"--disambiguate={short}", doing="reading the mirror"
        ).split()
        commits = sorted({commit for commit in self.look(*names) if commit})
        if len(commits) > 1:
            raise Trouble(
                f"{len(commits)} commits begin with {short}; give more digits: "
                + ", ".join(commit[:12] for commit in commits[:5])
            )
        return commits[0] if commits else None

    def create(self) -> None:
        """
        Clone the repository, in place of a broken mirror if there is one.

        The old one goes only when the new one is whole, and the new one takes
        its path: workspaces that borrow from it find their objects again.
        """
        new, old = self.path + ".new", self.path + ".old"
        say(f"cloning {self.git.address.url}")
        for leftover in (new, old):
            remove(leftover)
        try:
            self.git.remote(
                *("clone", "--bare", "--no-local", "--template=", "--progress", "--end-of-options"),
                *(self.git.address.url, new),
                keep=self._lock,
            )
        except Trouble as problem:
            # nothing of ours is broken then, so nothing of ours can be mended
            kind = "final" if problem.kind == "damage" else problem.kind
            raise Trouble(str(problem), kind) from None
        if os.path.lexists(self.path):
            os.rename(self.path, old)
        os.rename(new, self.path)
        remove(old)

    def fetch(self, *refspecs: str, prune: bool = False, tags: bool = True) -> None:
        """
        Fetch *refspecs*; a kill leaves the refs as they were or as they are to be.

        Raises:
            Trouble: kind "absent" if the server has no such ref.
        """
        options = ["--prune"] if prune else []
        if not tags:
            options.append("--no-tags")
        command = [
            *(f"--git-dir={self.path}", "fetch", "--progress", "--no-write-fetch-head", *options),
            *("--end-of-options", self.git.address.url, *refspecs),
        ]
        os.pwrite(self._lock, b"fetching\n", 0)
        try:
            self.git.remote(*command, keep=self._lock)
        except Trouble as problem:
            if "File exists" not in str(problem):
                raise
            self._clean()
            self.git.remote(*command, keep=self._lock)
        finally:
            os.ftruncate(self._lock, 0)

    def remember_head(self, branch: str | None) -> None:
        """Keep the default branch for checkouts that do not ask the server."""
        if branch is not None and branch != self.default_branch:
            self.git.local(
                self.path,
                "symbolic-ref",
                "HEAD",
                f"refs/heads/{branch}",
                doing="writing the mirror",
            )

    def tidy(self) -> None:
        """Make few packs of many, keeping every object; a failure does not matter."""
        packs = os.path.join(self.path, "objects", "pack")
        if sum(name.endswith(".pack") for name in os.listdir(packs)) < MANY_PACKS:
            return
        say("tidying the mirror")
        for command in (("repack", "-d", "--geometric=2", "-q"), ("pack-refs", "--all")):
            try:
                self.git.local(self.path, *command, doing="tidying the mirror")
            except Trouble as problem:
                say(str(problem))

    def _clean(self) -> None:
        """Remove what a killed git leaves: locks nobody holds, and half a pack."""
        for folder, _, names in os.walk(self.path):
            for name in names:
                if name.endswith((".lock", ".keep")) or name.startswith(
                    ("tmp_pack_", "tmp_idx_", "tmp_obj_")
                ):
                    os.unlink(os.path.join(folder, name))
        os.ftruncate(self._lock, 0)


class Answer:
    """What `ls-remote --symref` said."""

    def __init__(self, text: str) -> None:
        self.default_branch: str | None = None
        self.tips: dict[str, str] = {}
        for line in text.splitlines():
            what, _, name = line.partition("\t")
            if what.startswith("ref: refs/heads/") and name == "HEAD":
                self.default_branch = what.removeprefix("ref: refs/heads/")
            elif re.fullmatch(r"[0-9a-f]{40,64}", what):
                self.tips[name] = what

    def tip(self, ref: str) -> str | None:
        """The commit of *ref*; an annotated tag's is the one it stands on."""
        return self.tips.get(ref + "^{}") or self.tips.get(ref)


def ask(git: Git, *refs: str) -> Answer:
    """What the server says of its HEAD and of *refs*, without fetching anything."""
    return Answer(
        git.remote("ls-remote", "--symref", "--end-of-options", git.address.url, "HEAD", *refs)
    )


def remove(path: str) -> None:
    """
    Remove a file, a link or a whole folder; links are removed, never followed.

    Folders a script has closed to its owner are opened; `rm` is used because a
    tree may be deeper than Python can follow.
    """
    if not os.path.lexists(path):
        return
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        subprocess.run(
            [*command, "--", path], check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if not os.path.lexists(path):
            return
    raise Trouble(
        f"{path} cannot be removed; do files in it belong to another user? Remove it by hand"
    )
