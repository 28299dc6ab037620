"""
A repository asked by the checkout program: a process of its own, with a deadline.

Whatever the server does (hangs, floods, redirects), it does it to that
process.  What comes back is data, checked here once more.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from leeroy.config import Config
from leeroy.context import Context
from leeroy.errors import ConfigError, LeeroyError, Unavailable
from leeroy.hooks.payload import MESSAGE_LIMIT
from leeroy.operations.arriving import Head
from leeroy.pipelines import Pipeline
from leeroy.runner import checkout

REFS_S = 30.0
"""So long a server may take to tell its branches and tags."""
HEADS_S = 900.0
"""So long a fetch may take, which may be the first one of a large repository."""
_END_S = 5.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoAnswer(LeeroyError):
    """The repository could not be asked; the text says why and what to do."""


@dataclass(frozen=True)
class Wanted:
    """A head to look into: its full ref, the commit seen there now, and those seen before."""

    ref: str
    commit: str
    before: tuple[str, ...]


class Asks:
    """
    Asks repositories, each question a process; `close` ends those under way.

    Raises (from `refs` and `heads`):
        NoAnswer: The repository did not tell, in time or at all.
        Unavailable: It was closed meanwhile.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._folder = context.config.data / "asks"
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def clean(self) -> None:
        """Remove what a killed server's questions left, their credentials among it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """End every question under way; no other is begun."""
        with self._lock:
            self._closed = True
            for process in self._running:
                _end(process)

    def refs(self, pipeline: Pipeline, deadline_s: float = REFS_S) -> dict[str, str]:
        """Every branch and tag of the pipeline's repository, by full name, with its commit."""
        answer = self._ask(pipeline, "refs", deadline_s)
        found = answer.get("refs")
        if not isinstance(found, dict):
            raise NoAnswer("the checkout program told no branches and tags")
        return {str(ref): str(commit) for ref, commit in found.items()}

    def heads(
        self, pipeline: Pipeline, wanted: Sequence[Wanted], deadline_s: float = HEADS_S
    ) -> dict[str, Head]:
        """
        What the wanted heads show, fetched into the mirror.

        One that moved on meanwhile is left out.
        """
        listed = [(one.ref, one.commit, one.before) for one in wanted]
        answer = self._ask(pipeline, "heads", deadline_s, listed)
        found = answer.get("heads")
        if not isinstance(found, dict):
            raise NoAnswer("the checkout program told nothing of the heads")
        return {ref: _head(ref, shown) for ref, shown in found.items() if isinstance(shown, dict)}

    def _ask(
        self,
        pipeline: Pipeline,
        mode: str,
        deadline_s: float,
        listed: Sequence[tuple[str, str, Sequence[str]]] = (),
    ) -> dict[str, Any]:
        assert pipeline.repository is not None
        secrets = self._context.secrets
        folder = self._folder / token_hex(8)
        request = folder / checkout.REQUEST
        try:
            text = checkout.request(
                repository=pipeline.repository,
                workspace=folder / "workspace",
                mirror=checkout.mirror_of(self._context.config.data, pipeline.repository),
                token=None if pipeline.token is None else secrets.get(pipeline.token),
                ssh_key=None if pipeline.ssh_key is None else secrets.get(pipeline.ssh_key),
                heads=listed,
                deadline_s=deadline_s,
            )
        except ConfigError as exc:
            raise NoAnswer(str(exc)) from exc
        try:
            folder.mkdir(mode=0o700, parents=True)
            request.touch(mode=0o600)
            request.write_text(text, encoding="utf-8")
            return self._run(pipeline, checkout.argv(request, mode=mode), folder, deadline_s)
        except OSError as exc:
            raise NoAnswer(f"{folder} cannot be used: {exc.strerror}") from exc
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run(
        self, pipeline: Pipeline, argv: Sequence[str], folder: Path, deadline_s: float
    ) -> dict[str, Any]:
        env = environment(self._context.config, self._context.environ, pipeline, folder)
        process = self._begin(argv, env, folder)
        try:
            out, err = process.communicate(timeout=deadline_s + _END_S)
        except subprocess.TimeoutExpired:
            _end(process)
            process.communicate()
            raise NoAnswer(_silent(pipeline, deadline_s)) from None
        finally:
            _end(process)
            with self._lock:
                self._running.discard(process)
        if self._closed:
            raise Unavailable("Leeroy stops")
        if process.returncode == checkout.TOO_LATE:
            raise NoAnswer(_silent(pipeline, deadline_s))
        if process.returncode != 0:
            lines = err.decode("utf-8", "replace").strip().splitlines()
            raise NoAnswer(lines[-1][:1000] if lines else f"git exited {process.returncode}")
        found = json.loads(out)
        return found if isinstance(found, dict) else {}

    def _begin(
        self, argv: Sequence[str], env: Mapping[str, str], folder: Path
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise Unavailable("Leeroy stops")
            process = subprocess.Popen(
                argv,
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self._running.add(process)
            return process


def environment(
    config: Config, environ: Mapping[str, str], pipeline: Pipeline, folder: Path
) -> dict[str, str]:
    """What the checkout program knows when it only asks: as in a build, but for the build."""
    return {
        "PATH": environ.get("PATH", _PATH),
        "HOME": environ.get("HOME", "/"),  # where ssh looks for keys of its own
        **config.env,
        **pipeline.env,
        "LEEROY_RUN_DIR": str(folder),
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it with git's helpers, of which one may hang on to the server."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _head(ref: str, shown: Mapping[str, Any]) -> Head:
    commit = shown.get("commit")
    if commit is None:
        return Head(ref=ref, commit=None)
    return Head(
        ref=ref,
        commit=commit,
        at=shown["at"],
        message=_words(shown["message"], MESSAGE_LIMIT),
        author=_words(shown["author"], 300),
        author_email=_words(shown["author_email"], 300),
        passed_over=tuple(shown["passed_over"]),
    )


def _words(text: str, limit: int) -> str | None:
    """Text of a commit as a database can store it; None when there is none."""
    text = text.encode("utf-8", "replace").decode().replace("\0", "?")
    return text[:limit] if text.strip() else None


def _silent(pipeline: Pipeline, deadline_s: float) -> str:
    return (
        f"{pipeline.repository} did not answer within {deadline_s:.0f} s; "
        "is its server well, and may this machine reach it?"
    )
