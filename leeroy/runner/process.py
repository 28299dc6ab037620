"""
Facts about processes, from /proc; and the few Linux calls Python does not have.

Standard library only: parent and supervisor use it.
"""

from __future__ import annotations

import ctypes
import os
import signal

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


class Stat:
    """One look at a process: `state` is the kernel's letter, `started` ticks since the boot."""

    __slots__ = ("group", "parent", "session", "started", "state")

    def __init__(self, state: str, parent: int, group: int, session: int, started: int) -> None:
        self.state = state
        self.parent = parent
        self.group = group
        self.session = session
        self.started = started

    @property
    def alive(self) -> bool:
        """Whether it can still do something: a zombie cannot."""
        return self.state not in "ZX"


def read(path: str, size: int = 4096) -> bytes:
    """The beginning of a small file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def stat(pid: int | str) -> Stat | None:
    """The process as it is now; None when there is none."""
    try:
        text = read(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The name before the last ")" may hold anything, spaces and brackets too.
    words = text[text.rfind(b")") + 2 :].split()
    if len(words) < 20:
        return None
    return Stat(words[0].decode(), int(words[1]), int(words[2]), int(words[3]), int(words[19]))


def boot() -> str:
    """The boot's id: a pid of another boot means nothing."""
    return read("/proc/sys/kernel/random/boot_id").decode().strip()


def place() -> str:
    """Where a pid means the same process: the boot and the pid namespace."""
    return f"{boot()}/{os.stat('/proc/self/ns/pid').st_ino}"


def opened(pid: int, started: int) -> int | None:
    """
    A pidfd of exactly the process that had this pid and start time; the caller closes it.

    None when that process is gone, whoever has its number now.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    # Looked at after the pidfd was taken: if it matches, the pidfd cannot be a later process's.
    seen = stat(pid)
    if seen is None or seen.started != started or not seen.alive:
        os.close(fd)
        return None
    return fd


def send(pidfd: int, number: int) -> bool:
    """Send a signal; False when the process is gone or is not ours to signal."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    return True


def adopt_orphans() -> None:
    """Make every orphaned descendant of this process its child (a subreaper; not inherited)."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def keep_private() -> None:
    """Keep processes of the same user from reading this one's memory (inherited, until an exec)."""
    _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def name(text: bytes) -> None:
    """What `ps` shows as the process's name: 15 bytes."""
    _LIBC.prctl(_PR_SET_NAME, text, 0, 0, 0)
