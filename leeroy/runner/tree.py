"""
The descendants of a supervisor, and how they are ended.

A supervisor is a subreaper: whatever its script forks, daemonises or hides in
a session of its own stays its descendant.  So "no child left" (ECHILD) means
"nothing of the tree left", and a walk down /proc finds every member.

A member is signalled through a pidfd, and only after a look at /proc has shown,
with the pidfd already in hand, that its parent is a member too: a number that
was given to a stranger in the meantime is left alone.
"""

from __future__ import annotations

import os
import signal

from leeroy.runner import process

_TICKS_OF_STOPPING = 50  # passes over the tree before what is stopped so far is killed


def children(pid: int | str) -> list[int]:
    """The children of a process, of all its threads; empty when it is gone."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            text = process.read(f"/proc/{pid}/task/{thread}/children", 1 << 20)
        except FileNotFoundError:
            continue
        except OSError:
            continue
        found.extend(map(int, text.split()))
    return found


def everyone() -> list[int]:
    """Every process there is to see."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def descendants(root: int) -> list[int]:
    """Every process below *root*, parents first; those that come and go meanwhile may be missed."""
    if not os.path.exists(f"/proc/{root}/task/{root}/children"):
        return _descendants_by_parent(root)
    found: list[int] = []
    seen = {root}
    front = children(root)
    while front:
        front = [pid for pid in front if pid not in seen]
        seen.update(front)
        found.extend(front)
        front = [child for pid in front for child in children(pid)]
    return found


def _descendants_by_parent(root: int) -> list[int]:
    # For kernels that were built without the `children` files.
    below: dict[int, list[int]] = {}
    for pid in everyone():
        seen = process.stat(pid)
        if seen is not None:
            below.setdefault(seen.parent, []).append(pid)
    found: list[int] = []
    front = below.get(root, [])
    while front:
        found.extend(front)
        front = [child for pid in front for child in below.get(pid, [])]
    return found


def signal_all(root: int, *numbers: int, but: set[int] | None = None) -> set[int]:
    """
    Send *numbers* to every descendant of *root* that is alive.

    Members in *but* are passed over.  Returns the pids that got the signals.
    """
    members = descendants(root)
    known = {root, *members}
    sent: set[int] = set()
    for pid in members:
        if but is not None and pid in but:
            continue
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            seen = process.stat(pid)
            if seen is None or not seen.alive or seen.parent not in known:
                continue
            # A list: every signal is sent, also after one that failed.
            if all([process.send(fd, number) for number in numbers]):  # noqa: C419
                sent.add(pid)
        finally:
            os.close(fd)
    return sent


def kill(root: int) -> None:
    """
    Kill every descendant of *root* that can be found now.

    All are stopped first, again and again until no new one shows up: what is
    stopped forks nothing more, and nobody sees a child die and makes another.
    Then each one's whole process group is killed: its number cannot have been
    given away while a stopped member keeps it, and one call reaches what was
    forked since.
    """
    stopped: set[int] = set()
    for _ in range(_TICKS_OF_STOPPING):
        new = signal_all(root, signal.SIGSTOP, but=stopped)
        if not new:
            break
        stopped |= new
    groups = {
        seen.group
        for seen in map(process.stat, stopped)
        if seen is not None and seen.state in "Tt" and seen.group != os.getpgrp()
    }
    for group in groups:
        if group > 1:
            try:
                os.killpg(group, signal.SIGKILL)
            except OSError:
                continue
    signal_all(root, signal.SIGKILL)
