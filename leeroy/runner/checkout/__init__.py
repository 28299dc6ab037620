# ruff: noqa: PTH100, PTH118, PTH120
# importing pathlib would take 3 ms of every checkout
"""
Bring the exact commit of a build into a fresh workspace.

The work is done by a program of its own, so that it can be supervised, logged
and killed like every other step.  This module is the server's side of it: it
writes the request and names the command, and touches neither git nor network.
The program is standard library only and imports nothing else of Leeroy.

    <run directory>/checkout-request.json   what to check out, with the credentials (0600)
    <run directory>/checkout.json           what was checked out; there only after a success
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

REQUEST = "checkout-request.json"
RESULT = "checkout.json"
TOO_LATE = 124
"""The exit code when the deadline of a request is over."""
NOT_INSTALLED = 69
"""The exit code when this machine lacks a program."""
NO_ROOM = 74
"""The exit code when this machine's disk does not take what was to be written."""


def mirror_of(data: str | os.PathLike[str], repository: str) -> str:
    """
    The folder of *repository*'s mirror below *data*.

    Every spelling of an address has a mirror of its own: two pipelines share
    one only when they name the repository alike.
    """
    from hashlib import sha256

    name = sha256(repository.strip().encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return os.path.join(os.fspath(data), "mirrors", name)


def request(
    *,
    repository: str,
    workspace: str | os.PathLike[str],
    mirror: str | os.PathLike[str],
    branch: str | None = None,
    tag: str | None = None,
    commit: str | None = None,
    pull_request_ref: str | None = None,
    token: str | None = None,
    ssh_key: str | None = None,
    from_mirror: bool = False,
    heads: Sequence[tuple[str, str, Sequence[str]]] = (),
    deadline_s: float | None = None,
) -> str:
    """
    The text of a request; it holds the credentials, so store it 0600.

    The commit, full or at least 7 digits of it, wins over everything else;
    without it the tag's, the pull request's or the branch's newest one is
    taken, and with none of these the remote's HEAD.  `from_mirror` (deploys)
    asks no network when the commit is in the mirror.  `heads` are for the
    mode of that name: full ref, its commit, and the commits it was seen at
    before.  After `deadline_s` the program ends by itself.
    """
    return json.dumps(
        {
            "repository": repository,
            "branch": branch,
            "tag": tag,
            "commit": commit,
            "pull_request_ref": pull_request_ref,
            "workspace": os.path.abspath(workspace),
            "mirror": os.path.abspath(mirror),
            "token": token,
            "ssh_key": ssh_key,
            "depth": None,
            "from_mirror": from_mirror,
            "heads": [list(head) for head in heads],
            "deadline_s": deadline_s,
        }
    )


def argv(
    path: str | os.PathLike[str] = REQUEST, *, online_check: bool = False, mode: str | None = None
) -> tuple[str, ...]:
    """
    The command that fulfils the request at *path*, which may be relative to $LEEROY_RUN_DIR.

    `online_check` only asks whether the repository answers, and changes
    nothing.  The modes "refs" and "heads" print one JSON object (see
    `looking`); all else they say goes to stderr.
    """
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
    # -S: the program needs nothing of site-packages, and looking there takes 3 ms
    check = ("--online-check",) if online_check else (f"--{mode}",) if mode else ()
    return (sys.executable, "-I", "-S", program, *check, os.fspath(path))


def spec_parts(
    *,
    data: str | os.PathLike[str],
    repository: str,
    workspace: str | os.PathLike[str],
    branch: str | None = None,
    tag: str | None = None,
    commit: str | None = None,
    pull_request_ref: str | None = None,
    token: str | None = None,
    ssh_key: str | None = None,
    from_mirror: bool = False,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """What the spec of a checkout step needs: its argv and its secret files (name -> content)."""
    text = request(
        repository=repository,
        workspace=workspace,
        mirror=mirror_of(data, repository),
        branch=branch,
        tag=tag,
        commit=commit,
        pull_request_ref=pull_request_ref,
        token=token,
        ssh_key=ssh_key,
        from_mirror=from_mirror,
    )
    return argv(REQUEST), {REQUEST: text}
