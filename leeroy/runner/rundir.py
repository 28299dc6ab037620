"""
The run directory as the server sees it: written, read, judged, removed.

Nothing here needs the process that made the directory: every answer comes
from the files and the lock, so a restarted server asks the same questions.
What the files mean is told in docs/runner.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import shutil
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from leeroy.errors import Invalid, LeeroyError, NotFound, NotPossible
from leeroy.runner import mark, output, process, wire

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_NEW = ".new-"
_GONE = ".gone-"
_NOTED = ".noted-"
_MOST_FILE = 1 << 20


class RunnerError(LeeroyError):
    """The runner cannot work: its parent process does not start, or a run directory is broken."""


class Run(StrEnum):
    """What a look at a run directory finds; see `RunDirs.look`."""

    absent = "absent"
    prepared = "prepared"
    running = "running"
    ended = "ended"
    lost = "lost"
    revoked = "revoked"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """
    All a supervisor needs to run one script.

    `script` None: `argv` is executed as it stands.  Else the text is written
    to a file; one whose first line starts with `#!` is executed itself, any
    other by `/bin/sh -e`, with `argv` as its arguments.  `wrap` is put before
    the whole.  `env` is the complete environment (LEEROY_RUN and
    LEEROY_RUN_DIR are added).  `timeout_s` counts from the execution, then
    the tree gets TERM and, `grace_s` later, KILL.  `max_log` is in bytes.
    `durable`: what decides is on the disk before the next step is taken.
    `secret_files` are written into the run directory, readable for the
    script's user only.
    """

    run_id: str
    script: str | None
    argv: tuple[str, ...]
    wrap: tuple[str, ...] = ()
    cwd: str
    env: Mapping[str, str]
    secrets: tuple[str, ...] = ()
    timeout_s: float
    max_log: int
    durable: bool
    secret_files: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 10.0


@dataclass(frozen=True)
class Result:
    """
    How a run ended.

    At most one of `exit_code` and `signal` is set; neither: the script was
    not executed.  `reason` is None (it ended by itself), one of
    `wire.TIMEOUT`, `STOPPED` and `OUTSIDE`, or "cannot start: …".  Times are
    unix seconds; `sha256` is of all `raw_bytes`, those that were dropped included.
    """

    exit_code: int | None
    signal: int | None
    reason: str | None
    started_at: float
    finished_at: float
    raw_bytes: int
    dropped_bytes: int
    sha256: str


@dataclass(frozen=True)
class Piece:
    """
    A piece of raw output: `data` starts at `offset`.

    `dropped_before` bytes between the offset that was asked for and `offset`
    are not kept.  Empty `data`: nothing more, now.
    """

    offset: int
    data: bytes
    dropped_before: int


@dataclass(frozen=True)
class Supervised:
    """Who claimed a run: a supervisor's pid, its start time in ticks, and where that is valid."""

    pid: int
    started: int
    place: str


def check_name(run_id: str) -> str:
    """*run_id*, if it can name a directory; raises Invalid."""
    if not _NAME.fullmatch(run_id):
        raise Invalid(f"{run_id!r} is no run id: letters, digits and . _ - only")
    return run_id


