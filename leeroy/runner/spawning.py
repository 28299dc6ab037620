"""
How the server comes by a parent process: executed with a clean environment, and spoken to.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket as sockets
import sys
from pathlib import Path

from leeroy.runner import wire
from leeroy.runner.rundir import RunnerError

_START_S = 10.0
_ABOVE = 10  # descriptors the child's own 0 to 3 cannot collide with


class Parent:
    """
    A parent process that is ready for launches.

    `socket` is the server's end (one message per packet), `pidfd` tells its
    death.  It lives on when this object is gone, as long as it has
    supervisors.  Raises RunnerError when it does not come up.
    """

    def __init__(self, runs: Path, log: Path) -> None:
        ours, theirs = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        high = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _ABOVE)
        theirs.close()
        to_log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                [
                    *(sys.executable, "-I", "-S", "-X", "utf8"),
                    str(Path(__file__).with_name("__main__.py")),
                    str(runs),
                ],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(log), to_log, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                    (os.POSIX_SPAWN_DUP2, high, wire.SOCKET),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
            )
        except OSError as error:
            ours.close()
            raise RunnerError(f"cannot start the runner's parent process: {error}") from error
        finally:
            os.close(high)
        self.pidfd = os.pidfd_open(self.pid)
        self.socket = ours
        ours.settimeout(_START_S)
        try:
            hello = ours.recv(4096)
        except OSError:
            hello = b""
        if hello != wire.READY:
            ours.close()
            os.close(self.pidfd)
            raise RunnerError(f"the runner's parent process does not come up; {log} may tell why")
        ours.setblocking(True)

    def reap(self) -> int | None:
        """Its wait status, once it is dead; None if somebody else asked first."""
        try:
            return os.waitpid(self.pid, 0)[1]
        except ChildProcessError:
            return None
