"""
Power cuts of a whole machine, a real one as far as its kernel can tell.

See `machine` for what its disk keeps, `guest` for what happens in it.  Only
`make torture` runs this; the everyday form is test_power_cut.py.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from leeroy.db import picture
from leeroy.db.engine import Database
from leeroy.model import Event
from leeroy.proof import world
from leeroy.proof.checker import check
from leeroy.proof.history import Answer, History, Mark, Taken
from leeroy.terms import Stage
from tests import longrun
from tests.crash.guest import News, Start, unpacked
from tests.crash.machine import Machine

CUTS = 6


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.cut()


class Heard:
    """All that the guest has said, of all its starts; times are unix times."""

    def __init__(self, folder: Path) -> None:
        self.starts: list[Start] = []
        self.taken: list[Taken] = []
        self.answers: list[Answer] = []
        self.seen: dict[tuple[int, int], Event] = {}
        self.rounds = self.lost = 0  # lines that nobody synced
        self._folder = folder

    def hear(self, lines: Sequence[Sequence[str]]) -> History | None:
        """What it has said in one start; the history up to where it settled there, if it did."""
        settled = None
        for word, *rest in lines:
            if word == "start":
                self.starts.append(TypeAdapter(Start).validate_json(rest[0]))
                self.lost = self.rounds - self.starts[-1].kept
            elif word == "news":
                self._news(TypeAdapter(News).validate_json(rest[0]))
            elif word == "settled":
                settled = self._history(*map(unpacked, rest[0].split()))
            elif word == "round":
                self.rounds += 1
        return settled

    def _news(self, news: News) -> None:
        wall_s = self.starts[-1].wall_s
        self.taken += news.taken
        self.answers += [
            replace(a, asked_at=a.asked_at + wall_s, answered_at=a.answered_at + wall_s)
            for a in news.answers
        ]
        self.seen |= {(event.build_id, event.seq): event for event in news.events}

    def _history(self, database: bytes, log: bytes) -> History:
        file = self._folder / f"heard{len(self.starts)}.db"
        file.write_bytes(database)
        opened = Database(f"sqlite:///{file}")
        try:
            rows = opened.read(picture.look)
        finally:
            opened.close()
        return History(
            rows=rows,
            marks=self._marks(log),
            taken=list(self.taken),
            answers=list(self.answers),
            seen=dict(self.seen),
            wall_s=0.0,
            settled=True,
        )

    def _marks(self, log: bytes) -> list[Mark]:
        """The WORLD log's; each start counts its seconds from 0."""
        found: list[Mark] = []
        part = self._folder / "heard.log"
        for start, after in pairwise([*self.starts, Start(len(log), 0.0, 0)]):
            part.write_bytes(log[start.length : after.length])
            found += [replace(mark, at=mark.at + start.wall_s) for mark in world.read(part)]
        return found


class Instants:
    """When to cut, in turn: whenever it may be, just after a deploy began, while it recovers."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._dice = machine, random.Random()
        self._recovered_s = 0.0

    def wait(self, number: int) -> None:
        """Until it is time for that cut."""
        machine, dice = self._machine, self._dice
        machine.wait("start")
        began = time.monotonic()
        if number % 3 == 2:
            # Dice: any instant of a recovery will do.
            time.sleep(dice.uniform(0, self._recovered_s))
            return
        machine.wait("settled")
        self._recovered_s = time.monotonic() - began
        if number % 3 == 1:
            machine.wait("deploy", dice.randint(1, 3))
            time.sleep(dice.uniform(0, 0.2))  # dice: any instant of a deploy will do
        else:
            machine.wait("round", dice.randint(4, 12))


@pytest.mark.timeout(7200)
def test_any_instant_is_good_enough_for_a_machine(
    machine: Machine, tmp_path: Path, gave: longrun.Tell
) -> None:
    """The power is cut again and again: no promise is broken on what the disk has kept."""
    began = time.monotonic()
    instants, heard = Instants(machine), Heard(tmp_path)
    found: list[str] = []
    judged = 0
    for number in range(CUTS + 1):
        machine.start()
        if number < CUTS:
            instants.wait(number)
        else:
            machine.wait("settled")
        machine.cut()
        history = heard.hear(machine.said())
        if history is not None:
            judged += 1
            found += [f"start {number}: {violation}" for violation in check(history)]
    assert history is not None
    moves = Counter(event.move for events in history.rows.events.values() for event in events)
    gave(
        "power cuts of a machine, and how often its history was judged",
        rounds=judged,
        kills=CUTS,
        builds=len(history.rows.builds),
        deploys=len({mark.run for mark in history.marks if mark.stage is Stage.deploy}),
        violations=len(found),
        seconds=time.monotonic() - began,
    )
    print(f"\n{heard.lost} of {heard.rounds} lines lost that nobody synced; {dict(moves)}")
    assert [] == found
    assert heard.lost > 0, "what nobody has synced is lost, or it was no power cut"
    assert moves["lose"] > 0, "no cut was in a deploy"
    assert moves["fail"] == 0, "nothing there fails of itself"
    assert history.seen and any(taken.delivery for taken in history.taken)
