"""
The supervisor of one run: executes the script, keeps its time, writes down its end.

It is forked by the parent and outlives the server.  It holds the run's lock
from before its birth to its death, so whoever finds the lock free knows that
nobody watches the script.  In order:

    write who I am into `lock`, claim `begin` (a hard link: only one can),
    execute the script, drain its output, wait until its whole tree is dead,
    write `result.json`, tell the server.

Standard library only, and no import after the fork: an upgrade may have
replaced the files by then.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import select
import signal
import stat
import struct
import termios
import time

from leeroy.runner import output, process, tree, wire

TOLD = 0  # exit codes: what the parent still has to do
UNTOLD = 3
FAILED = 4

LEFTOVERS_S = 1.0
"""How long what a script leaves behind has between TERM and KILL."""

_CHUNK = 1 << 20
_BLOCK = 4096
_LONGEST_POLL = 3_600_000  # milliseconds; the system call takes no more than 24 days
_OPEN = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class CannotStart(Exception):
    """The script cannot be executed; the text says why."""


class Supervisor:
    """
    One run, from the fork to the result.

    `lock`, `reader`, `writer` and `tell` are descriptors the parent opened:
    the run's lock (held), both ends of the output pipe, the socket to the
    server.  `wake` is where signals arrive as bytes.
    """

    def __init__(
        self, directory: str, run_id: str, launched_at: float, place: str, ignored: list[int]
    ) -> None:
        self.directory = directory
        self.run_id = run_id
        self.launched_at = launched_at
        self.place = place
        self.ignored = ignored
        self.reason: str | None = None
        self.status: int | None = None
        self.script = 0
        self.term_at = 0.0  # monotonic: when the script is to be ended
        self.kill_at: float | None = None
        self.pause = 0.001
        self.alive = True
        self.begun = False
        self.asked: set[int] = set()
        self.inside = ""
        self.buffer = bytearray(_BLOCK * 16)
        self.digest = hashlib.sha256()

    def main(self, lock: int, reader: int, writer: int, tell: int, wake: int) -> int:
        """Run the script; returns the exit code that tells the parent what is left to do."""
        self.reader = reader
        self.wake = wake
        score = _open_oom_score()
        process.keep_private()
        process.adopt_orphans()
        self.spec = json.loads(_read_all(f"{self.directory}/{wire.SPEC}"))
        self.durable = bool(self.spec["durable"])
        self.output = output.Output(self.directory, int(self.spec["max_log"]))
        self.pending = self._reserve()
        self.started_at = time.time()
        try:
            if not self._begin(lock):
                return UNTOLD
            self.started_at = time.time()
            self.term_at = time.monotonic() + float(self.spec["timeout_s"])
            # Looked for after the lock tells who we are: whoever asks from now on can signal us.
            if os.path.exists(f"{self.directory}/{wire.STOP}"):
                self.reason = wire.STOPPED
            else:
                self._execute(writer, score)
        except CannotStart as error:
            self.reason = f"cannot start: {error}"
        except OSError as error:
            if not self.begun or self.script:
                raise
            # It is ours, and nothing of it has run: to say so is better than to leave a doubt.
            self.reason = f"cannot start: {self.directory}: {error.strerror}"
        os.close(writer)
        if self.script:
            self._follow()
        if self.inside:
            with contextlib.suppress(OSError):
                os.unlink(self.inside)
        self._record()
        return self._tell(tell)

    # --- the beginning

    def _reserve(self) -> int:
        # The result's room on the disk is taken before the script starts: a full disk must not
        # keep us from writing down how a deploy ended.
        fd = os.open(f"{self.directory}/{wire.PENDING}", _OPEN | os.O_TRUNC, 0o600)
        if self.durable:
            try:
                os.posix_fallocate(fd, 0, _BLOCK)
            except OSError:
                return fd
        return fd

    def _begin(self, lock: int) -> bool:
        # Whoever links `begin` decides: we (the script runs) or recovery (it never will).
        me = process.stat("self")
        if me is None:
            raise RuntimeError("/proc is not mounted")
        os.truncate(lock, 0)
        os.write(lock, wire.identity(os.getpid(), me.started, self.place))
        if time.clock_gettime(time.CLOCK_BOOTTIME) - self.launched_at > wire.START_WINDOW_S:
            return False
        try:
            os.link(f"{self.directory}/{wire.LOCK}", f"{self.directory}/{wire.BEGIN}")
        except (FileExistsError, FileNotFoundError):
            return False
        self.begun = True
        if self.durable:
            os.fsync(lock)
            _sync(self.directory)
        return True

    def _execute(self, writer: int, score: int) -> None:
        argv = self._command()
        env = dict(self.spec["env"])
        env["LEEROY_RUN"] = self.run_id
        env["LEEROY_RUN_DIR"] = self.directory
        program = _find(argv[0], env.get("PATH", os.defpath))
        try:
            os.chdir(self.spec["cwd"])
        except OSError as error:
            raise CannotStart(f"folder {self.spec['cwd']}: {error.strerror}") from error
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_DUP2, writer, 2),
        ]
        spare = _set_oom_score(score, b"0")
        deadline = time.monotonic() + 1.0
        while True:
            try:
                self.script = os.posix_spawn(
                    program,
                    argv,
                    env,
                    file_actions=actions,
                    setsid=True,
                    setsigmask=[],
                    setsigdef=self.ignored,
                )
                break
            except OSError as error:
                # Somebody forked while the script file was being written and still has it open
                # for writing; that ends with the other's exec.
                if error.errno == errno.ETXTBSY and time.monotonic() < deadline:
                    select.select([], [], [], 0.005)
                    continue
                raise CannotStart(f"{argv[0]}: {error.strerror}{self._shebang(error)}") from error
            except ValueError as error:
                raise CannotStart(f"{argv[0]}: {error}") from error
        if spare:
            _set_oom_score(score, spare)
        os.chdir("/")

    def _command(self) -> list[str]:
        argv: list[str] = list(self.spec["argv"])
        wrap: list[str] = list(self.spec["wrap"])
        script: str | None = self.spec["script"]
        path = f"{self.directory}/{wire.SCRIPT}"
        if script is None:
            return wrap + argv
        if not wrap:
            return [path, *argv] if script == "own" else ["/bin/sh", "-e", path, *argv]
        # The wrapper may lead to another machine or into a container: that has its own shell,
        # and of our files it sees at most the workspace.
        text = os.fsdecode(_read_all(path))
        if script == "sh" and len(text) < 100_000:
            return [*wrap, "sh", "-e", "-c", text, "sh", *argv]
        inside = self._into_workspace(os.fsencode(text))
        return [*wrap, inside, *argv] if script == "own" else [*wrap, "sh", "-e", inside, *argv]

    def _shebang(self, error: OSError) -> str:
        # The kernel says "no such file" of the script when its interpreter is missing.
        if error.errno != errno.ENOENT or self.spec["script"] != "own" or self.spec["wrap"]:
            return ""
        line = _read_all(f"{self.directory}/{wire.SCRIPT}")[:200].split(b"\n")[0]
        return f"; its first line is {os.fsdecode(line)}"

    def _into_workspace(self, text: bytes) -> str:
        folder = f"{self.spec['cwd']}/.leeroy"
        path = f"{folder}/{self.run_id}"
        try:
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                # A repository may bring a link of that name; it must not lead us elsewhere.
                if not stat.S_ISDIR(os.lstat(folder).st_mode):
                    raise CannotStart(f"{folder} is not a folder") from None
            fd = os.open(path, _OPEN | os.O_EXCL, 0o700)
            self.inside = path
            os.write(fd, text)
            os.close(fd)
        except OSError as error:
            raise CannotStart(f"{path}: {error.strerror}") from error
        return path

    # --- while it runs

    def _follow(self) -> None:
        poll = select.poll()
        poll.register(self.reader, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        while self.alive:
            for fd, _ in poll.poll(self._patience()):
                if fd == self.reader:
                    if not self._drain(len(self.buffer)):
                        poll.unregister(self.reader)
                else:
                    numbers = os.read(self.wake, _BLOCK)
                    # Why before what: a host that shuts down signals us and the script at once.
                    if signal.SIGUSR1 in numbers:
                        self._end(wire.STOPPED)
                    if signal.SIGTERM in numbers:
                        self._end(wire.OUTSIDE)
                    if signal.SIGCHLD in numbers:
                        self._reap()
            if self.alive:
                self._keep_time()
        # Everybody who could write is dead, so the pipe holds all there will ever be.  Somebody
        # outside the tree may have been given the other end: not a byte more than now is read.
        waiting = fcntl.ioctl(self.reader, termios.FIONREAD, b"\0\0\0\0")
        left: int = struct.unpack("i", waiting)[0]
        while left > 0:
            count = self._drain(min(left, len(self.buffer)))
            if not count:
                break
            left -= count

    def _patience(self) -> float:
        # Milliseconds until the clock has something to do; rounded up, not to spin before it.
        at = self.term_at if self.kill_at is None else self.kill_at
        return min(max(0.0, (at - time.monotonic()) * 1000 + 1), _LONGEST_POLL)

    def _drain(self, most: int) -> int:
        # Returns how many bytes came; 0 at the end of the pipe.
        try:
            count = os.readv(self.reader, [memoryview(self.buffer)[:most]])
        except BlockingIOError:
            return 1
        if count:
            data = memoryview(self.buffer)[:count]
            self.digest.update(data)
            self.output.write(data)
            if count == len(self.buffer) < _CHUNK:
                self._grow()
        return count

    def _grow(self) -> None:
        # Much is being written: take it in larger pieces, which costs both sides fewer wakeups.
        self.buffer = bytearray(_CHUNK)
        try:
            fcntl.fcntl(self.reader, fcntl.F_SETPIPE_SZ, _CHUNK)
        except OSError:
            return  # the user's share of pipe memory is used up; it works without

    def _reap(self) -> None:
        over = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.alive = False
                return
            if not pid:
                break
            if pid == self.script:
                self.status = status
                over = True
        if over:
            # The script is over, but not its tree.  If all were told to end, they have the rest of
            # the same time; else what it left behind gets a short notice.
            self._ask()
            if self.kill_at is None:
                self.kill_at = time.monotonic() + LEFTOVERS_S

    def _ask(self) -> None:
        # Each only once: many programs take a second TERM for impatience and skip their cleanup.
        me = os.getpid()
        self.asked |= tree.signal_all(me, signal.SIGTERM, signal.SIGCONT, but=self.asked)

    def _end(self, reason: str) -> None:
        # Once: the first reason stands, and a second request does not prolong the grace.
        if self.kill_at is not None or self.status is not None:
            if reason == wire.OUTSIDE and self.reason is None and self._died_of(signal.SIGTERM):
                # Whoever sent ours sent the script's, too, a moment before.
                self.reason = reason
            return
        self.reason = reason
        self.kill_at = time.monotonic() + float(self.spec["grace_s"])
        self._ask()

    def _died_of(self, number: int) -> bool:
        end = self.status
        return end is not None and os.WIFSIGNALED(end) and os.WTERMSIG(end) == number

    def _keep_time(self) -> None:
        now = time.monotonic()
        if self.kill_at is None:
            if now >= self.term_at:
                self._end(wire.TIMEOUT)
        elif now >= self.kill_at:
            tree.kill(os.getpid())
            self._reap()
            # Not every member is found while it forks, and one may be stuck in the kernel: again,
            # at once at first, then less and less often.
            self.kill_at = now + self.pause
            self.pause = min(self.pause * 1.5, 0.5)

    # --- the end

    def _record(self) -> None:
        end = self.status
        result = {
            "format": wire.FORMAT,
            "run_id": self.run_id,
            "exit_code": None if end is None or os.WIFSIGNALED(end) else os.WEXITSTATUS(end),
            "signal": os.WTERMSIG(end) if end is not None and os.WIFSIGNALED(end) else None,
            "reason": self.reason,
            "started_at": self.started_at,
            "finished_at": time.time(),
            "raw_bytes": self.output.written,
            "dropped_bytes": self.output.dropped,
            "sha256": self.digest.hexdigest(),
        }
        text = json.dumps(result).encode() + b"\n"
        self.output.close(durable=self.durable)
        while True:
            try:
                os.pwrite(self.pending, text, 0)
                break
            except OSError as error:
                # Without its end in writing the run would be lost: wait for room.
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                select.select([], [], [], 1.0)
        # A disk that refuses to make it durable must not make a doubt of what was seen: the server
        # stores it on its own, and a power cut before that leaves `begin` alone, which is a doubt.
        if self.durable:
            with contextlib.suppress(OSError):
                os.ftruncate(self.pending, len(text))
                os.fsync(self.pending)
        os.rename(f"{self.directory}/{wire.PENDING}", f"{self.directory}/{wire.RESULT}")
        if self.durable:
            with contextlib.suppress(OSError):
                _sync(self.directory)

    def _tell(self, tell: int) -> int:
        try:
            os.write(tell, wire.ENDED + self.run_id.encode())
        except BlockingIOError:
            return UNTOLD
        except OSError:
            return TOLD  # no server: the next one reads result.json
        return TOLD


def _read_all(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    parts = []
    try:
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _find(program: str, path: str) -> str:
    # The script's PATH decides, not ours: we have none.
    if "/" in program:
        return program
    for folder in path.split(":"):
        candidate = f"{folder or '.'}/{program}"
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    raise CannotStart(f"{program}: not found in PATH={path}")


def _open_oom_score() -> int:
    # Opened while we may still open it: after `keep_private` only root may.
    try:
        return os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return -1


def _set_oom_score(score: int, text: bytes) -> bytes:
    # The script inherits our score, so it is 0 for the moment of its birth.  Returns the old one.
    if score < 0:
        return b""
    try:
        old = os.pread(score, 16, 0).strip()
        if old == text:
            return b""
        os.pwrite(score, text, 0)
    except OSError:
        return b""
    return old
