"""In which order things reach the disk: the row before the script, `begin` before the deploy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.parts import need
from tests.servers import Leeroy, supervisors
from tests.waiting import until

PIPELINE = """
untested = true
[[deploy]]
environment = "production"
run = 'echo x >> "{world}/deployed"'
"""


def test_nothing_runs_before_its_row_is_committed(leeroy: Leeroy) -> None:
    """The server dies just before the commit of `deploying`: nothing ran, and later it runs once."""
    leeroy.pipeline(PIPELINE)
    leeroy.write_settings()
    leeroy.cli("migrate")
    leeroy.cli("trigger", "shop")
    died = subprocess.run(
        [sys.executable, "-m", "tests.crash.before_commit"],
        cwd=leeroy.folder, env=leeroy.environment(), capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    assert 9 == died.returncode, died.stderr
    until(lambda: not supervisors(leeroy.folder), 10)
    assert [] == leeroy.marks("deployed")
    leeroy.start()
    assert "done" == leeroy.until_over(1)
    assert ["x"] == leeroy.marks("deployed")


def test_begin_is_on_the_disk_before_a_deploy_runs(leeroy: Leeroy, tmp_path: Path) -> None:
    """link(begin), then fsync of the directory, then the script: so says the kernel."""
    strace = need("strace")
    leeroy.pipeline(PIPELINE)
    leeroy.start()
    trace = tmp_path / "trace"
    (parent,) = supervisors(leeroy.folder)
    watching = subprocess.Popen(
        [
            strace,
            "-f",
            "-y",
            "-o",
            trace,
            "-e",
            "trace=link,linkat,fsync,execve",
            "-p",
            str(parent),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        status = Path(f"/proc/{parent}/status")
        until(lambda: "TracerPid:\t0" not in status.read_text(), 10)
        build = leeroy.ask("trigger", name="shop")["id"]
        assert "done" == leeroy.until_over(build)
    finally:
        watching.terminate()
        watching.wait(10)
    lines = trace.read_text().splitlines()
    begun = next(n for n, line in enumerate(lines) if "link" in line and "/begin" in line)
    ran = next(n for n, line in enumerate(lines) if n > begun and "execve(" in line)
    between = [
        line for line in lines[begun:ran] if re.search(r"fsync\(\d+<.*/runs/[^/>]+>\)", line)
    ]
    assert between, "\n".join(lines)
