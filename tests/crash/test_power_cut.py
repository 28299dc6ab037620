"""
Power cuts: what the disk holds at any instant is enough to keep every promise.

The disk is an ext4 in an image file, which lies on another file system.  That
one is frozen for a moment and the image copied: all that was written to the
disk by then, and nothing that was only in memory.  Each copy is mounted, a
server recovers on it (on another boot, as it would be), and the checker
judges.  The scripts put each line of their log on that same disk before they
go on.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from leeroy.model import Event
from leeroy.proof import world
from leeroy.proof.checker import check
from leeroy.proof.history import Answer, Taken
from leeroy.proof.installation import Installation, phone
from leeroy.proof.people import People
from tests.crash.careful import careful, forget_half_a_line
from tests.parts import missing, need, need_mounts

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
CUTS = 60 if TORTURE else 2


class Disk:
    """An ext4 at `where`, whose image can be copied as it is at one instant."""

    def __init__(self, folder: Path) -> None:
        self._outer, self.where, self.copies = folder / "outer", folder / "disk", folder / "copies"
        for made in (self._outer, self.where, self.copies):
            made.mkdir()
        self._make(folder / "outer.img", 160 << 20)
        self._mount(folder / "outer.img", self._outer)
        self._image = self._outer / "disk.img"
        self._make(self._image, 96 << 20)
        self._mount(self._image, self.where)

    @staticmethod
    def _make(image: Path, size: int) -> None:
        with image.open("wb") as stream:
            stream.truncate(size)
        subprocess.run([need("mkfs.ext4"), "-q", image], check=True)

    @staticmethod
    def _mount(image: Path, where: Path) -> None:
        words = ["mount", "-o", "loop", image, where]
        if subprocess.run(words, capture_output=True, check=False).returncode != 0:
            missing("the right to mount a loop device")

    def cut(self, number: int) -> Path:
        """A copy of the disk as it would be found after a power cut now."""
        copy = self.copies / f"{number}.img"
        freeze = need("fsfreeze")
        subprocess.run([freeze, "-f", self._outer], check=True)
        try:
            subprocess.run(["cp", "--sparse=always", self._image, copy], check=True)
        finally:
            subprocess.run([freeze, "-u", self._outer], check=True)
        return copy

    def put(self, copy: Path) -> None:
        """What is at `where` from now on is this copy."""
        self.remove()
        self._mount(copy, self.where)

    def remove(self) -> None:
        """Nothing is at `where` any more."""
        subprocess.run(["umount", "-l", self.where], capture_output=True, check=False)

    def close(self) -> None:
        self.remove()
        subprocess.run(["umount", "-l", self._outer], capture_output=True, check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        missing("root, for a disk of its own")
    made = Disk(tmp_path)
    yield made
    made.close()


@dataclass(frozen=True)
class Cut:
    """A copy, and all that was promised or seen before it was begun."""

    copy: Path
    taken: list[Taken]
    answers: list[Answer]
    seen: dict[tuple[int, int], Event]


def until_a_deploy_begins(there: Installation) -> None:
    """Wait for the next one, for at most 3 s."""

    def begun() -> int:
        return there.log.read_bytes().count(b" deploy ") if there.log.exists() else 0

    before, deadline = begun(), time.monotonic() + 3
    while begun() == before and time.monotonic() < deadline:
        time.sleep(0.01)


def end(installation: Installation) -> None:
    installation.end(signal.SIGKILL)
    left = [*installation.supervisors(), *installation.scripts()]
    installation.kill(left)


@pytest.mark.timeout(1800 if TORTURE else 240)
def test_any_instant_is_good_enough(disk: Disk, tmp_path: Path) -> None:
    """Cut at random instants of builds and deploys: no promise is broken on what is left."""
    dice, mounts = random.Random(), need_mounts()
    folder = disk.where / "leeroy"
    folder.mkdir()
    cuts = []
    with phone() as told:
        there = Installation(folder, told)
        careful(there)
        subprocess.run(["sync", "-f", folder], check=True)
        people = People(there, dice)
        try:
            there.spawn()
            there.ready()
            people.start()
            for number in range(CUTS):
                if number % 2:
                    until_a_deploy_begins(there)
                time.sleep(dice.uniform(0.1, 0.9))
                people.look()
                taken, answers = list(people.taken), list(people.answers)
                cuts.append(Cut(disk.cut(number), taken, answers, dict(people.seen)))
        finally:
            people.stop()
            end(there)
        assert not people.errors
        boot = tmp_path / "boot_id"
        mount = f'mount --bind "{boot}" /proc/sys/kernel/random/boot_id && exec "$@"'
        there.wrap = [*mounts, "sh", "-c", mount, "sh"]
        found: list[str] = []
        interrupted = 0
        for number, cut in enumerate(cuts):
            boot.write_text(f"{uuid.uuid4()}\n")
            disk.put(cut.copy)
            forget_half_a_line(there.log)
            after = People(there, dice)
            after.taken, after.answers, after.seen = cut.taken, cut.answers, cut.seen
            try:
                there.spawn()
                there.ready()
                assert after.settle(), (folder / "serve.log").read_text()[-3000:]
                history = after.history()
                interrupted += sum(
                    e.move == "lose" for events in history.rows.events.values() for e in events
                )
                found += [f"cut {number}: {violation}" for violation in check(history)]
                if found:
                    shutil.copytree(folder, tmp_path / f"broken{number}", dirs_exist_ok=True)
            finally:
                end(there)
        print(f"\n{CUTS} power cuts, {interrupted} deploys interrupted")
        assert [] == found
        assert len(cuts[-1].taken) > 0
        assert world.read(there.log)
