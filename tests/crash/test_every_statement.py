"""The server dies at its n-th SQL statement of each move, for every n: no promise is broken."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from leeroy.errors import LeeroyError
from leeroy.proof import telling, world
from leeroy.proof.checker import check
from leeroy.proof.installation import Installation, phone
from leeroy.proof.people import People
from leeroy.terms import State
from tests import longrun
from tests.conftest import _make
from tests.crash.syscalls import Course, ended
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
WAYS = ("start", "push", "approval", "stop", "hold", "newer", "lost test", "lost deploy")
KINDS = ("sqlite", "postgresql")
EVERYDAY: dict[str, tuple[str, dict[str, Iterable[int]]]] = {
    "push": ("sqlite", {"push": range(3, 120, 7)}),
    "others": ("sqlite", {"start": (30,), "approval": (4, 25), "stop": (5,), "lost deploy": (9,)}),
    "sparse": (
        "postgresql",
        {"start": (30,), "push": (12, 45, 80), "approval": (11,), "stop": (6,)},
    ),
}
PARTS: dict[str, tuple[str, dict[str, Iterable[int]]]] = (
    {f"{kind}-{way}": (kind, {way: itertools.count(1)}) for kind in KINDS for way in WAYS}
    if TORTURE
    else EVERYDAY
)
"""In torture n = 1, 2, 3 …, until all has come to its end before it."""

SLOW = """
[[test]]
name = "unit"
run = '''{slow}'''
[[deploy]]
environment = "cellar"
run = '''{slow}'''
grace = "0s"
[[notify]]
to = "{phone}"
"""


class Statements(Course):
    """One installation whose server dies again and again, something being done for each n."""

    def __init__(self, there: Installation, people: People) -> None:
        super().__init__(there, people, strace="")
        slow = world.script(there.log, pause_s=0.5)
        there.define("slow", SLOW.replace("{slow}", slow))
        self._armed = there.folder / "armed"
        there.server = ["-m", "tests.crash.dying", str(self._armed)]

    def dies(self, way: str, number: int) -> bool:
        """Whether the server came to its n-th statement; however that was, all has ended."""
        there = self._there
        pending = []
        if way in ("approval", "stop", "hold", "newer"):
            pending = [self._people.trigger("tool")]
            until(lambda: there.call("show", id=pending[0])["state"] == State.deploy_pending, 300)
        elif way.startswith("lost"):
            build, stage = self._people.trigger("slow"), way.removeprefix("lost ")
            until(lambda: self._runs(build, stage), 300, f"{stage} runs")
        elif way == "start":
            self._people.deliver()
            self._people.trigger("tool")
            there.end(signal.SIGKILL)
            self._people.look()
        self._arm(number)
        with contextlib.suppress(LeeroyError, OSError):
            self._do(way, pending)
        until(lambda: not there.alive() or self._told(), 300, f"{way} {number}", pause=0.02)
        died = not there.alive()
        self._armed.unlink()
        until(self._started_and_over, 300, f"after {way} {number} the build ends", pause=0.02)
        if not died:
            there.end(signal.SIGKILL)  # it has begun to count
            self._people.look()
            self.start()
        self.builds += 1
        self.kills += died
        return died

    def _arm(self, number: int) -> None:
        new = self._armed.with_suffix(".new")
        new.write_text(str(number))
        new.rename(self._armed)

    def _do(self, way: str, pending: list[int]) -> None:
        there, people = self._there, self._people
        if way == "start":
            there.spawn()
            there.ready()
        elif way == "push":
            people.deliver()
        elif way == "approval":
            there.call("approve", id=pending[0])
        elif way == "stop":
            people.cancel(pending[0])
        elif way == "hold":
            there.call("hold", id=pending[0])
        elif way == "newer":
            people.trigger("tool")
        else:
            there.kill(there.supervisors())

    def _runs(self, build: int, stage: str) -> bool:
        return any((m.build, m.stage) == (build, stage) for m in world.read(self._there.log))

    def _told(self) -> bool:
        return self._over() and not list(telling.waiting(self._people.rows().notices))


@pytest.mark.timeout(7200 if TORTURE else 600)
@pytest.mark.parametrize("part", PARTS)
def test_whoever_dies_at_a_statement_breaks_no_promise(
    request: pytest.FixtureRequest, tmp_path: Path, part: str, gave: longrun.Tell
) -> None:
    """The next server finishes the build, each script ran once, and every answer holds."""
    kind, ways = PARTS[part]
    database = None
    if kind == "postgresql":
        name = f"statement{os.getpid()}_{part.replace(' ', '_')}"
        database = _make(request.getfixturevalue("postgres"), name)
    began = time.monotonic()
    missed: list[str] = []
    with phone() as told:
        there = Installation(tmp_path, told, database)
        people = People(there, random.Random(3))
        course = Statements(there, people)
        try:
            course.start()
            for way, numbers in ways.items():
                for number in numbers:
                    if not course.dies(way, number):
                        missed += [] if TORTURE else [f"{way} {number}"]
                        break
            settled = people.settle()
            found = [str(violation) for violation in check(people.history())]
        finally:
            ended(there)
    what = f"{kind}: {', '.join(ways)}" + ("" if TORTURE else " (the short form)")
    gave(f"die at every SQL statement on {what}", rounds=course.builds, kills=course.kills,
         builds=len(people.taken), violations=len(found), seconds=time.monotonic() - began)  # fmt: skip
    print(f"\n{what}: {course.kills} deaths in {course.builds} rounds")
    assert [] == found
    assert settled, "not everything came to its end"
    assert [] == missed, "there are not so many statements: choose other numbers"
    assert course.kills > 0
