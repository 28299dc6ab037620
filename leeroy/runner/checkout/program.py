# ruff: noqa: PTH100, PTH104, PTH118, PTH120, PTH123
# importing pathlib would take 3 ms of every checkout
"""The program: read the request, check out, leave the result.  See docs/checkout.md."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import redirect_stdout

from . import NO_ROOM, NOT_INSTALLED, RESULT, TOO_LATE, environment, looking, workspace
from . import mirror as mirrors
from . import wish as wishes
from .address import Refused
from .bring import bring
from .environment import Credentials, Private
from .git import Git, say
from .mirror import Mirror
from .trouble import Trouble, printable

MODES = ("--online-check", "--refs", "--heads")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .wish import Wish
    from .workspace import Picture


_CODES = {"room": NO_ROOM, "program": NOT_INSTALLED}


def main(args: list[str]) -> int:
    """
    Fulfil the request; 0 when the workspace shows the commit and checkout.json is there.

    Anything else ends with another code and one sentence on stderr, and no checkout.json.
    The code says whose part it was; the sentence may quote the repository's server.
    """
    mode = args[0] if args and args[0] in MODES else ""
    if len(args) != (2 if mode else 1):
        print(f"usage: checkout [{' | '.join(MODES)}] REQUEST.json", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run_dir = os.environ.get("LEEROY_RUN_DIR") or os.path.dirname(os.path.abspath(args[-1]))
    try:
        wish = wishes.read(os.path.join(run_dir, args[-1]))
        if wish.deadline_s is not None:
            signal.signal(signal.SIGALRM, _too_late)
            signal.setitimer(signal.ITIMER_REAL, wish.deadline_s)
        _fulfil(wish, run_dir, mode)
    except (Refused, Trouble) as problem:
        print(problem, file=sys.stderr)
        return _CODES.get(getattr(problem, "kind", "final"), 1)
    except OSError as exc:
        if isinstance(exc, FileNotFoundError) and exc.filename in ("git", "rm"):
            sentence = f"{exc.filename} is not installed on this machine; install it"
            code = NOT_INSTALLED
        else:
            where = f" at {exc.filename}" if exc.filename else ""
            sentence = f"the checkout failed{where}: {exc.strerror}; has this disk room and rights?"
            code = NO_ROOM
        print(sentence, file=sys.stderr)
        return code
    return 0


def _too_late(*_: object) -> None:
    """Whoever started this may be gone: it must not hang for ever by itself."""
    print("the server was not done answering within the deadline", file=sys.stderr, flush=True)
    sys.exit(TOO_LATE)


def _fulfil(wish: Wish, run_dir: str, mode: str) -> None:
    path = wish.address.path
    local = [path, os.path.join(path, ".git")] if wish.address.protocol == "file" else []
    credentials = Credentials(wish.address, wish.token, wish.ssh_key)
    if credentials.token and wish.address.protocol == "http" and not wish.address.loopback:
        say(f"warning: {wish.address.place} gets the token unencrypted; use https if it can")
    private = Private(os.path.join(run_dir, "checkout-private"))
    try:
        env = environment.make(
            wish.address,
            credentials,
            private,
            known_hosts=os.path.join(os.path.dirname(os.path.dirname(wish.mirror)), "known_hosts"),
            # who owns a local repository does not matter: the operator has named it
            safe=[wish.mirror, *local, *(os.path.realpath(name) for name in local)],
            environ=os.environ,
        )
        git = Git(wish.address, credentials, env, private.folder)
        try:
            if mode == "--online-check":
                _online_check(git)
            elif mode:
                with redirect_stdout(sys.stderr):
                    found = looking.refs(git) if mode == "--refs" else looking.heads(git, wish)
                json.dump(found, sys.stdout)
            else:
                _checkout(git, wish, run_dir)
        finally:
            git.close()
    finally:
        private.close()


def _checkout(git: Git, wish: Wish, run_dir: str) -> None:
    try:
        mirror, commit, picture = _attempt(git, wish, anew=False)
    except Trouble as problem:
        if problem.kind != "damage":
            raise
        say(f"the mirror {wish.mirror} is damaged ({problem}); cloning it anew")
        mirror, commit, picture = _attempt(git, wish, anew=True)
    default = mirror.default_branch
    branch = wish.branch or (default if wish.ref is None and wish.commit is None else None)
    author = printable(picture.author, 60)
    say(f"checked out {commit[:12]}: {printable(picture.subject, 100)} ({author})")
    _leave(
        os.path.join(run_dir, RESULT),
        {
            "commit": commit,
            "branch": branch,
            "default_branch": default,
            "message": picture.message,
            "author": picture.author,
            "author_email": picture.author_email,
        },
    )


def _attempt(git: Git, wish: Wish, *, anew: bool) -> tuple[Mirror, str, Picture]:
    mirrors.remove(wish.workspace)
    with Mirror(wish.mirror, git) as mirror:
        if anew:
            mirror.create()
        commit = bring(mirror, wish)
        workspace.borrow(git, wish.mirror, wish.workspace)
    # without the lock: a big tree must not keep the next build from fetching
    return mirror, commit, workspace.fill(git, wish.workspace, commit)


def _online_check(git: Git) -> None:
    answer = mirrors.ask(git)
    if answer.default_branch:
        say(f"{git.address.url} answers; its default branch is {answer.default_branch}")
    else:
        say(f"{git.address.url} answers; it has no default branch yet")


def _leave(path: str, result: dict[str, str | None]) -> None:
    """Write the result under another name, then rename it: it is there whole or not at all."""
    with open(path + ".tmp", "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(result, file)
    os.rename(path + ".tmp", path)
