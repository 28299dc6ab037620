"""The server, the runner's parent and the supervisors die at each of their system calls."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from leeroy.proof.checker import check
from leeroy.proof.installation import Installation, phone
from leeroy.proof.people import People
from tests import longrun
from tests.conftest import _make
from tests.crash.syscalls import Course, Way, ended
from tests.parts import need

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"

_FILES = (
    "write",
    "pwrite64",
    "ftruncate",
    "link",
    "linkat",
    "rename",
    "unlink",
    "fsync",
    "fdatasync",
)
_FORKS = ("clone", "clone3", "vfork")
LONG: dict[Way, Iterable[int]] = {
    **{Way("server", "push", call): itertools.count(1) for call in (*_FILES, *_FORKS, "mkdir", "sendto")},
    Way("server", "push", "sendto", "postgresql"): itertools.count(1),
    **{
        Way("supervisor", at, call): itertools.count(1)
        for at in ("push", "trigger", "approval")
        for call in (*_FILES, *_FORKS)
    },
    **{Way("parent", "trigger", call): itertools.count(1) for call in ("clone", "write")},
}  # fmt: skip
"""K = 1, 2, 3 …, until a build passes in which nobody has come so far."""
EVERYDAY: dict[Way, Iterable[int]] = {
    Way("server", "push", "pwrite64"): (2, 40),
    Way("server", "push", "fdatasync"): (3, 8),
    Way("server", "push", "rename"): (2,),
    Way("supervisor", "trigger", "write"): (1, 3),
    Way("supervisor", "approval", "link"): (1,),
    Way("supervisor", "approval", "fsync"): (2, 4),
    Way("supervisor", "approval", "rename"): (1,),
    Way("supervisor", "approval", "clone3"): (1,),
    Way("parent", "trigger", "clone"): (1,),
}
"""Around the commits, the claim of `begin`, the script's start, and the result."""


def judged(
    course: Course, people: People, ways: dict[Way, Iterable[int]], what: str, gave: longrun.Tell
) -> None:
    """Kill on each way, for each K until nobody is hit; then every rule holds."""
    began = time.monotonic()
    missed: list[str] = []
    for way, numbers in ways.items():
        for number in numbers:
            if not course.hit(way, number):
                missed += [] if TORTURE else [f"{way} {number}"]
                break
    settled = people.settle()
    found = [str(violation) for violation in check(people.history())]
    seconds = time.monotonic() - began
    whom = " and ".join(sorted({f"{way.victim} ({way.kind})" for way in ways}))
    gave(f"kill at every system call: {whom}", rounds=course.builds, kills=course.kills,
         builds=len(people.rows().builds), violations=len(found), seconds=seconds)  # fmt: skip
    print(f"\n{what}: {course.kills} kills over {course.builds} builds in {seconds:.0f} s")
    assert [] == found
    assert settled, "not everything came to its end"
    assert [] == missed, "nobody made so many calls: choose other numbers"


PARTS = (
    {str(way): {way: numbers} for way, numbers in LONG.items()} if TORTURE else {"all": EVERYDAY}
)


@pytest.mark.timeout(3600 if TORTURE else 600)
@pytest.mark.parametrize("part", PARTS)
def test_whoever_dies_at_a_system_call_breaks_no_promise(
    request: pytest.FixtureRequest, tmp_path: Path, part: str, gave: longrun.Tell
) -> None:
    """The next server, supervisor or parent finishes the build, and each script ran once."""
    strace = need("strace")
    database = None
    if any(way.kind == "postgresql" for way in PARTS[part]):
        database = _make(request.getfixturevalue("postgres"), f"call{os.getpid()}")
    with phone() as told:
        there = Installation(tmp_path, told, database)
        people = People(there, random.Random(3))
        course = Course(there, people, strace)
        try:
            course.start()
            judged(course, people, PARTS[part], part, gave)
        finally:
            ended(there)
