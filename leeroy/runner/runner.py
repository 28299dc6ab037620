"""
What the server holds in its hand: start scripts, look at them, stop them, read them.

    runner = Runner(data, on_end)
    runner.start()                      # before sockets and database are open
    runner.prepare(spec)                # the directory, then …
    runner.launch(spec.run_id)          # … one message; on_end(run_id) follows
    runner.look(run_id)                 # at any time, also years later

Nothing in memory matters: after a crash `look` says the same, and `watch`
takes a run up again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from leeroy.runner import leftovers, process, rundir, spawning, wire
from leeroy.runner.rundir import Piece, Result, Run, RunnerError, Spec

__all__ = ["Piece", "Result", "Run", "Runner", "RunnerError", "Spec"]

log = logging.getLogger(__name__)

_UNCLEAR_S = 0.02
_CLEAR_S = 2.0
_PAUSES_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)


class Runner:
    """
    Every run below *data*, those of an earlier server included.

    `on_end(run_id)` is called from the runner's own thread whenever a run may
    have ended, at least once per end and sometimes without one: look.  All
    methods may be called from any thread.
    """

    def __init__(self, data: Path, on_end: Callable[[str], None]) -> None:
        self.runs = rundir.RunDirs(data / "runs")
        self._log = data.absolute() / "runner.log"
        self._on_end = on_end
        self._lock = threading.Lock()
        self._parent: spawning.Parent | None = None
        self._launched: dict[str, float] = {}  # ordered from the parent, no end heard yet
        self._unsent: deque[str] = deque()
        self._asked: deque[str] = deque()  # to be watched
        self._unclear: set[str] = set()  # a supervisor has the lock, but has not said who it is
        self._watched: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self._wake = -1
        self._closing = False
        self._thread: threading.Thread | None = None

    # --- the server's life

    def start(self) -> None:
        """
        Execute the parent and begin to listen to it.

        Call it before sockets and the database are open.  Raises RunnerError
        when the parent does not come up.
        """
        self.runs.open()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_wake)
        self._hold(spawning.Parent(self.runs.folder, self._log))
        self._thread = threading.Thread(target=self._loop, name="runner", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of everything; what runs goes on, under its supervisor."""
        self._closing = True
        if self._thread is not None:
            self._poke()
            self._thread.join()
            self._thread = None
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
            else:
                key.fileobj.close()  # type: ignore[attr-defined]  # a socket: only those are no int
        self._selector.close()
        self._parent = None

    # --- one run

    def prepare(self, spec: Spec) -> None:
        """
        Write the run's directory, as a whole or not at all.

        Raises NotPossible if the run has one already.
        """
        self.runs.prepare(spec)

    def launch(self, run_id: str) -> None:
        """
        Order a supervisor for a prepared run; `on_end` follows, whatever happens.

        A run that has not begun 5 s later never does by this order: it stays
        prepared, until it is launched again or revoked.
        """
        rundir.check_name(run_id)
        with self._lock:
            self._launched[run_id] = time.clock_gettime(time.CLOCK_BOOTTIME)
            sent = not self._unsent and self._send(run_id)
            if not sent:
                self._unsent.append(run_id)
        if not sent:
            self._poke()

    def look(self, run_id: str) -> Run:
        """What is true of the run at this instant; see `RunDirs.look`."""
        return self.runs.look(run_id)

    def vanished(self, run_id: str) -> bool:
        """Whether a run that is absent may have begun; see `RunDirs.vanished`."""
        return self.runs.vanished(run_id)

    def elsewhere(self, run_id: str) -> bool:
        """Whether its supervisor lived in another boot, or another container, than this process."""
        found = self.runs.supervised(run_id)
        return found is not None and found.place != process.place()

    def result(self, run_id: str) -> Result:
        """How the run ended; raises NotPossible while it has no result."""
        return self.runs.result(run_id)

    def spec(self, run_id: str) -> Spec:
        """The run's spec, secrets included: what its output has to be masked with."""
        return self.runs.spec(run_id)

    def revoke(self, run_id: str) -> bool:
        """True: the run never began and never will; False: it has begun."""
        return self.runs.revoke(run_id)

    def watch(self, run_id: str) -> None:
        """Follow a run that an earlier server launched; `on_end` follows."""
        rundir.check_name(run_id)
        self._asked.append(run_id)
        self._poke()

    def stop(self, run_id: str, reason: str) -> None:
        """
        Ask the run's supervisor to end it: TERM to its tree, KILL after the grace.

        Its result says "stopped", unless the script was over before.  A run
        that has not begun ends at its launch, without being executed.  Raises
        OSError when the request cannot be put down (no room) and no supervisor
        could be told of it either.
        """
        unwritten: OSError | None = None
        try:
            self.runs.ask_to_stop(run_id, reason)
        except OSError as error:
            unwritten = error
        # Read after the request is there: a supervisor says who it is before it looks for one.
        found = self.runs.supervised(run_id)
        pidfd = self._open(found)
        if pidfd is not None:
            process.send(pidfd, signal.SIGUSR1)
            os.close(pidfd)
        elif unwritten is not None:
            raise unwritten

    def clear(self, run_id: str) -> bool:
        """
        End what is provably left of a lost run; True when nothing of it is alive.

        A run that ended or was revoked has left nothing.  False while the run
        may still begin or its supervisor lives, and while something cannot
        be ended; ask again then.  Also False without a directory: it alone
        could say what is the run's.  May take up to 2 s.
        """
        state = self.look(run_id)
        if state is not Run.lost:
            return state in (Run.ended, Run.revoked)
        claimed = self.runs.supervised(run_id)
        return leftovers.clear(self.runs.path(run_id), run_id, claimed, _CLEAR_S)

    def read(self, run_id: str, offset: int, limit: int) -> Piece:
        """Up to *limit* bytes of raw output from *offset* on, or from the next byte kept."""
        return self.runs.read(run_id, offset, limit)

    def file(self, run_id: str, name: str) -> bytes | None:
        """What the script left under *name* in $LEEROY_RUN_DIR; None if there is no such file."""
        return self.runs.file(run_id, name)

    def forget(self, run_id: str) -> None:
        """Remove the run's directory; raises NotPossible while its supervisor lives."""
        self.runs.forget(run_id)

    def all(self) -> list[str]:
        """The ids of all runs that have a directory, or the note that they had one; sorted."""
        return self.runs.all()

    # --- the thread

    def _loop(self) -> None:
        while not self._closing:
            timeout = _UNCLEAR_S if self._unclear else None
            for key, events in self._selector.select(timeout):
                key.data(key.fd, events)
            while self._asked:
                self._take_up(self._asked.popleft())
            for run_id in list(self._unclear):
                self._take_up(run_id)

    def _poke(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _on_wake(self, fd: int, _: int) -> None:
        os.eventfd_read(fd)
        if self._unsent:
            self._send_rest()

    def _ended(self, run_id: str) -> None:
        with self._lock:
            self._launched.pop(run_id, None)
        try:
            self._on_end(run_id)
        except Exception:
            log.exception("what follows the end of run %s failed", run_id)

    def _take_up(self, run_id: str) -> None:
        # Follow somebody else's supervisor until it is gone; nobody there: say so at once.
        self._unclear.discard(run_id)
        with self._lock:
            if run_id in self._launched or run_id in self._watched:
                return
        state = self.look(run_id)
        if state in (Run.running, Run.prepared) and self.runs.locked(run_id):
            pidfd = self._open(self.runs.supervised(run_id))
            if pidfd is None:
                self._unclear.add(run_id)
                return
            self._watched.add(run_id)

            def gone(fd: int, _: int) -> None:
                self._selector.unregister(fd)
                os.close(fd)
                self._watched.discard(run_id)
                self._ended(run_id)

            self._selector.register(pidfd, selectors.EVENT_READ, gone)
            return
        self._ended(run_id)

    def _open(self, found: rundir.Supervised | None) -> int | None:
        if found is None or found.place != process.place():
            return None
        return process.opened(found.pid, found.started)

    # --- the parent

    def _hold(self, parent: spawning.Parent) -> None:
        with self._lock:
            self._parent = parent
        self._selector.register(parent.socket, selectors.EVENT_READ, self._on_message)
        self._selector.register(parent.pidfd, selectors.EVENT_READ, self._on_parent_gone)

    def _send(self, run_id: str) -> bool:
        # Under the lock.  False: the parent's ears are full; a dead parent counts as sent, for
        # its successor gets everything again.
        at = self._launched.get(run_id)
        if at is None or self._parent is None:
            return True
        try:
            self._parent.socket.send(wire.launch(at, run_id), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _send_rest(self) -> None:
        with self._lock:
            while self._unsent and self._send(self._unsent[0]):
                self._unsent.popleft()
            if self._parent is None:
                return
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
            self._selector.modify(self._parent.socket, events, self._on_message)

    def _on_message(self, fd: int, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send_rest()
        if not events & selectors.EVENT_READ:
            return
        source = self._selector.get_key(fd).fileobj
        assert isinstance(source, socket.socket)
        while True:
            try:
                message = source.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                # The parent and all its supervisors are gone; the pidfd tells what to do.
                self._selector.unregister(source)
                source.close()
                return
            run_id = message[1:].decode()
            if message[:1] == wire.BUSY:
                with self._lock:
                    self._launched.pop(run_id, None)
                self._take_up(run_id)
            else:
                self._ended(run_id)

    def _on_parent_gone(self, pidfd: int, _: int) -> None:
        # Its supervisors live on and still hold their end of the socket; it is read to its end.
        self._selector.unregister(pidfd)
        os.close(pidfd)
        old = self._parent
        if old is None:
            return
        status = old.reap()
        log.error("the runner's parent process died (status %s); starting another", status)
        for attempt in range(1_000_000):
            pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            select.select([self._wake] if self._closing else [], [], [], pause)
            if self._closing:
                return
            try:
                self._hold(spawning.Parent(self.runs.folder, self._log))
                break
            except (RunnerError, OSError):
                log.exception("the runner's parent process does not start; trying again")
        with self._lock:
            launched = list(self._launched)
            self._unsent.clear()
        for run_id in launched:
            # Unbegun and unlocked: the order was lost with the parent.  The new one repeats it;
            # `begin` can be claimed but once.
            if self.look(run_id) is Run.prepared and not self.runs.locked(run_id):
                with self._lock:
                    self._unsent.append(run_id)
            else:
                with self._lock:
                    self._launched.pop(run_id, None)
                self._take_up(run_id)
        with contextlib.suppress(KeyError):
            self._send_rest()
