"""
What the server, the parent and the supervisors must agree on: names and messages.

Standard library only, and little of it: every supervisor is a fork of a
process that imports this.
"""

from __future__ import annotations

FORMAT = 1
"""The version of the run directory, in spec.json, begin and result.json."""

SPEC = "spec.json"
SCRIPT = "script"
LOCK = "lock"  # held by the supervisor as long as it lives; its text says who that is
BEGIN = "begin"  # a hard link to `lock` (the script began) or of `revoked` (it never will)
REVOKED = "revoked"  # and who revokes: the file is there for a moment only
STOP = "stop"  # somebody asked to stop the run; its text says why
OUTPUT = "output."  # and the offset of the file's first byte
PENDING = "result.tmp"
RESULT = "result.json"
ORPHANS = "orphans"  # what a dead supervisor left behind, as its parent saw it

RESERVED = frozenset({SPEC, SCRIPT, LOCK, BEGIN, STOP, PENDING, RESULT, ORPHANS})

START_WINDOW_S = 5.0
"""A supervisor that has not begun by then gives up; the run stays unbegun."""

# Why a script that was executed did not simply end; None: by itself.
TIMEOUT = "timeout"
STOPPED = "stopped"  # Leeroy asked: SIGUSR1, or the file STOP
OUTSIDE = "ended from outside by SIGTERM"  # the supervisor got a SIGTERM, which Leeroy never sends

SOCKET = 3
"""The parent's end of the socket pair, in the parent."""

# Messages, one per packet: a letter, then a run id.
READY = b"r"  # parent: I take launches
ENDED = b"e"  # supervisor: result.json is written
GONE = b"g"  # parent: the supervisor is no more, or never was; look yourself
BUSY = b"b"  # parent: another supervisor holds the run's lock


def launch(at: float, run_id: str) -> bytes:
    """The server's order to start a run; *at* is the boot clock's time of the decision."""
    return b"%.6f %s" % (at, run_id.encode())


def parse_launch(message: bytes) -> tuple[float, str]:
    """What `launch` packed."""
    at, _, run_id = message.partition(b" ")
    return float(at), run_id.decode()


def identity(pid: int, started: int, place: str) -> bytes:
    """What a supervisor writes into its lock: enough to know it again after a restart."""
    return b"%d supervisor %d %d %s\n" % (FORMAT, pid, started, place.encode())


def parse_identity(text: bytes) -> tuple[int, int, str] | None:
    """(pid, start time in ticks, place) of a supervisor; None if the text is not (yet) whole."""
    words = text.split()
    if len(words) != 5 or words[1] != b"supervisor" or not text.endswith(b"\n"):
        return None
    return int(words[2]), int(words[3]), words[4].decode()
