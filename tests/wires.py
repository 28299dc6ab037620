"""A wire to a network of its own, that can be cut, or made to lose what comes back."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

from tests.parts import missing, need


class Wire:
    """
    Two addresses, `near` (here) and `far`; `there` before a command runs it at the far end.

    Nobody is told of a cut: what is sent is lost without a word.
    """

    near, far = "10.213.77.1", "10.213.77.2"

    def __init__(self) -> None:
        self._ip = need("ip")
        self._name = f"leeroy{os.getpid()}"
        self.there = [self._ip, "netns", "exec", self._name]

    def _do(self, *words: str, at: bool = False) -> None:
        where = ["-n", self._name] if at else []
        subprocess.run([self._ip, *where, *words], check=True, capture_output=True, text=True)

    def lay(self) -> None:
        """Make it; without the right to, the test names what is missing."""
        here, there = f"{self._name}a"[-15:], "far"
        try:
            self._do("netns", "add", self._name)
            self._do(
                "link", "add", here, "type", "veth", "peer", "name", there, "netns", self._name
            )
        except subprocess.CalledProcessError as exc:
            self.remove()
            missing(f"the right to make a network ({exc.stderr.strip()})")
        self._do("addr", "add", f"{self.near}/30", "dev", here)
        self._do("link", "set", here, "up")
        self._do("addr", "add", f"{self.far}/30", "dev", there, at=True)
        self._do("link", "set", there, "up", at=True)

    def remove(self) -> None:
        """The wire goes with its far end."""
        subprocess.run([self._ip, "netns", "del", self._name], check=False, capture_output=True)

    def cut(self) -> None:
        """Nothing gets through."""
        self._do("link", "set", "far", "down", at=True)

    def deafen(self) -> None:
        """What is sent arrives; no answer comes back."""
        self._do("route", "add", "blackhole", f"{self.near}/32", at=True)

    def mend(self) -> None:
        """All gets through again."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._do("route", "del", "blackhole", f"{self.near}/32", at=True)
        self._do("link", "set", "far", "up", at=True)


@contextlib.contextmanager
def a_wire() -> Iterator[Wire]:
    """One that lies as long as it is needed."""
    made = Wire()
    made.lay()
    try:
        yield made
    finally:
        made.remove()
