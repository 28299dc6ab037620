"""A mixed load that goes on and on, who is killed meanwhile, and what must not grow."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from leeroy.errors import LeeroyError, NotPossible
from leeroy.proof import world
from leeroy.proof.history import Frozen, Taken
from leeroy.proof.installation import SHOP, Installation
from leeroy.proof.people import People
from leeroy.terms import State
from tests.sinks import JsonSink

TOLD_TOO = '[[notify]]\nto = "{there}"\non = ["deploy_pending", "queued", "done", "failed"]\n'
RED = """
[[test]]
name = "unit"
run = '''{script}'''
[[deploy]]
environment = "nowhere"
run = '''{script}'''
"""


class Crowd(People):
    """
    Everybody at once: pushes, deliveries that come twice, red tests, stops, holds, freezes.

    The two *sinks* are targets that are well, hang, or answer 500, as it comes.
    """

    def __init__(
        self, there: Installation, dice: random.Random, sinks: Sequence[JsonSink], open_builds: int
    ) -> None:
        super().__init__(there, dice)
        self._sinks = sinks
        self._open = open_builds
        self._frozen: Frozen | None = None
        self._held: set[int] = set()
        self.holds = 0
        more = "".join(TOLD_TOO.replace("{there}", sink.url) for sink in sinks)
        there.define("shop", SHOP + more)
        red = RED.replace("{script}", world.script(there.log, code=1), 1)
        there.define("red", red + more)

    def use(self) -> None:
        self.redeliver()
        roll = self.dice.random()
        waiting = self.unfinished()
        if len(waiting) < self._open:
            if roll < 0.5:
                self.deliver()
            else:
                self.trigger("tool" if roll < 0.8 else "red")
        for build in waiting:
            self._about(int(build["id"]), State(build["state"]))
        if roll < 0.1:
            self._deliver_twice()
        if roll < 0.05 and self._frozen is None:
            self._freeze()
        elif self._frozen is not None and roll < 0.3:
            self.thaw()
        if roll > 0.9:
            self._moods()

    def _about(self, number: int, state: State) -> None:
        if state is State.interrupted:
            self.resolve(number)
        elif self.dice.random() < 0.02:
            self.cancel(number)
        elif state is State.deploy_pending and self.dice.random() < 0.1:
            with contextlib.suppress(NotPossible):
                self._held.add(number)
                self.there.call("hold", id=number, reason="lunch")
                self.holds += 1
        elif number in self._held and self.dice.random() < 0.1:
            self._let_go(number)

    def _let_go(self, number: int) -> None:
        with contextlib.suppress(NotPossible):
            where = self.there.call("show", id=number)["environment"]
            self.there.call("approve", id=number, environment=where)
        self._held.discard(number)

    def _deliver_twice(self) -> None:
        known = [taken.delivery for taken in self.taken if taken.delivery is not None]
        if known:
            delivery = self.dice.choice(known[-20:])
            builds = self.there.push(delivery)
            if builds is not None:
                self.taken.append(Taken(delivery=delivery, builds=builds))

    def _freeze(self) -> None:
        # Noted first: a freeze whose answer is lost is lifted like any other.
        self._frozen = Frozen(pipeline="shop", environment="production", answered_at=float("inf"))
        self.there.call("freeze", which="shop/production", reason="a look")
        self._frozen = replace(self._frozen, answered_at=world.now())

    def thaw(self) -> None:
        """Lift the freeze, if there is one."""
        if self._frozen is not None:
            if self._frozen.thawed_at is None:
                self._frozen = replace(self._frozen, thawed_at=world.now())
            with contextlib.suppress(NotPossible):  # it never was frozen, or was thawed unheard
                self.there.call("thaw", which="shop/production")
            self.freezes.append(self._frozen)
            self._frozen = None

    def _moods(self) -> None:
        sink = self.dice.choice(list(self._sinks))
        mood = self.dice.choice(["well", "well", "hangs", "sick"])
        sink.status = 500 if mood == "sick" else 200
        sink.hang() if mood == "hangs" else sink.up()

    def make_well(self) -> None:
        """Every target is well again, and nothing is kept from going on."""
        for sink in self._sinks:
            sink.status = 200
            sink.up()
        self.thaw()
        for number in list(self._held):
            with contextlib.suppress(LeeroyError):
                self._let_go(number)


class Killer:
    """Kills what it is told to, until a moment; `kills` counts them."""

    def __init__(self, crowd: Crowd, dice: random.Random) -> None:
        self._crowd = crowd
        self._there = crowd.there
        self._dice = dice
        self._pause = threading.Event()  # never set: a pause that nothing cuts short
        self.kills = 0
        self.servers = 0

    def go_on(self, seconds: float, every_s: float, *, servers: bool, gauge: Gauge) -> None:
        """One kill about *every_s* seconds; of servers too, or of what is below them only."""
        until = time.monotonic() + seconds
        following = time.monotonic() + every_s * self._dice.uniform(0.3, 1.0)
        while time.monotonic() < until:
            if self._crowd.errors:
                raise self._crowd.errors[0]
            self._pause.wait(min(0.25, every_s))
            gauge.look(self._there, steady=not servers)
            if time.monotonic() >= following:
                following = time.monotonic() + every_s * self._dice.uniform(0.5, 1.5)
                self._kill(servers=servers)

    def _kill(self, *, servers: bool) -> None:
        there = self._there
        if servers and (not self.servers or self._dice.random() < 0.4):
            there.end(signal.SIGKILL)
            self.kills += 1
            self.servers += 1
            self._crowd.look()
            there.up()
        else:
            victims = there.parents() if self._dice.random() < 0.2 else there.supervisors()
            self.kills += there.kill(victims[:1])


@dataclass(frozen=True)
class Sample:
    """A server at one moment: memory in KiB, open files, threads, children nobody waited for."""

    memory: int
    files: int
    threads: int
    zombies: int


class Gauge:
    """Looks at a server again and again, and says what grew."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.wal = 0

    def look(self, there: Installation, *, steady: bool) -> None:
        """One look; only those at a server that nobody kills are compared."""
        wal = there.folder / "var" / "leeroy.db-wal"
        if wal.exists():
            self.wal = max(self.wal, wal.stat().st_size)
        if steady:
            self.samples.append(sample(there.pid))

    def grown(self) -> list[str]:
        """What is more in the last third of the time than its first third explains."""
        third = max(len(self.samples) // 3, 1)
        found = []
        for name, allowed in (("memory", 32_768), ("files", 24), ("threads", 12)):
            first = max(getattr(s, name) for s in self.samples[:third])
            last = max(getattr(s, name) for s in self.samples[-third:])
            if last > 1.25 * first + allowed:
                found.append(f"{name}: {first} at first, {last} in the end")
        if min(s.zombies for s in self.samples[-third:]) > 0:
            found.append("children that nobody waits for")
        if self.wal > 64 << 20:
            found.append(f"the write-ahead log: {self.wal} bytes")
        return found


def sample(pid: int) -> Sample:
    """What /proc says of a process now."""
    folder = Path(f"/proc/{pid}")
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    zombies = 0
    for task in (folder / "task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                stat = Path(f"/proc/{child}/stat").read_text()
                zombies += stat.rpartition(")")[2].split()[0] == "Z"
    return Sample(
        memory=int(status["VmRSS"].split()[0]),
        files=sum(1 for _ in (folder / "fd").iterdir()),
        threads=int(status["Threads"]),
        zombies=zombies,
    )
