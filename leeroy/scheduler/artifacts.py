"""
What a build leaves for its deploys: the files its patterns name.

They are copied out of the workspace before the build counts as passed, whole
or not at all, and on the disk before their list (`db/artifacts.py`) is
committed.  Into the fresh workspace of a deploy goes exactly what that list
says, or nothing is deployed.  Links and what is no file are refused: what
they lead to is not the build's to give.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from leeroy import files
from leeroy.db.artifacts import Artifact
from leeroy.durations import sized

MOST_FILES = 10_000
"""So many files a build may keep; more are better packed into one."""
MOST_PATH = 1000
"""The longest path in bytes: PostgreSQL indexes no row beyond a third of its 8 kB pages."""
_PIECE = 1 << 20


class ArtifactError(Exception):
    """The artifacts cannot be had; the text says why."""

    def __init__(self, text: object) -> None:
        super().__init__(f"artifacts: {text}")


# --- out of the workspace of a build


def collect(
    workspace: Path,
    patterns: Sequence[str],
    into: Path,
    earlier: Sequence[Artifact],
    limit: int,
) -> tuple[Artifact, ...]:
    """
    Copy what the patterns name beside what *earlier* steps left; a second time does the same again.

    What *into* holds besides those is removed: an attempt that was lost left
    it.  After a crash it holds at most more than the list says, and the next
    look at the same run makes it whole.  *limit* is in bytes, for all of them.

    Raises:
        ArtifactError: A pattern names nothing, or something that is no plain
            file, or there is too much; then nothing of this step is kept.
        OSError: They cannot be read or written.
    """
    try:
        planned = _plan(workspace, patterns)
        before = [artifact for artifact in earlier if artifact.path not in planned]
        _apart(planned, before)
        room = limit - sum(artifact.size for artifact in before)
        _fits(len(planned) + len(before), sum(planned.values()), room, limit)
        staging = into.with_name(f".new-{into.name}")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            kept = []
            for path in planned:
                kept.append(_copy(workspace, path, staging / path, room, durable=True))
                room -= kept[-1].size
                _fits(len(planned) + len(before), 0, room, limit)
            _put(staging, kept, into, before)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except files.NotPlain as exc:
        raise ArtifactError(exc) from exc
    return tuple(kept)


def _plan(workspace: Path, patterns: Sequence[str]) -> dict[str, int]:
    """The files that the patterns name, with their sizes now."""
    planned: dict[str, int] = {}
    if workspace.is_symlink():
        raise ArtifactError("the workspace is a link")
    for pattern in patterns:
        found = dict.fromkeys(_matching(workspace, PurePosixPath(pattern).parts))
        if not found:
            raise ArtifactError(f"nothing in the workspace matches {pattern!r}")
        count = 0
        for start in found:
            for path, size in files.walk(workspace, start):
                _storable(path)
                planned[path] = size
                count += 1
                if len(planned) > MOST_FILES:
                    _fits(len(planned), 0, 0, 0)
        if not count:
            raise ArtifactError(f"{pattern!r} names only empty folders")
    return planned


def _matching(
    base: Path, parts: Sequence[str], at: str = "", *, named: bool = True
) -> Iterator[str]:
    """
    The paths that fit a pattern; `**` is any number of folders.

    No link is followed.  One that fits the whole pattern is refused, and so is
    one on the way that is spelled out (*named*: all before it was).
    """
    if not parts or tuple(parts) == ("**",):
        yield at
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        for folder in _folders(base, at):
            yield from _matching(base, rest, folder, named=False)
        return
    literal = not any(letter in part for letter in "*?[")
    for name in sorted(entry.name for entry in (base / at).iterdir()):
        if not (name == part if literal else fnmatchcase(name, part)):
            continue
        path = f"{at}/{name}" if at else name
        mode = (base / path).lstat().st_mode
        if stat.S_ISLNK(mode) and (not rest or (named and literal)):
            raise files.NotPlain(f"{path} is a link")
        if not rest or stat.S_ISDIR(mode):
            yield from _matching(base, rest, path, named=named and literal)


def _folders(base: Path, at: str) -> Iterator[str]:
    waiting = [at]
    while waiting:
        folder = waiting.pop()
        yield folder
        with os.scandir(base / folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        waiting += [f"{folder}/{name}" if folder else name for name in sorted(names, reverse=True)]


def _storable(path: str) -> None:
    try:
        length = len(path.encode())
    except UnicodeEncodeError as exc:
        raise ArtifactError(f"the name {path} is no UTF-8; rename it") from exc
    if length > MOST_PATH:
        raise ArtifactError(f"the path {path[:60]}… has {length} bytes, more than {MOST_PATH}")


def _apart(planned: Iterable[str], before: Sequence[Artifact]) -> None:
    """One step's file cannot be where another one's folder is."""
    every = {*planned, *(artifact.path for artifact in before)}
    for path in every:
        for parent in PurePosixPath(path).parents:
            if str(parent) in every:
                raise ArtifactError(f"{parent} is a file of one step and a folder of another")


def _fits(count: int, size: int, room: int, limit: int) -> None:
    if count > MOST_FILES:
        raise ArtifactError(
            f"these are more than {MOST_FILES} files, the most that a build may keep; "
            "name fewer, or pack them into one archive"
        )
    if size > room:
        raise ArtifactError(
            f"the build would keep {sized(limit - room + size)} ({limit - room + size} bytes), and "
            f"max_artifacts is {sized(limit)}; name fewer files, or raise it in leeroy.toml"
        )


def _put(staging: Path, kept: Sequence[Artifact], into: Path, before: Sequence[Artifact]) -> None:
    """Move what is whole to its place, and have all of it on the disk."""
    if into.is_symlink():
        into.unlink()
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    _prune(into, {artifact.path for artifact in (*kept, *before)})
    folders = {into, into.parent, into.parent.parent}
    for artifact in kept:
        target = into / artifact.path
        target.parent.mkdir(parents=True, exist_ok=True)
        (staging / artifact.path).replace(target)
        folders |= {into / parent for parent in PurePosixPath(artifact.path).parents}
    for folder in folders:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(at)
        finally:
            os.close(at)


def _prune(into: Path, wanted: set[str]) -> None:
    for folder, inner, names in os.walk(into, topdown=False):
        at = Path(folder)
        for name in (*names, *inner):
            path = at / name
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.is_symlink() or str(path.relative_to(into)) not in wanted:
                path.unlink()


# --- into the workspace of a deploy


def unpack(kept: Path, manifest: Sequence[Artifact] | None, workspace: Path) -> None:
    """
    Put a build's artifacts into a deploy's workspace, over what the checkout left there.

    *manifest* is what the build left; None: nobody noted it (a build of
    before there were lists), and whatever is kept is taken.

    Raises:
        ArtifactError: A file is missing, has changed, or was added since.
        OSError: They cannot be read or written.
    """
    try:
        there = dict(files.walk(kept)) if kept.is_dir() else {}
        if manifest is None and not there:
            raise ArtifactError(f"nothing is left of them in {kept}; build it again")
        expected = None if manifest is None else {a.path: a for a in manifest}
        if expected is not None:
            _same(there, expected, kept)
        for path in there:
            target = workspace / path
            _no_links(workspace, target.parent)
            copied = _copy(kept, path, target)
            # Of the very bytes that the deploy gets, so nobody can change them in between.
            if expected is not None and copied != expected[path]:
                raise _differs(path, kept)
    except files.NotPlain as exc:
        raise ArtifactError(f"in {kept}: {exc}; build it again") from exc


def _same(there: dict[str, int], expected: dict[str, Artifact], kept: Path) -> None:
    for path, artifact in expected.items():
        if path not in there:
            raise ArtifactError(
                f"{path} is gone from {kept}; what was tested cannot be deployed, so build it again"
            )
        if there[path] != artifact.size:
            raise _differs(path, kept)
    for path in there:
        if path not in expected:
            raise ArtifactError(
                f"{path} is in {kept}, and the build did not leave it; remove it, or name it in "
                "the artifacts of a [[build]]"
            )


def _differs(path: str, kept: Path) -> ArtifactError:
    return ArtifactError(
        f"{path} in {kept} has changed since the build left it; what was tested cannot be "
        "deployed, so build it again"
    )


def _no_links(base: Path, path: Path) -> None:
    for part in (path, *path.parents):
        if part == base:
            return
        if part.is_symlink():
            raise files.NotPlain(f"{part.relative_to(base)} of the checkout is a link")


def _copy(
    base: Path, path: str, target: Path, most: int | None = None, *, durable: bool = False
) -> Artifact:
    """
    Copy one file, whole or not at all; returns what was copied.

    With *most*, no more than one byte beyond so many is worth reading.  A
    hard link is copied like any file: whoever could make it in the workspace
    could as well have copied what it leads to, and a copy shares nothing with it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # not made of the file's own name: that may be as long as a name can be
    new = target.with_name(f".new-{os.getpid()}-{threading.get_native_id()}")
    digest, size = hashlib.sha256(), 0
    with os.fdopen(files.open_(base, path), "rb") as reading, new.open("wb") as writing:
        while (most is None or size <= most) and (piece := reading.read(_PIECE)):
            writing.write(piece)
            digest.update(piece)
            size += len(piece)
        writing.flush()
        os.fchmod(writing.fileno(), stat.S_IMODE(os.fstat(reading.fileno()).st_mode) & 0o755)
        if durable:
            os.fsync(writing.fileno())
    new.replace(target)
    return Artifact(path, size, digest.hexdigest())
