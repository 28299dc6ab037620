"""
A machine whose power can be cut: a guest of qemu, with Debian's kernel and a disk of its own.

The disk keeps what the guest has flushed; what was only written, it may lose.
Qemu's cache mode is `writeback`, so the guest sees a disk with a volatile
cache and flushes it.  The image is a fresh qcow2 at each start: where a block
was put it notes on disk only at a flush, so `kill -9` of qemu loses with the
guest's memory most of what was not flushed, and keeps all that was.

The processor is emulated: /dev/kvm is not on every machine, and on some that
have it no common kernel starts.  The guest's clock counts instructions, so
that it sees a machine of one steady speed, however slow this one is.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.crash import rootdisk
from tests.parts import missing, need

_KERNELS = "vmlinuz-*-cloud-amd64"
_COMMAND_LINE = (
    "root=/dev/nvme0n1 rw rootwait console=ttyS0 quiet hostname=guest init=/init"
    " mitigations=off panic=-1"
)
_PROCESSOR = "max,-la57,-avx,-avx2"
"""Without what takes an emulator longer than it saves."""
_PATIENCE_S = 1800.0
"""So long only on a machine that has no time for it."""


class Broken(AssertionError):
    """The guest did not do what it should; with the end of its console."""


class Machine:
    """Off at first; `start` and `cut` alternate."""

    def __init__(self, folder: Path) -> None:
        self._starts = 0
        self._folder = folder
        self._qemu, self._image = need("qemu-system-x86_64"), need("qemu-img")
        kernels = sorted(Path("/boot").glob(_KERNELS))
        if not kernels:
            missing("Debian's package linux-image-cloud-amd64")
        self._kernel = kernels[-1]
        self._root = folder / "root.img"
        rootdisk.write(folder / "root", self._root)
        self._disk, self._kind = folder / "disk.img", "raw"
        make = [need("mkfs.ext4"), "-q", "-E", "lazy_itable_init=0", self._disk, "256M"]
        subprocess.run(make, check=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Power on."""
        assert self._process is None
        self._starts += 1
        self._overlay()
        drives = (
            ("root", f"file={self._root},format=raw,snapshot=on"),
            ("disk", f"file={self._disk},format=qcow2,cache=writeback"),
        )
        words = [self._qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
        words += ["-accel", "tcg", "-icount", "shift=0", "-cpu", _PROCESSOR, "-m", "1G"]
        words += ["-kernel", str(self._kernel), "-append", _COMMAND_LINE]
        for name in ("console", "said"):
            words += ["-serial", f"file:{self._file(name)}"]
        words += ["-device", "nvme,id=nvme,serial=leeroy"]
        for number, (name, options) in enumerate(drives, start=1):
            words += ["-drive", f"if=none,id={name},{options}"]
            words += ["-device", f"nvme-ns,bus=nvme,drive={name},nsid={number}"]
        with self._file("qemu").open("wb") as log:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=log)

    def _overlay(self) -> None:
        """A new top of the disk, in which nothing is placed yet."""
        top = self._file("disk")
        make = [self._image, "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k"]
        subprocess.run([*make, "-b", self._disk, "-F", self._kind, top], check=True)
        self._disk, self._kind = top, "qcow2"

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}{self._starts}"

    def said(self) -> list[list[str]]:
        """The lines of the last start, each parted after its first word; half a line is none."""
        file = self._file("said")
        whole, _, _ = (file.read_text() if file.exists() else "").rpartition("\n")
        return [line.rstrip().split(" ", 1) for line in whole.splitlines()]

    def wait(self, word: str, times: int = 1) -> None:
        """Until the guest has said so many lines that begin so, in this start."""
        assert self._process is not None
        deadline = time.monotonic() + _PATIENCE_S
        while sum(words[0] == word for words in self.said()) < times:
            if self._process.poll() is not None or time.monotonic() > deadline:
                printed = self._file("console").read_text(errors="replace")
                printed += self._file("qemu").read_text(errors="replace")
                raise Broken(f"the guest did not say {word!r}:\n{printed[-6000:]}")
            time.sleep(0.1)

    def cut(self) -> None:
        """Power off, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
