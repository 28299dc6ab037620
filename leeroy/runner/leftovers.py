"""
What is provably left of a run whose supervisor died, and its end.

Provably: the process was started after the supervisor, on this boot, and its
environment names the run and the run's directory; or the parent saw it become
an orphan of that supervisor (its environment may say what it likes then); or
it is a descendant of such a one.  Anything else is not touched.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from leeroy.runner import process, rundir, tree, wire

_TWICE = 2
_BETWEEN_MS = 5


def clear(directory: str, run_id: str, claimed: rundir.Supervised | None, within_s: float) -> bool:
    """
    Kill what is left of the run; True once nothing of it is alive.

    False: something could not be ended within *within_s* seconds (it is
    stuck in the kernel, or has become another user's); ask again later.
    """
    if claimed is not None and claimed.place != process.place():
        # Another boot.  Or another pid namespace: a container that was replaced took all its
        # processes with it, and the lock on the data keeps a second one from living beside us.
        return True
    since = 0 if claimed is None else claimed.started
    deadline = time.monotonic() + within_s
    clean = 0
    while clean < _TWICE:
        # A process has no readable environment while it executes another program, so one look
        # that finds nothing is not enough.
        found = members(directory, run_id, since)
        if found:
            clean = 0
            if time.monotonic() > deadline:
                return False
            _kill(directory, run_id, since, found)
        else:
            clean += 1
        select.select([], [], [], _BETWEEN_MS / 1000)
    return True


def members(directory: str, run_id: str, since: int) -> dict[int, int]:
    """The living processes that provably belong to the run: start time (ticks) by pid."""
    marks = {b"LEEROY_RUN=" + os.fsencode(run_id), b"LEEROY_RUN_DIR=" + os.fsencode(directory)}
    noted = _noted(directory)
    me = os.getpid()
    found: dict[int, int] = {}
    others: dict[int, process.Stat] = {}
    for pid in tree.everyone():
        seen = process.stat(pid)
        if seen is None or not seen.alive or seen.started < since or pid == me:
            continue
        if noted.get(pid) == seen.started or _is_marked(pid, marks):
            found[pid] = seen.started
        else:
            others[pid] = seen
    more = True
    while more:
        more = False
        for pid, seen in list(others.items()):
            if seen.parent in found:
                found[pid] = seen.started
                del others[pid]
                more = True
    return found


def _is_marked(pid: int, marks: set[bytes]) -> bool:
    try:
        text = process.read(f"/proc/{pid}/environ", 1 << 20)
    except OSError:
        return False
    return marks <= set(text.split(b"\0"))


def _noted(directory: str) -> dict[int, int]:
    try:
        text = process.read(f"{directory}/{wire.ORPHANS}", 1 << 20)
    except OSError:
        return {}
    lines = (line.split() for line in text.splitlines())
    return {int(words[0]): int(words[1]) for words in lines if len(words) == 2}


def _kill(directory: str, run_id: str, since: int, found: dict[int, int]) -> None:
    held: dict[int, int] = {}
    try:
        # Stopped first, until nobody new shows up: what is stopped forks no more.
        while new := {pid: at for pid, at in found.items() if pid not in held}:
            for pid, started in new.items():
                fd = process.opened(pid, started)
                if fd is not None:
                    held[pid] = fd
                    process.send(fd, signal.SIGSTOP)
            if not held.keys() & new.keys():
                break
            found = members(directory, run_id, since)
        poll = select.poll()
        for fd in held.values():
            if process.send(fd, signal.SIGKILL):
                poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(100):
            poll.unregister(fd)
    finally:
        for fd in held.values():
            with contextlib.suppress(OSError):
                os.close(fd)
