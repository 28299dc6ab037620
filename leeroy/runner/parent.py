"""
The parent: a small process that forks a supervisor for each run.

It is executed with a clean environment before the server opens anything, so
nothing of the server can leak into a script, and a fork of it is cheap.  It
outlives the server while it has supervisors: they report to nobody then, and
a script whose supervisor died still finds somebody who reads its output.

Standard library only, and little of it: each module makes every fork dearer.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import sys
import time
import traceback

from leeroy.runner import output, process, supervisor, tree, wire

_FORKS = 20
_FORK_AGAIN_S = 0.05
_LEFT_LOG = 8 << 20
"""How much is kept of what a script says after its supervisor died."""


class Parent:
    """The loop of the parent: launches come in, supervisors go out."""

    def __init__(self, runs: str) -> None:
        self.runs = runs
        self.place = process.place()
        self.server = True
        self.untold: list[bytes] = []
        self.supervisors: dict[int, tuple[str, int]] = {}  # pid: run id, read end of its output
        self.drains: dict[int, output.Output] = {}  # read ends whose supervisor died
        self.orphans: dict[int, set[str]] = {}  # pid: runs of dead supervisors it may belong to
        self.ignored: list[int] = [
            number
            for number in signal.valid_signals()
            if signal.getsignal(number) == signal.SIG_IGN
        ]
        self.wake, self.poke = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.poll = select.poll()

    def main(self) -> None:
        """Serve until the server is gone and no supervisor is left."""
        # SIGTERM may reach supervisors too: there it ends the run, and is recorded as from outside.
        for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        self.ignored = sorted({*self.ignored, signal.SIGHUP, signal.SIGINT})
        signal.set_wakeup_fd(self.poke, warn_on_full_buffer=False)
        process.adopt_orphans()
        os.set_blocking(wire.SOCKET, False)
        # A script that inherits it could speak to the server in a supervisor's name.
        os.set_inheritable(wire.SOCKET, False)
        self.poll.register(self.wake, select.POLLIN)
        self.poll.register(wire.SOCKET, select.POLLIN)
        gc.collect()
        gc.disable()
        gc.freeze()
        self.tell(wire.READY)
        while self.server or self.supervisors or self.drains:
            for fd, event in self.poll.poll():
                if fd == self.wake:
                    os.read(self.wake, 4096)
                    self.reap()
                elif fd == wire.SOCKET:
                    if event & select.POLLOUT:
                        self.tell()
                    if event & ~select.POLLOUT:
                        self.listen()
                else:
                    self.drain(fd)

    def listen(self) -> None:
        """Take the server's launches; notice that it is gone."""
        while True:
            try:
                message = os.read(wire.SOCKET, 4096)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self.server = False
                self.poll.unregister(wire.SOCKET)
                self.reap()  # a debugger may have swallowed the signal of somebody's end
                return
            at, run_id = wire.parse_launch(message)
            try:
                said = self.launch(at, run_id)
            except OSError:
                # No process, no descriptor, no directory: it has not begun, and the server sees it.
                traceback.print_exc()
                said = wire.GONE
            if said:
                self.tell(said + run_id.encode())

    def launch(self, at: float, run_id: str) -> bytes:
        """Fork the run's supervisor; what to tell the server if there is none."""
        directory = f"{self.runs}/{run_id}"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(f"{directory}/{wire.LOCK}", flags, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return wire.BUSY
            if os.path.exists(f"{directory}/{wire.BEGIN}"):
                return wire.GONE
            reader, writer = os.pipe2(os.O_CLOEXEC)
            try:
                os.set_blocking(reader, False)
                pid = self.fork()
                if not pid:
                    self.supervise(directory, run_id, at, lock, reader, writer)
            except BaseException:
                os.close(reader)
                raise
            finally:
                os.close(writer)
            self.supervisors[pid] = (run_id, reader)
        finally:
            # Before the next fork: only this supervisor may hold this lock.
            os.close(lock)
        return b""

    def fork(self) -> int:
        """Fork, with some patience: what is short of processes now often is not a moment later."""
        for _ in range(_FORKS):
            try:
                return os.fork()
            except OSError:
                self.reap()  # the dead count, too
                select.select([], [], [], _FORK_AGAIN_S)
        return os.fork()

    def supervise(
        self, directory: str, run_id: str, at: float, lock: int, reader: int, writer: int
    ) -> None:
        """Be the supervisor; never returns."""
        code = supervisor.FAILED
        try:
            os.setsid()
            wake, poke = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            signal.set_wakeup_fd(poke, warn_on_full_buffer=False)
            keep = sorted({0, 1, 2, wire.SOCKET, lock, reader, writer, wake, poke})
            for low, high in zip(keep, [*keep[1:], 1 << 20], strict=True):
                os.closerange(low + 1, high)
            me = supervisor.Supervisor(directory, run_id, at, self.place, self.ignored)
            code = me.main(lock, reader, writer, wire.SOCKET, wake)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def reap(self) -> None:
        """Take note of supervisors, and of what dead supervisors left, that have ended."""
        gone: list[tuple[str, int]] = []
        heirs: set[str] = set()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            run = self.supervisors.pop(pid, None)
            if run is None:
                heirs |= self.orphans.pop(pid, set())
            elif status == supervisor.TOLD:
                os.close(run[1])
            else:
                gone.append(run)
                heirs.add(run[0])
        if heirs:
            self.note_orphans(heirs)
        for run_id, reader in gone:
            self.tell(wire.GONE + run_id.encode())
            self.take_over(run_id, reader)

    def note_orphans(self, heirs: set[str]) -> None:
        """
        Write down who has just become our child because somebody of these runs died.

        Our other children are supervisors, so these are theirs, whatever they
        have done to their environment.  When two die at once it is open whose
        they are: both runs name them.
        """
        for pid in tree.children("self"):
            if pid in self.supervisors or pid in self.orphans:
                continue
            seen = process.stat(pid)
            if seen is None:
                continue
            self.orphans[pid] = heirs
            for run_id in heirs:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                try:
                    fd = os.open(f"{self.runs}/{run_id}/{wire.ORPHANS}", flags, 0o600)
                except OSError:
                    continue  # the run was forgotten
                os.write(fd, b"%d %d\n" % (pid, seen.started))
                os.close(fd)

    def take_over(self, run_id: str, reader: int) -> None:
        """Read on where a dead supervisor stopped, so that its script does not get SIGPIPE."""
        directory = f"{self.runs}/{run_id}"
        try:
            start = 0
            for offset in output.segments(directory):
                start = offset + os.stat(output.path(directory, offset)).st_size
        except OSError:
            start = 0
        self.drains[reader] = output.Output(directory, _LEFT_LOG, start)
        self.poll.register(reader, select.POLLIN)

    def drain(self, reader: int) -> None:
        """Keep what an unwatched script says; the end of the pipe ends it."""
        try:
            data = os.read(reader, 1 << 16)
        except BlockingIOError:
            return
        if data:
            self.drains[reader].write(memoryview(data))
            return
        self.poll.unregister(reader)
        self.drains.pop(reader).close()
        os.close(reader)

    def tell(self, *messages: bytes) -> None:
        """Send to the server, now or when it reads again; a server that is gone need not know."""
        self.untold.extend(messages)
        while self.untold and self.server:
            try:
                os.write(wire.SOCKET, self.untold[0])
            except BlockingIOError:
                self.poll.modify(wire.SOCKET, select.POLLIN | select.POLLOUT)
                return
            except OSError:
                return  # its end is closed: `listen` sees that too
            self.untold.pop(0)
        if self.server:
            self.poll.modify(wire.SOCKET, select.POLLIN)


def main(runs: str) -> None:
    """Be the parent of every supervisor below the folder *runs*."""
    os.closerange(wire.SOCKET + 1, 1 << 20)
    os.chdir("/")
    os.umask(0o022)
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"-500")
        finally:
            os.close(fd)
    except OSError as error:
        print(f"{time.time():.0f} the OOM score stays: {error}", file=sys.stderr)
    Parent(runs).main()
