"""
A script's raw output in segment files, within a limit.

A segment is named by the offset of its first byte (`output.0`,
`output.33554432`, …).  The first holds the head of the output and stays; of
the later ones only the last few are kept.  A hole between two segments is
thereby known before the older ones are removed, and after a crash at any
instruction the files still say which bytes they hold.

Standard library only: the supervisor writes here, and the parent when a
supervisor has died.
"""

from __future__ import annotations

import os

from leeroy.runner import wire

_TAIL_SEGMENTS = 4


def segments(directory: str) -> list[int]:
    """The offsets at which the kept segments start, in order; empty without output."""
    names = os.listdir(directory)
    cut = len(wire.OUTPUT)
    return sorted(
        int(name[cut:]) for name in names if name.startswith(wire.OUTPUT) and name[cut:].isdigit()
    )


def path(directory: str, start: int) -> str:
    """The file of the segment that starts at *start*."""
    return f"{directory}/{wire.OUTPUT}{start}"


class Output:
    """
    Writes what a script says; at most *limit* bytes stay on disk.

    `written` is the offset of the next byte, `dropped` how many bytes were
    not kept.  A full disk drops bytes too, never the script.
    """

    def __init__(self, directory: str, limit: int, start: int = 0) -> None:
        self.written = start
        self.dropped = 0
        self._directory = directory
        # Half for the head, half for the tail.  What a parent takes over (start > 0) is all tail.
        self._head = max(1, limit // 2) if start == 0 else 0
        self._size = max(1, limit // (2 * _TAIL_SEGMENTS))
        self._fd = -1
        self._room = 0
        self._tail: list[tuple[int, int]] = []  # (start, bytes) of each tail segment

    def write(self, data: memoryview) -> None:
        """Append *data*; never fails."""
        while data:
            if self._room == 0:
                self._next()
            part = data[: self._room]
            try:
                if self._fd < 0:
                    raise OSError
                count = os.write(self._fd, part)
            except OSError:
                # The disk is full or broken: these bytes are lost, and the next are tried in
                # a segment of their own, whose name shows the hole.
                count = len(part)
                self.dropped += count
                self.close()
            else:
                self._room -= count
                if self._tail:
                    start, size = self._tail[-1]
                    self._tail[-1] = (start, size + count)
            self.written += count
            data = data[count:]

    def _next(self) -> None:
        # Open the segment that starts at the next byte, then drop the oldest beyond the limit.
        self.close()
        first = self.written == 0
        self._room = self._head if first else self._size
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(path(self._directory, self.written), flags, 0o600)
        except OSError:
            return
        if first:
            return
        self._tail.append((self.written, 0))
        while len(self._tail) > _TAIL_SEGMENTS:
            start, size = self._tail.pop(0)
            try:
                os.unlink(path(self._directory, start))
            except FileNotFoundError:
                continue
            self.dropped += size

    def close(self, *, durable: bool = False) -> None:
        """Finish the current segment; what comes after starts another one."""
        if self._fd >= 0:
            try:
                if durable:
                    os.fsync(self._fd)
            except OSError:
                durable = (
                    False  # what is left of a log decides nothing; it is stored elsewhere, too
                )
            os.close(self._fd)
        self._fd = -1
        self._room = 0
