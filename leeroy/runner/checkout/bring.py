"""Which commit is wanted, and how little must be fetched to have it in the mirror."""

from __future__ import annotations

import threading
from contextlib import suppress

from . import mirror as mirrors
from .git import say
from .mirror import HEADS, TAGS
from .trouble import Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .mirror import Answer, Mirror
    from .wish import Wish


def bring(mirror: Mirror, wish: Wish) -> str:
    """
    The full name of the wanted commit, which is whole in the mirror from now on.

    The network is left alone when a commit with all its digits is in the
    mirror already, together with the branch or tag it was asked for by; for a
    deploy the commit alone is enough.

    Raises:
        Trouble: The server has no such commit, or could not be asked.
    """
    new = not mirror.exists
    if new:
        mirror.create()
    elif wish.commit and (wish.whole or wish.from_mirror) and (commit := _here(mirror, wish)):
        say(f"commit {commit[:12]} is in the mirror already; nothing is fetched")
        return commit
    commit = _exact(mirror, wish, new) if wish.commit else _newest(mirror, wish, new)
    mirror.tidy()
    return commit


def _here(mirror: Mirror, wish: Wish) -> str | None:
    assert wish.commit is not None
    if not wish.whole:
        return mirror.find(wish.commit)
    if (
        wish.ref is None
        or wish.from_mirror
        or not wish.ref.startswith(("refs/heads/", "refs/tags/"))
    ):
        return mirror.look(wish.commit)[0]
    commit, ref = mirror.look(wish.commit, wish.ref)
    return commit if ref else None


def _exact(mirror: Mirror, wish: Wish, new: bool) -> str:
    """The wish's very commit, whatever its branch or tag shows by now."""
    assert wish.commit is not None
    url = mirror.git.address.url
    if new and (commit := _found(mirror, wish)):
        return commit
    with _DefaultBranch(mirror, idle=new):
        if wish.ref and not (new and wish.ref.startswith(("refs/heads/", "refs/tags/"))):
            say(f"fetching {wish.ref} from {url}")
            try:
                mirror.fetch(f"+{wish.ref}:{wish.ref}")
            except Trouble as problem:
                if problem.kind not in ("absent", "conflict"):
                    raise
            if commit := _found(mirror, wish):
                return commit
        if not new:
            say(f"fetching every branch and tag from {url}")
            mirror.fetch(HEADS, TAGS, prune=True)
            if commit := _found(mirror, wish):
                return commit
        if wish.whole:
            say(f"fetching {wish.what} by its name from {url}")
            with suppress(_Absent):
                _fetch(mirror, wish.commit)
            if commit := _found(mirror, wish):
                return commit
    raise Trouble(f"{wish.what} is not in {url} any more: was it force-pushed away?", "absent")


def _newest(mirror: Mirror, wish: Wish, new: bool) -> str:
    """What the wish's branch, tag or pull request shows now; without any, the remote's HEAD."""
    url, ref = mirror.git.address.url, wish.ref
    if new and (ref is None or ref.startswith(("refs/heads/", "refs/tags/"))):
        commit = mirror.look(ref or "HEAD")[0]
        if commit is None:
            raise _missing(wish, url)
        return commit
    answer = mirrors.ask(mirror.git, *([ref, ref + "^{}"] if ref else []))
    mirror.remember_head(answer.default_branch)
    tip = answer.tip(ref or "HEAD")
    if tip is None:
        raise _missing(wish, url)
    source = ref or (f"refs/heads/{answer.default_branch}" if answer.default_branch else None)
    commit, known = mirror.look(tip, source or tip)
    if commit and known:
        say(f"{wish.what} is {commit[:12]}, which is in the mirror already; nothing is fetched")
        return commit
    say(f"fetching {wish.what} from {url}")
    try:
        _fetch(mirror, f"+{source}:{source}" if source else "HEAD")
    except _Absent:
        raise _missing(wish, url) from None
    # the branch may have moved on since the answer: what was fetched counts
    commit = mirror.look(source or tip)[0]
    if commit is None:
        raise Trouble(
            f"{wish.what} of {url} does not lead to a commit, so it cannot be checked out"
        )
    return commit


class _Absent(Exception):
    """The server has no such ref."""


def _fetch(mirror: Mirror, refspec: str) -> None:
    """Fetch one ref, and everything when a ref that is gone by now is in its way (a, then a/b)."""
    try:
        mirror.fetch(refspec)
    except Trouble as problem:
        if problem.kind == "absent":
            raise _Absent from None
        if problem.kind != "conflict":
            raise
        mirror.fetch(HEADS, TAGS, prune=True)
        mirror.fetch(refspec)


def _found(mirror: Mirror, wish: Wish) -> str | None:
    assert wish.commit is not None
    return mirror.look(wish.commit)[0] if wish.whole else mirror.find(wish.commit)


def _missing(wish: Wish, url: str) -> Trouble:
    if wish.ref is None:
        return Trouble(
            f"{url} shows no commit: it is empty, or its default branch does not exist; "
            "push a commit to it, or name a branch",
            "absent",
        )
    return Trouble(f"{url} has no {wish.what}; was it deleted, or never pushed?", "absent")


class _DefaultBranch:
    """Asks the server for its default branch while the fetch runs, and remembers the answer."""

    def __init__(self, mirror: Mirror, *, idle: bool) -> None:
        self._mirror = mirror
        self._answer: Answer | None = None
        # daemon: a program that is told to end does not wait for the server's answer
        self._thread = None if idle else threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> None:
        if self._thread:
            self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._thread and kind is None:
            self._thread.join()
            if self._answer:
                self._mirror.remember_head(self._answer.default_branch)

    def _ask(self) -> None:
        # the fetch tells of the same trouble; without an answer the branch known so far stays
        with suppress(Trouble, OSError):
            self._answer = mirrors.ask(self._mirror.git)
