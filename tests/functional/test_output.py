"""What scripts write is kept whole, in order, byte for byte; or cut at max_log, and the cut says so."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

import pytest

from tests.servers import Leeroy
from tests.waiting import until

BINARY = """
[[test]]
name = "loud"
run = '''
#!/usr/bin/env python3
import hashlib, sys
block = b"\\x00\\xff\\x1b[31m\\r\\n" + bytes(range(256)) * 4
total = hashlib.sha256()
for number in range(SIZE // 1040):
    piece = number.to_bytes(8, "big") + block
    total.update(piece)
    sys.stdout.buffer.write(piece)
open("{world}/sha256", "w").write(total.hexdigest())
'''
"""


def loud(leeroy: Leeroy, size: int) -> None:
    text = BINARY.replace("SIZE", str(size)).replace("'''\n#!", "'''#!", 1)
    leeroy.pipeline(text)


def test_a_hundred_megabytes_are_whole(either: Leeroy) -> None:
    """Binary and all: the log is what was written, and its sha256 is recorded."""
    either.settings["max_log"] = "300MB"
    loud(either, 100_000_000)
    either.start()
    build = either.ask("trigger", name="shop")["id"]
    assert "done" == either.until_over(build, timeout=60)
    status, _, data = either.http(
        "GET", f"/api/v1/builds/{build}/log?step=loud", token=either.token
    )
    assert 200 == status
    assert either.marks("sha256") == [hashlib.sha256(data).hexdigest()]


def test_a_log_beyond_max_log_keeps_head_and_tail(leeroy: Leeroy) -> None:
    """The gap is told in bytes, and what is kept is in its place."""
    leeroy.settings["max_log"] = "2MB"
    leeroy.pipeline(
        "[[test]]\nname = \"loud\"\nrun = '''seq -f '%09.0f' 1 2000000'''\n"  # 20 MB
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "done" == leeroy.until_over(build, timeout=30)
    status, _, data = leeroy.http(
        "GET", f"/api/v1/builds/{build}/log?step=loud", token=leeroy.token
    )
    assert 200 == status
    assert data.startswith(b"000000001\n")
    assert data.endswith(b"002000000\n")
    found = re.search(rb"\n\[\xe2\x80\xa6 (\d+) bytes dropped: .*\]\n", data)
    assert found is not None
    assert 20_000_000 == len(data) - len(found[0]) + int(found[1])
    assert len(data) <= 2_200_000


@pytest.mark.parametrize("server", ["up", "killed"])
def test_a_log_is_whole_over_a_restart(leeroy: Leeroy, server: str) -> None:
    """Killed between any two pieces: nothing twice, nothing missing, secrets masked."""
    leeroy.env["KEY"] = "open-sesame"
    leeroy.pipeline(
        """
[[test]]
name = "slow"
run = '''
i=0
while [ ! -e "{world}/go" ]; do i=$((i+1)); echo "line $i $KEY"; sleep 0.01; done
echo "last $i"
echo $i > "{world}/lines"
'''
secrets = { KEY = "env:KEY" }
"""
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    for size in (100, 5000, 10000):
        until(lambda size=size: len(leeroy.logged(build)) > size, 20)
        if server == "killed":
            leeroy.kill()
            leeroy.start()
    (leeroy.world / "go").touch()
    assert "done" == leeroy.until_over(build)
    count = int(leeroy.marks("lines")[0])
    lines = [f"line {i} ***" for i in range(1, count + 1)]
    assert ["== test slow ==", *lines, f"last {count}"] == leeroy.logged(build).splitlines()


def test_without_room_nothing_new_starts(leeroy: Leeroy) -> None:
    """Below min_free it waits, and why says so; what is accepted is kept."""
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "true"\n')
    leeroy.settings["min_free"] = "900TB"
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "min_free is 900000000 MB" in leeroy.cli("why", str(build)).stdout
    assert "queued" == leeroy.state(build)
    leeroy.settings["min_free"] = "1MB"
    leeroy.restart()
    assert "done" == leeroy.until_over(build)


def test_old_builds_are_forgotten_but_not_what_runs(leeroy: Leeroy) -> None:
    """keep: finished builds go with their logs; the last deploys of each environment stay."""
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "echo hello"\n', "tested")
    leeroy.pipeline('untested = true\n[[deploy]]\nenvironment = "e"\nrun = "true"\n', "deployed")
    leeroy.start()
    tested = leeroy.ask("trigger", name="tested")["id"]
    deployed = leeroy.ask("trigger", name="deployed")["id"]
    for build in (tested, deployed):
        assert "done" == leeroy.until_over(build)
    leeroy.settings["keep"] = "1s"
    ended = datetime.fromisoformat(leeroy.build(deployed)["finished_at"])
    leeroy.stop()
    until(lambda: (datetime.now(UTC) - ended).total_seconds() > 1.1)
    leeroy.start()
    until(lambda: [b["id"] for b in leeroy.ask("list")] == [deployed], 20, "the old build is gone")
    assert 4 == leeroy.cli("show", str(tested), check=False).returncode
    again = leeroy.ask("trigger", name="tested")["id"]
    assert again > deployed, "a number is never given twice"
