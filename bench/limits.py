"""What this machine can do at best: the other side of every ratio."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.load import hooks_per_second

HERE = Path(__file__).resolve().parent


def fork_exec_s(count: int = 300) -> float:
    """Seconds for one `sh -c true`, forked, executed and reaped."""
    started = time.perf_counter()
    for _ in range(count):
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "true"], {})
        os.waitpid(pid, 0)
    return (time.perf_counter() - started) / count


def commit_s(folder: Path, count: int = 500) -> float:
    """Seconds for one durable SQLite commit of one row (WAL, FULL)."""
    db = sqlite3.connect(folder / "limit.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (x)")
    started = time.perf_counter()
    for number in range(count):
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES (?)", (number,))
        db.execute("COMMIT")
    took = (time.perf_counter() - started) / count
    db.close()
    return took


def bare_hooks(folder: Path, request: Callable[[int], bytes], count: int = 4000) -> float:
    """Hooks per second of a bare ASGI app: HMAC, one row, a group commit."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "bare.py"), str(port), str(folder / "bare.db")],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        return hooks_per_second(port, request, range(count))
    finally:
        process.kill()
        process.wait()


def pipe_mb_s(size: int = 100_000_000) -> float:
    """Megabytes per second through a pipe to a file."""
    started = time.perf_counter()
    subprocess.run(f"head -c {size} /dev/zero | cat > /dev/null", shell=True, check=True)
    return size / 1e6 / (time.perf_counter() - started)
