"""
git, run so that no repository, no server and no name can make it do more than asked.

Commands are lists of words, never a shell's line; each gets the environment of
`environment.py` and nothing of the machine's or the service user's own settings.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time

from . import trouble
from .trouble import Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .address import Address
    from .environment import Credentials

SILENCE_S = 300
"""A transfer that says nothing for so long is taken for dead: git tells of progress as it goes."""

PAUSES_S = (1.0, 3.0)
"""How long to wait before asking a server again that did not answer as it should."""


class Git:
    """git for one repository, with the environment *env*; end it with `close`."""

    def __init__(
        self, address: Address, credentials: Credentials, env: Mapping[str, str], folder: str
    ) -> None:
        self.address = address
        self.credentials = credentials
        self.env = env
        self.folder = folder
        self._running: set[subprocess.Popen[bytes]] = set()

    def close(self) -> None:
        """End what still runs."""
        for process in list(self._running):
            process.kill()

    def local(
        self, git_dir: str, *args: str, doing: str, stdin: str = "", tree: str | None = None
    ) -> str:
        """
        What a command on the mirror or the workspace printed.

        The repository is always named: git must never look for one in the
        folders above, where it might find somebody else's.

        Raises:
            Trouble: It failed; kind "damage" if the repository is broken.
        """
        where = [f"--git-dir={git_dir}", *([f"--work-tree={tree}"] if tree else [])]
        return self.run(*where, *args, doing=doing, stdin=stdin)

    def run(self, *args: str, doing: str, stdin: str = "") -> str:
        """What a command that needs no network printed; raises Trouble as `local` does."""
        done = subprocess.run(
            ["git", *args],
            input=stdin.encode("utf-8", "surrogateescape"),
            capture_output=True,
            env={**self.env, "GIT_ALLOW_PROTOCOL": "file"},
            cwd=self.folder,
            check=False,
        )
        stderr = done.stderr.decode("utf-8", "replace")
        if done.returncode or trouble.QUIET_DAMAGE.search(stderr):
            raise trouble.local(stderr, doing)
        return done.stdout.decode("utf-8", "replace")

    def remote(self, *args: str, keep: int = -1, most: int = 0) -> str:
        """
        What a command that asks the repository's server printed; asked again after passing trouble.

        `keep` is a file descriptor the command inherits: the mirror's lock, so
        that it is held for as long as any process of the fetch lives.  `most`
        is how many bytes of an answer are read before it is refused; 0: any.

        Raises:
            Trouble: It failed, in the end.
        """
        for pause in (*PAUSES_S, None):
            try:
                return self._remote(args, keep, most)
            except Trouble as problem:
                if problem.kind != "transient" or pause is None:
                    raise
                say(f"{problem}; asking again in {pause:g} s")
                selectors.DefaultSelector().select(pause)
        raise AssertionError("unreachable")

    def _remote(self, args: tuple[str, ...], keep: int, most: int) -> str:
        process = subprocess.Popen(
            ["git", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
            cwd=self.folder,
            pass_fds=(keep,) if keep >= 0 else (),
        )
        self._running.add(process)
        out, err, silent = _drain(process, most)
        large = 0 < most < len(out)
        if silent or large:
            process.kill()
        code = process.wait()
        self._running.discard(process)
        if large:
            raise Trouble(
                f"{self.address.place} answers with more than {most >> 20} MiB, "
                "which Leeroy does not read"
            )
        if silent:
            err += f"\nfatal: timed out, {self.address.place} was silent for {SILENCE_S} s"
        if code:
            raise trouble.remote(err, self.address, self.credentials)
        return out


def say(sentence: str) -> None:
    """One line for the step's log."""
    print(sentence, flush=True)


def _drain(process: subprocess.Popen[bytes], most: int) -> tuple[str, str, bool]:
    """
    All output, the last 64 KiB of complaints, and whether it fell silent.

    Of an output larger than *most* (unless that is 0) only the beginning.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    out, err, told = bytearray(), bytearray(), time.monotonic()
    with process.stdout, process.stderr, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(SILENCE_S)
            if not ready:
                return _text(out), _text(err), True
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    out += data
                    if 0 < most < len(out):
                        return _text(out), _text(err), False
                else:
                    err += data
                    del err[:-65536]
                    if time.monotonic() - told > 10:
                        told = time.monotonic()
                        say(trouble.printable(_text(bytearray(data)).split("\r")[-2:][0], 100))
    return _text(out), _text(err), False


def _text(data: bytearray) -> str:
    return data.decode("utf-8", "replace")
