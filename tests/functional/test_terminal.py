"""On a terminal: colours, a live countdown that is written over, and nothing that could steal it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time

from tests.servers import Leeroy
from tests.sinks import json_sink


def on_a_terminal(leeroy: Leeroy, *words: str, timeout: float = 30) -> tuple[int, str]:
    """Run the program on a terminal of its own; its exit code and all that was shown."""
    near, far = pty.openpty()
    env = leeroy.environment() | {"TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "leeroy", *words],
        cwd=leeroy.folder, env=env, stdin=far, stdout=far, stderr=far,
    )  # fmt: skip
    os.close(far)
    shown = b""
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            if not select.select([near], [], [], 0.2)[0]:
                continue
            try:
                piece = os.read(near, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
    finally:
        process.kill() if process.poll() is None and time.monotonic() >= deadline else None
        code = process.wait(10)
        os.close(near)
    return code, shown.decode("utf-8", "replace")


def test_a_waiting_terminal_counts_down(leeroy: Leeroy) -> None:
    """trigger --wait shows where it is, counts the grace period down, and ends in colour."""
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        leeroy.pipeline(
            '[[test]]\nname = "unit"\nrun = "sleep 0.5"\n'
            '[[deploy]]\nenvironment = "production"\nrun = "true"\ngrace = "3s"\n'
            '[[notify]]\nto = "env:OPS"\n'
        )
        leeroy.start()
        code, shown = on_a_terminal(leeroy, "trigger", "shop", "--wait")
        assert 0 == code
        counted = re.findall(r"\r\x1b\[Kproduction in (\d) s; stop: leeroy cancel 1", shown)
        assert len(set(counted)) >= 2
        assert counted == sorted(counted, reverse=True)
        assert "\r\x1b[Ktest unit runs" in shown
        assert "\x1b[32mdone\x1b[0m" in shown


def test_a_log_cannot_take_over_the_terminal(leeroy: Leeroy) -> None:
    """What a script prints to move the cursor, set titles or the clipboard is left out."""
    leeroy.pipeline(
        "[[test]]\nname = \"unit\"\nrun = '''printf \"a\\\\033]52;c;eA==\\\\007b\\\\033[2Jc\\\\n\"'''\n"
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    leeroy.until_over(build)
    code, shown = on_a_terminal(leeroy, "log", str(build), "--step", "unit")
    assert (0, "abc") == (code, shown.strip())
    assert "\x1b]52" in leeroy.cli("log", str(build), "--step", "unit").stdout
