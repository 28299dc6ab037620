"""
What a build leaves for its deploys: the files its patterns name.

They are copied out of the workspace before the build counts as passed, each
whole or not at all, and put into the fresh workspace of a deploy.  Links and
what is no file are refused: what they lead to is not the build's to give.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Sequence
from pathlib import Path


class ArtifactError(Exception):
    """The artifacts cannot be had; the text says why."""


def collect(workspace: Path, patterns: Sequence[str], into: Path) -> int:
    """
    Copy what the patterns name; a second time does the same again.

    Returns how many files there were.  Raises ArtifactError when a pattern
    names nothing, or something that is no plain file.
    """
    count = 0
    for pattern in patterns:
        found = sorted(workspace.glob(pattern))
        if not found:
            raise ArtifactError(f"artifacts: nothing in the workspace matches {pattern!r}")
        for path in found:
            for file in _files(workspace, path):
                _copy(file, into / file.relative_to(workspace))
                count += 1
    return count


def unpack(artifacts: Path, workspace: Path) -> None:
    """Put everything into a deploy's workspace, over what the checkout left there."""
    if not artifacts.is_dir():
        return
    for file in _files(artifacts, artifacts):
        target = workspace / file.relative_to(artifacts)
        _no_links(workspace, target.parent)
        _copy(file, target)


def _files(base: Path, path: Path) -> list[Path]:
    _no_links(base, path)
    seen = path.lstat()
    if stat.S_ISREG(seen.st_mode):
        return [path]
    if not stat.S_ISDIR(seen.st_mode):
        kind = "a link" if stat.S_ISLNK(seen.st_mode) else "no plain file"
        raise ArtifactError(f"artifacts: {path.relative_to(base)} is {kind}")
    return [file for entry in sorted(path.iterdir()) for file in _files(base, entry)]


def _no_links(base: Path, path: Path) -> None:
    for part in (path, *path.parents):
        if part == base:
            return
        if part.is_symlink():
            raise ArtifactError(f"artifacts: {part.relative_to(base)} is a link")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # not made of the file's own name: that may be as long as a name can be
    new = target.with_name(f".new-{os.getpid()}-{threading.get_native_id()}")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(source, flags), "rb") as reading, new.open("wb") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)
        os.fchmod(writing.fileno(), stat.S_IMODE(os.fstat(reading.fileno()).st_mode) & 0o755)
    new.replace(target)
