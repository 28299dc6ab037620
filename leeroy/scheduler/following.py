"""
The output of running scripts, masked and brought into the database.

A script's output is in files of its run directory at once; here it is read
from there, at most 0.2 s behind.  What was not stored before a crash is read
again after it: the offset is what the rows say.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from sqlalchemy import Connection

from leeroy.db import logs, steps
from leeroy.db.engine import Database
from leeroy.errors import LeeroyError, NotFound
from leeroy.runner.masking import Masker
from leeroy.runner.runner import Runner, Spec
from leeroy.scheduler.acts import Packed
from leeroy.terms import StepState

log = logging.getLogger(__name__)

BEHIND_S = 0.15
CHUNK = 64 << 10
BITE = 1 << 20
"""So much is read, masked and compressed at once while a script writes faster than we look."""


@dataclass
class _Stream:
    """One run's output: where it is read next, and where what is stored ends."""

    run_id: str
    step_id: int
    masker: Masker
    at: int
    max_log: int
    stored: int
    head_end: int = 0
    pending: tuple[Packed, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)


class Follower:
    """Follows every running script; `follow` when one starts, `rest` when it ended."""

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner
        self._streams: dict[str, _Stream] = {}
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop following; what was not stored is read again later."""
        self._closing.set()
        self._some.set()
        if self._thread.is_alive():
            self._thread.join()

    def follow(self, spec: Spec, step_id: int, stored: int = 0) -> None:
        """Follow a run; *stored* bytes of its output are in the database already."""
        run_id = spec.run_id
        stream = _Stream(
            run_id, step_id, Masker(spec.secrets), stored, spec.max_log, stored, spec.max_log // 2
        )
        with self._lock:
            self._streams.setdefault(run_id, stream)
        self._some.set()

    def rest(self, run_id: str) -> tuple[Packed, ...]:
        """
        All that is left of an ended run's output; a short rest only, a long one is stored.

        The caller stores it together with what follows from the end.
        """
        with self._lock:
            stream = self._streams.get(run_id)
        if stream is None:
            return ()
        with stream.lock:
            while self._read(stream, final=True):
                self._store(stream)
            return stream.pending

    def forget(self, run_id: str) -> None:
        """The end is recorded."""
        with self._lock:
            self._streams.pop(run_id, None)
            if not self._streams:
                self._some.clear()

    def _loop(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            if self._closing.wait(BEHIND_S):
                return
            with self._lock:
                streams = list(self._streams.values())
            for stream in streams:
                try:
                    with stream.lock:
                        self._follow(stream)
                except NotFound as exc:
                    if self._is_over(stream):
                        self.forget(stream.run_id)
                    else:
                        log.warning("the log of run %s waits: %s", stream.run_id, exc)
                except LeeroyError as exc:
                    log.warning("the log of run %s waits: %s", stream.run_id, exc)
                except Exception:
                    log.exception("the log of run %s cannot be followed", stream.run_id)

    def _is_over(self, stream: _Stream) -> bool:
        """
        Whether the run's end is recorded; then its folder is rightly gone.

        It was taken up from a picture in which it still ran.
        """
        try:
            step = self._database.read(lambda conn: steps.get(conn, stream.step_id))
        except LeeroyError:
            return False
        running = step is not None and step.state is StepState.running
        return not (running and step is not None and step.run_id == stream.run_id)

    def _follow(self, stream: _Stream) -> None:
        more = True
        while more and not self._closing.is_set():
            more = self._read(stream, final=False)
            if stream.pending:
                self._store(stream)

    def _read(self, stream: _Stream, *, final: bool) -> bool:
        """Make what is new pending, about a bite of it; True when there was more than that."""
        parts: list[Packed] = []
        size = 0
        if len(stream.pending) > 1:
            return True  # what was read before could not be stored yet
        while size < BITE:
            piece = self._runner.read(stream.run_id, stream.at, BITE)
            if piece.dropped_before:
                parts += self._chunk(stream, stream.masker.gap(), stream.at)
                stream.at += piece.dropped_before
                stream.stored = stream.at
            if not piece.data:
                if final:
                    parts += self._chunk(stream, stream.masker.feed(b"", final=True), stream.at)
                stream.pending += tuple(parts)
                return False
            stream.at += len(piece.data)
            size += len(piece.data)
            shown = stream.masker.feed(piece.data)
            parts += self._chunk(stream, shown, stream.at - stream.masker.held)
        stream.pending += tuple(parts)
        return True

    def _chunk(self, stream: _Stream, shown: bytes, until: int) -> list[Packed]:
        start, stream.stored = stream.stored, until
        if until == start:
            return []
        # Chunks of a size that a page can read; all but the last end where masked text allows.
        if len(shown) <= 4 * CHUNK or len(shown) != until - start:
            return [Packed(start, until, logs.pack(shown))]
        cuts = range(0, len(shown), 4 * CHUNK)
        return [
            Packed(
                start + at,
                min(start + at + 4 * CHUNK, until),
                logs.pack(shown[at : at + 4 * CHUNK]),
            )
            for at in cuts
        ]

    def _store(self, stream: _Stream) -> None:
        packed = stream.pending
        tail_from = stream.stored - stream.max_log // 2

        def write(conn: Connection) -> None:
            step = steps.get(conn, stream.step_id)
            if step is None or step.run_id != stream.run_id:
                return
            kept = logs.end(conn, stream.step_id)
            for chunk in packed:
                if chunk.start >= kept:
                    logs.add(conn, stream.step_id, chunk.start, chunk.stop, chunk.data)
            if tail_from > stream.head_end:
                logs.trim(conn, stream.step_id, stream.head_end, tail_from)

        self._database.transact(write)
        stream.pending = ()