class RunDirs:
    """The folder of all run directories; every method may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._base = str(self.folder)
        self._replaced = False

    def path(self, run_id: str) -> str:
        """The run's directory, whether it exists or not."""
        return f"{self._base}/{check_name(run_id)}"

    def open(self) -> None:
        """Make the folder; remove what a crash left half-made or half-removed."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in self.folder.iterdir():
            if entry.name.startswith((_NEW, _GONE)):
                shutil.rmtree(entry, ignore_errors=True)
        self._replaced = mark.replaced(self.folder)

    def all(self) -> list[str]:
        """The ids of all runs that have a directory, or the note that they had one; sorted."""
        try:
            names = os.listdir(self._base)
        except FileNotFoundError:
            return []
        runs = {name.removeprefix(_NOTED) for name in names}
        return sorted(name for name in runs if _NAME.fullmatch(name))

    # --- writing

    def prepare(self, spec: Spec) -> None:
        """
        Write the run's directory; after a crash it is there as a whole or not at all.

        Of a durable one it is noted beside it that there was one, on the disk
        before this returns: see `vanished`.  Raises NotPossible if the run has
        one already.
        """
        target = self.path(spec.run_id)
        new = f"{self._base}/{_NEW}{spec.run_id}"
        for name in spec.secret_files:
            if not _NAME.fullmatch(name) or name in wire.RESERVED or name.startswith(wire.OUTPUT):
                raise Invalid(f"{name!r} cannot be the name of a secret file")
        kind = None
        if spec.script is not None:
            kind = "own" if spec.script.startswith("#!") else "sh"
        text = json.dumps(
            {
                "format": wire.FORMAT,
                "run_id": spec.run_id,
                "script": kind,
                "argv": spec.argv,
                "wrap": spec.wrap,
                "cwd": spec.cwd,
                "env": dict(spec.env),
                "secrets": spec.secrets,
                "timeout_s": spec.timeout_s,
                "max_log": spec.max_log,
                "durable": spec.durable,
                "grace_s": spec.grace_s,
                "secret_files": sorted(spec.secret_files),
            }
        )
        try:
            os.mkdir(new, 0o700)
        except FileExistsError:
            shutil.rmtree(new)  # the same call failed half-way before
            os.mkdir(new, 0o700)
        try:
            if spec.script is not None:
                mode = 0o700 if kind == "own" else 0o600
                _write(f"{new}/{wire.SCRIPT}", os.fsencode(spec.script), mode, spec.durable)
            for name, content in spec.secret_files.items():
                _write(f"{new}/{name}", os.fsencode(content), 0o600, spec.durable)
            _write(f"{new}/{wire.SPEC}", text.encode(), 0o600, spec.durable)
            if spec.durable:
                sync(new)
            os.rename(new, target)
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            if os.path.isdir(target):
                raise NotPossible(f"run {spec.run_id} has a directory already") from error
            raise
        if spec.durable:
            # After the rename, so that no crash leaves the note of a directory that never was; and
            # before the one fsync that both need.
            _write(self._note(spec.run_id), b"", 0o600)
            sync(self._base)

    def revoke(self, run_id: str) -> bool:
        """
        Make sure that a run which has not begun never will.

        True: its script was never executed and never will be, also after a
        power cut.  False: it has begun.
        """
        directory = self._existing(run_id)
        begin = f"{directory}/{wire.BEGIN}"
        if not os.path.exists(begin):
            # A name of its own for each call: what `begin` may lead to is never written again.
            claim = f"{directory}/{wire.REVOKED}.{os.getpid()}.{threading.get_ident()}"
            try:
                _write(claim, b"%d revoked\n" % wire.FORMAT, 0o600, durable=True)
                with contextlib.suppress(FileExistsError):
                    os.link(claim, begin)
            finally:
                # Also of one that could not be written: the next call wants the name.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(claim)
        sync(directory)
        return _is_revoked(process.read(begin))

    def ask_to_stop(self, run_id: str, reason: str) -> None:
        """Leave the request where the supervisor looks before it executes the script."""
        path = f"{self._existing(run_id)}/{wire.STOP}"
        try:
            _write(path, os.fsencode(reason), 0o600)
        except FileExistsError:
            return

    def forget(self, run_id: str) -> None:
        """
        Remove the run's directory, secrets and output included; gone already is fine.

        Raises NotPossible while its supervisor lives.
        """
        directory = self.path(run_id)
        if self.look(run_id) is Run.running:
            raise NotPossible(f"run {run_id} is still running; stop it first")
        # First: a crash in between leaves a directory, which is found, and no note, which is not.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._note(run_id))
        gone = f"{self._base}/{_GONE}{run_id}"
        try:
            # Renamed first: a directory that lost half of its files would tell lies.
            os.rename(directory, gone)
        except FileNotFoundError:
            return
        except OSError:
            shutil.rmtree(gone, ignore_errors=True)
            os.rename(directory, gone)
        shutil.rmtree(gone, ignore_errors=True)

    # --- looking

    def look(self, run_id: str) -> Run:
        """
        What is true of the run at this instant.

        absent: no directory.  prepared: the script has not begun.  running:
        it has begun and its supervisor lives.  ended: `result` tells how.
        lost: it has begun, and nobody who could tell its end is alive.
        revoked: it never begins.
        """
        directory = self.path(run_id)
        if self._result(directory) is not None:
            return Run.ended
        try:
            begin = os.open(f"{directory}/{wire.BEGIN}", os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return Run.prepared if os.path.isdir(directory) else Run.absent
        try:
            if _is_revoked(os.read(begin, 4096)):
                return Run.revoked
            if _is_locked(begin):
                return Run.running
        finally:
            os.close(begin)
        # The supervisor may have ended, in order, between the first look and the second.
        return Run.lost if self._result(directory) is None else Run.ended

    def vanished(self, run_id: str) -> bool:
        """
        Whether a run that is absent may have had a directory, so that nobody knows what it did.

        So it is for a durable one when its note is there, whoever removed the
        directory and when, and for every run when the folder of all runs is
        another one than at the start before this.
        """
        if self.look(run_id) is not Run.absent:
            return False
        return self._replaced or os.path.exists(self._note(run_id))

    def supervised(self, run_id: str) -> Supervised | None:
        """The supervisor that took the run, alive or not; None if none has said so yet."""
        try:
            text = process.read(f"{self.path(run_id)}/{wire.LOCK}")
        except FileNotFoundError:
            return None
        found = wire.parse_identity(text)
        return None if found is None else Supervised(*found)

    def locked(self, run_id: str) -> bool:
        """Whether a supervisor holds the run's lock, begun or not."""
        try:
            lock = os.open(f"{self.path(run_id)}/{wire.LOCK}", os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            return _is_locked(lock)
        finally:
            os.close(lock)

    def result(self, run_id: str) -> Result:
        """How the run ended; raises NotPossible while it has no result."""
        found = self._result(self._existing(run_id))
        if found is None:
            raise NotPossible(f"run {run_id} has no result: it is {self.look(run_id)}")
        return Result(
            exit_code=found["exit_code"],
            signal=found["signal"],
            reason=found["reason"],
            started_at=found["started_at"],
            finished_at=found["finished_at"],
            raw_bytes=found["raw_bytes"],
            dropped_bytes=found["dropped_bytes"],
            sha256=found["sha256"],
        )

    def spec(self, run_id: str) -> Spec:
        """The run's spec as it was prepared, secrets included."""
        directory = self._existing(run_id)
        try:
            found = json.loads(Path(directory, wire.SPEC).read_bytes())
            script = None
            if found["script"] is not None:
                script = os.fsdecode(Path(directory, wire.SCRIPT).read_bytes())
            files = {
                name: os.fsdecode(Path(directory, name).read_bytes())
                for name in found["secret_files"]
            }
        except (OSError, ValueError, KeyError) as error:
            raise RunnerError(f"the directory of run {run_id} is damaged: {error}") from error
        return Spec(
            run_id=run_id,
            script=script,
            argv=tuple(found["argv"]),
            wrap=tuple(found["wrap"]),
            cwd=found["cwd"],
            env=found["env"],
            secrets=tuple(found["secrets"]),
            timeout_s=found["timeout_s"],
            max_log=found["max_log"],
            durable=found["durable"],
            secret_files=files,
            grace_s=found["grace_s"],
        )

    def read(self, run_id: str, offset: int, limit: int) -> Piece:
        """Up to *limit* bytes of raw output from *offset* on, or from the next byte kept."""
        directory = self._existing(run_id)
        while True:
            try:
                starts = output.segments(directory)
            except FileNotFoundError as error:  # forgotten since: it was there a moment ago
                raise NotFound(f"there is no run {run_id} below {self._base}") from error
            for start, following in itertools.zip_longest(starts, starts[1:]):
                if following is not None and following <= offset:
                    continue
                try:
                    fd = os.open(output.path(directory, start), os.O_RDONLY | os.O_NOFOLLOW)
                except FileNotFoundError:
                    break  # dropped since it was listed: list again
                try:
                    size = os.fstat(fd).st_size
                    if start + size <= offset:
                        continue
                    at = max(offset, start)
                    data = os.pread(fd, min(limit, start + size - at), at - start)
                finally:
                    os.close(fd)
                return Piece(at, data, at - offset)
            else:
                return Piece(offset, b"", 0)

    def file(self, run_id: str, name: str) -> bytes | None:
        """What the script left under *name* in its run directory; None if there is no such file."""
        if not _NAME.fullmatch(name):
            raise Invalid(f"{name!r} is no name of a file")
        try:
            # A script may leave anything: a link to our secrets, a pipe that never ends.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(f"{self.path(run_id)}/{name}", flags)
        except OSError:
            return None
        try:
            seen = os.fstat(fd)
            if not stat.S_ISREG(seen.st_mode) or seen.st_size > _MOST_FILE:
                return None
            return os.read(fd, _MOST_FILE)
        finally:
            os.close(fd)

    def _note(self, run_id: str) -> str:
        return f"{self._base}/{_NOTED}{check_name(run_id)}"

    def _existing(self, run_id: str) -> str:
        directory = self.path(run_id)
        if not os.path.isdir(directory):
            raise NotFound(f"there is no run {run_id} below {self._base}")
        return directory

    def _result(self, directory: str) -> dict[str, Any] | None:
        try:
            text = process.read(f"{directory}/{wire.RESULT}")
            found = json.loads(text.rstrip(b"\0"))
        except (FileNotFoundError, ValueError):
            # A power cut may leave the name of a result that was not durable, without its text.
            return None
        return found if isinstance(found, dict) and "exit_code" in found else None


def _is_revoked(text: bytes) -> bool:
    return text.split()[1:2] == [b"revoked"]


def _is_locked(fd: int) -> bool:
    # Shared, so that two who look do not take each other for a supervisor.
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _write(path: str, content: bytes, mode: int, durable: bool = False) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        while content:
            content = content[os.write(fd, content) :]
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


def sync(directory: str) -> None:
    """Put a directory's entries on the disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
