# ruff: noqa: PTH103, PTH118, PTH120
# importing pathlib would take 3 ms of every checkout
"""A fresh working tree of one commit, with no credential and no command of anybody's in it."""

from __future__ import annotations

import os

from .trouble import Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .git import Git


LONG = 20_000
"""Characters of a commit's message that are kept; who writes more writes no message."""


class Picture:
    """The commit a workspace shows."""

    def __init__(self, text: str) -> None:
        self.commit, self.author, self.author_email, message = text.split("\0", 3)
        self.message = message.strip("\n")[:LONG]

    @property
    def subject(self) -> str:
        """The message's first line."""
        return self.message.partition("\n")[0]


def borrow(git: Git, mirror: str, workspace: str) -> None:
    """
    Make an empty workspace, where nothing is, that uses the mirror's objects.

    Its tags and origin/… branches are the mirror's, its origin is the
    repository's address without credentials.
    """
    os.makedirs(os.path.dirname(workspace), exist_ok=True)
    git.run(
        *("clone", "--quiet", "--shared", "--no-checkout", "--template=", "--end-of-options"),
        *(mirror, workspace),
        doing="making the workspace",
    )
    git.local(
        os.path.join(workspace, ".git"),
        *("config", "remote.origin.url", git.address.url),
        doing="making the workspace",
    )


def fill(git: Git, workspace: str, commit: str) -> Picture:
    """
    Check *commit* out and say what it is.

    Raises:
        Trouble: It failed, or the workspace shows something else than *commit*.
    """
    git_dir = os.path.join(workspace, ".git")
    git.local(
        git_dir,
        *("checkout", "--quiet", "--force", "--detach", commit, "--"),
        tree=workspace,
        doing=f"checking out {commit[:12]}",
    )
    shown = git.local(
        git_dir,
        *("log", "--max-count=1", "--no-color", "--format=%H%x00%an%x00%ae%x00%B", "HEAD", "--"),
        doing="reading the commit",
    )
    picture = Picture(shown)
    if picture.commit != commit:
        raise Trouble(
            f"the workspace shows {picture.commit} instead of {commit}; this is a bug of Leeroy's"
        )
    return picture
