"""
The file system a guest boots from: this interpreter, Leeroy, git and a shell, as they are here.

Everything lies at the path it has on this machine.  What the guest writes
there is gone at its next start.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from tests.parts import need

_REPOSITORY = Path(__file__).parents[2]
_PARTS = ("leeroy", "migrations", "tests/__init__.py", "tests/crash")
_PROGRAMS = (
    *("chmod", "cut", "env", "git", "grep", "ip", "mount", "rm", "sh", "sha256sum", "sleep"),
    *("sync", "true"),
)
_TOO_MUCH = (
    *("config-*", "site-packages", "dist-packages"),
    *("distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter"),
)

_INIT = f"""#!/bin/sh
mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS0 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t ext4 /dev/nvme0n2 /disk || exit
ip link set lo up
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp
export PYTHONPATH={_REPOSITORY} PYTHONUTF8=1 PYTHONDONTWRITEBYTECODE=1
cd {_REPOSITORY}
# Not in its place: what is orphaned needs somebody who waits for it.
{sys.executable} -m tests.crash.guest
"""
"""When it ends, the kernel panics, and the machine with it."""


def write(folder: Path, image: Path) -> None:
    """Make the file system in a *folder* of its own, and of that an ext4 *image*."""
    for name in ("dev", "disk", "etc", "proc", "run", "sys", "tmp"):
        (folder / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (folder / "usr" / name).mkdir(parents=True)
            (folder / name).symlink_to(f"usr/{name}")
    (folder / "etc" / "passwd").write_text("root:x:0:0:root:/tmp:/bin/sh\n")
    (folder / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    (folder / "init").write_text(_INIT)
    (folder / "init").chmod(0o755)
    for path in {*_programs(), *_python(), *_installed("leeroy", set())}:
        _put(path, folder)
    for path in _libraries(folder):
        _put(path, folder)
    # Once here, not at each start there.
    compiling = [sys.executable, "-m", "compileall", "-q", "-s", folder, "-p", "/", folder]
    subprocess.run(compiling, check=True)
    make = [need("mkfs.ext4"), "-q", "-O", "^has_journal", "-d", folder, image, "512M"]
    subprocess.run(make, check=True)
    shutil.rmtree(folder)


def _put(path: Path, root: Path) -> None:
    copy = root / path.relative_to("/")
    if path.is_dir():
        left_out = shutil.ignore_patterns(*_TOO_MUCH)
        shutil.copytree(path, copy, symlinks=True, ignore=left_out, dirs_exist_ok=True)
    elif not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def _programs() -> Iterator[Path]:
    yield from (Path(need(name)) for name in _PROGRAMS)
    words = [need("git"), "--exec-path"]
    yield Path(subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip())


def _python() -> Iterator[Path]:
    yield Path(sys.executable)
    configuration = Path(sys.prefix, "pyvenv.cfg")
    if configuration.exists():
        yield configuration
    bases = {"installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix}
    yield from (Path(sysconfig.get_path(name, vars=bases)) for name in ("stdlib", "platstdlib"))
    yield from (_REPOSITORY / part for part in _PARTS)


def _installed(name: str, known: set[str]) -> Iterator[Path]:
    """What belongs to a distribution, and to those it requires."""
    if name in known:
        return
    known.add(name)
    found = importlib.metadata.distribution(name)
    for entry in found.files or ():
        path = Path(os.path.normpath(found.locate_file(entry)))
        if path.suffix != ".pth" and path.exists():
            yield path
    for text in found.requires or ():
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            yield from _installed(wanted.name, known)


def _libraries(root: Path) -> set[Path]:
    """What the dynamic linker would load for all that is there so far."""
    programs = []
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as stream:
                if stream.read(4) == b"\x7fELF":
                    programs.append(Path("/") / path.relative_to(root))
    words = [need("ldd"), *programs]
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return {Path(library) for library in re.findall(r"(/\S+) \(0x", listed)}
