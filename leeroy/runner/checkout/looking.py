"""
What a repository's branches and tags show, for who compares them with what he saw before.

Both answers are data for another program.  A name that git would not accept,
or that is no text, is left out; an answer without end is refused.
"""

from __future__ import annotations

import re

from . import address
from .mirror import HEADS, TAGS, Mirror
from .trouble import Trouble
from .workspace import Picture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .git import Git
    from .wish import Wish

MOST_BYTES = 16 << 20
MOST_REFS = 50_000
LONGEST_NAME = 1_000
"""As long as the name in a delivery may be."""
MOST_PASSED_OVER = 1_000
_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")


def refs(git: Git) -> dict[str, Any]:
    """
    `{"refs": {full name: commit}}` of every branch and tag; annotated tags are peeled.

    Raises:
        Trouble: The server did not answer, or with more than anybody can look at.
    """
    answer = git.remote(
        *("ls-remote", "--heads", "--tags", "--end-of-options", git.address.url), most=MOST_BYTES
    )
    found: dict[str, str] = {}
    for line in answer.split("\n"):
        commit, _, name = line.partition("\t")
        name = name.removesuffix("^{}")  # comes after the tag's own line, and wins
        if _COMMIT.match(commit) and _is_watched(name):
            found[name] = commit
    if len(found) > MOST_REFS:
        raise Trouble(
            f"{git.address.url} has {len(found)} branches and tags, and Leeroy compares at most "
            f"{MOST_REFS}; remove old ones"
        )
    return {"refs": found}


def _is_watched(name: str) -> bool:
    return (
        name.startswith(("refs/heads/", "refs/tags/"))
        and len(name) <= LONGEST_NAME
        and "\ufffd" not in name  # what stood there was no text
        and address.is_ref(name)
    )


def heads(git: Git, wish: Wish) -> dict[str, Any]:
    """
    `{"heads": {full name: what it shows}}` of the wish's heads, fetched into the mirror.

    What it shows is None when that commit is not to be had any more (the ref
    moved on), or when it is no commit: then `{"commit": None}`.  `passed_over`
    are the commits between the ones it was seen at before and this one.
    """
    with Mirror(wish.mirror, git) as mirror:
        if not mirror.exists:
            mirror.create()
        names = [commit for _, commit, _ in wish.heads]
        if not all(mirror.look(*names)):
            mirror.fetch(HEADS, TAGS, prune=True)
            mirror.tidy()
        return {
            "heads": {ref: _head(git, mirror, commit, before) for ref, commit, before in wish.heads}
        }


def _head(git: Git, mirror: Mirror, name: str, before: list[str]) -> dict[str, Any] | None:
    commit = mirror.look(name)[0]
    if commit is None:
        there = git.local(
            mirror.path, "cat-file", "--batch-check", stdin=f"{name}\n", doing="reading the mirror"
        )
        return None if there.rstrip().endswith("missing") else {"commit": None}
    shown = git.local(
        mirror.path,
        *("log", "--max-count=1", "--no-color", "--format=%ct%x00%H%x00%an%x00%ae%x00%B"),
        *("--end-of-options", commit, "--"),
        doing="reading the commit",
    )
    at, _, rest = shown.partition("\0")
    picture = Picture(rest)
    known = [f"^{one}" for one in before if mirror.look(one)[0]]
    passed_over: list[str] = []
    if known:
        passed_over = git.local(
            mirror.path,
            *("rev-list", f"--max-count={MOST_PASSED_OVER}", "--end-of-options", commit, *known),
            "--",
            doing="reading the mirror",
        ).split()
    return {
        "commit": commit,
        "at": int(at),
        "message": picture.message,
        "author": picture.author,
        "author_email": picture.author_email,
        "passed_over": [one for one in passed_over if one != commit],
    }
