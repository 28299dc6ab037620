"""
What runs in the machine that is cut: a Leeroy, and the people who use it.

At each start Leeroy recovers what the disk has kept, and comes to its end with
it; then it is used until the power is cut.  What is answered or seen is said
on the serial line at once: only that counts as promised.  The host judges.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import re
import sqlite3
import time
import traceback
import tty
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from leeroy.errors import LeeroyError
from leeroy.model import Event
from leeroy.proof import world
from leeroy.proof.history import Answer, Taken
from leeroy.proof.installation import Installation, phone
from leeroy.proof.people import People
from tests.crash.careful import careful, forget_half_a_line

DISK = Path("/disk")
_LINE = "/dev/ttyS1"
_PHONE = 8025
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Start:
    """
    What there is at a start.

    The length of the WORLD log, what to add to seconds since this boot for
    unix time, and how many lines that nobody had synced the disk has kept.
    """

    length: int
    wall_s: float
    kept: int


@dataclass(frozen=True)
class News:
    """What people have got to know since the last."""

    taken: list[Taken]
    answers: list[Answer]
    events: list[Event]


class Line:
    """
    The serial line to the host, which takes a line only as a whole.

    Each begins with a word: `start`, `settled`, `news`, `round` or `deploy`.
    """

    def __init__(self) -> None:
        self._fd = os.open(_LINE, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._fd)

    def say(self, *words: str) -> None:
        """One line."""
        rest = f"{' '.join(words)}\n".encode()
        while rest:
            rest = rest[os.write(self._fd, rest) :]


def text(value: Any) -> str:
    """A Start or News as JSON."""
    return TypeAdapter(type(value)).dump_json(value).decode()


def packed(data: bytes) -> str:
    """A word that `unpacked` turns into these bytes."""
    return base64.b64encode(zlib.compress(data)).decode()


def unpacked(word: str) -> bytes:
    """What `packed` was given."""
    return zlib.decompress(base64.b64decode(word))


def begin(there: Installation) -> Start:
    """Look at what the disk has, before anything runs."""
    forget_half_a_line(there.log)
    return Start(
        length=there.log.stat().st_size if there.log.exists() else 0,
        # Nearest to the truth is where nothing came between the two clocks.
        wall_s=max(time.time() - world.now() for _ in range(100)),
        kept=sum(file.read_bytes().count(b"\n") for file in DISK.glob("unsynced*")),
    )


def settle(people: People) -> tuple[bytes, bytes]:
    """Let everything come to its end; then the database, and the WORLD log."""
    there = people.there
    if not people.settle():
        said = (there.folder / "serve.log").read_text(errors="replace")
        raise AssertionError(f"not everything came to its end:\n{said[-3000:]}")
    connection = sqlite3.connect(there.database.removeprefix("sqlite:///"))
    try:
        return connection.serialize(), there.log.read_bytes() if there.log.exists() else b""
    finally:
        connection.close()


def deploys(log: Path) -> int:
    """How many have begun."""
    return len(re.findall(rb" start \d+ deploy ", log.read_bytes())) if log.exists() else 0


def use(people: People, line: Line) -> None:
    """Until the power is cut."""
    log, begun, rounds = people.there.log, deploys(people.there.log), 0
    known: set[tuple[int, int]] = set()
    with (DISK / f"unsynced{time.time_ns()}").open("w") as unsynced:
        while True:
            with contextlib.suppress(LeeroyError, OSError):  # no answer, no promise
                people.use()
            people.look()
            events = [event for key, event in people.seen.items() if key not in known]
            line.say("news", text(News(people.taken, people.answers, events)))
            people.taken, people.answers, known = [], [], set(people.seen)
            rounds += 1
            unsynced.write(f"{rounds}\n")
            unsynced.flush()
            line.say("round", str(rounds))
            if deploys(log) != begun:
                begun = deploys(log)
                line.say("deploy")
            time.sleep(_PAUSE_S)  # the pace of the people who use it, no condition


def main(line: Line) -> None:
    """One start, to its end."""
    folder = DISK / "leeroy"
    token, fresh = folder / "token", not folder.exists()
    folder.mkdir(exist_ok=True)
    with phone(_PHONE) as address:
        there = Installation(folder, address)
        if fresh:
            careful(there)
        else:
            there.token = token.read_text()
        line.say("start", text(begin(there)))
        people = People(there, random.Random())
        there.up()
        if fresh:
            token.write_text(there.token)
            os.sync()
        line.say("settled", *map(packed, settle(people)))
        use(people, line)


if __name__ == "__main__":
    try:
        main(Line())
    except BaseException:
        traceback.print_exc()
        raise SystemExit(1) from None
