"""
The one who is killed for `test_identity`: all of it lives in a pid namespace of its own.

There the next pid can be chosen, so strangers get exactly those of the dead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from leeroy.runner import process, wire
from tests.crash.test_server_dies import long
from tests.functional.test_runner import alive
from tests.servers import a_leeroy
from tests.waiting import until

_LAST = Path("/proc/sys/kernel/ns_last_pid")


def stranger(pid: int) -> subprocess.Popen[bytes]:
    """A process that has the pid *pid*."""
    for _ in range(50):
        _LAST.write_text(str(pid - 1))
        made = subprocess.Popen(["sleep", "600"])
        if made.pid == pid:
            return made
        made.kill()
        made.wait()
    raise AssertionError(f"pid {pid} is not to be had")


def reap() -> None:
    """We are the namespace's init: its orphans are ours."""
    while True:
        with contextlib.suppress(ChildProcessError):
            for pid in orphans():
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def orphans() -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        seen = process.stat(entry.name)
        if seen is not None and seen.parent == 1 and seen.state == "Z":
            found.append(int(entry.name))
    return found


def main(folder: Path) -> None:
    """Let a run's supervisor and script die, give their pids away, and ask for a stop."""
    with a_leeroy(folder) as leeroy:
        text = f'echo $$ >> "{{world}}/pid"\n{long("test")}'
        leeroy.pipeline(f"[[test]]\nname = \"unit\"\nrun = '''{text}'''\n")
        leeroy.start()
        build = leeroy.ask("trigger", name="shop")["id"]
        until(lambda: leeroy.marks("test.begun"), 10)
        [lock] = (folder / "var" / "runs").glob("[0-9]*/lock")
        found = wire.parse_identity(lock.read_bytes())
        assert found is not None
        script = int(leeroy.marks("pid")[0])
        # The server is to see nothing of it: it would end the script by itself.
        assert leeroy.process is not None
        leeroy.process.send_signal(signal.SIGSTOP)
        os.kill(found[0], signal.SIGKILL)
        noted = lock.with_name(wire.ORPHANS)
        until(noted.exists, 10, "the parent notes the orphan")
        leeroy.kill()
        os.kill(script, signal.SIGKILL)
        threading.Thread(target=reap, daemon=True).start()
        for pid in (script, found[0]):
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), 10)  # type: ignore[misc]
        assert str(script) in noted.read_text().split()
        strangers = [stranger(pid) for pid in (script, found[0])]
        leeroy.cli("cancel", str(build), "--force")
        leeroy.start()
        assert "cancelled" == leeroy.until_over(build)
        assert all(alive(one.pid) for one in strangers)
        for one in strangers:
            one.kill()
    print("the strangers live")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
