"""Errors that the kernel gives to a running process at exact system calls (strace)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.parts import missing, need


@contextmanager
def injected(
    pid: int, *faults: str, paths: Sequence[Path | str] = (), children: bool = True
) -> Iterator[None]:
    """
    Inside, the process *pid* (and its *children*, born later, too) meets *faults*.

    A fault is what strace's `inject=` takes; only calls on *paths* count, if
    there are any, and each process counts its own.
    """
    if os.geteuid() != 0:
        missing("root, to trace a process that keeps to itself")
    words = [need("strace"), "-o", os.devnull, "-p", str(pid)]
    words += ["-f"] if children else []
    words += [word for fault in faults for word in ("-e", f"inject={fault}")]
    words += [word for path in paths for word in ("-P", str(path))]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        line = strace.stderr.readline()
        while line and " attached" not in line:
            line = strace.stderr.readline()
        assert line, f"strace does not attach to {pid}"
        try:
            yield
        finally:
            strace.terminate()
            strace.communicate()
