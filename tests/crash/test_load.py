"""Much at once: hooks by the hundred, a script that forks for ever, one that says too much."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import longrun
from tests.cgroups import a_group
from tests.gitservers import Repo
from tests.servers import SECRET, Leeroy, push_payload
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
HOOKS = 10_000 if TORTURE else 500
GROWTH = 64 << 20
"""What so many hooks may leave in memory: caches and arenas, not a copy of each."""


def resident(pid: int) -> int:
    """The memory a process has now, in bytes."""
    words = Path(f"/proc/{pid}/statm").read_text().split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE")


def deliver(leeroy: Leeroy, repo: Repo, commit: str, deliveries: list[str]) -> dict[str, set[str]]:
    """Every delivery over one connection; what each was answered."""
    body = json.dumps(push_payload(repo, commit, "main")).encode()
    code = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-Hub-Signature-256": f"sha256={code}",
    }
    found: dict[str, set[str]] = {}
    connection = HTTPConnection(urlsplit(leeroy.url).netloc, timeout=120)
    for delivery in deliveries:
        connection.request("POST", "/hooks/github", body, headers | {"X-GitHub-Delivery": delivery})
        answer = connection.getresponse()
        text = json.loads(answer.read())
        assert answer.status in (200, 202), text
        found.setdefault(delivery, set()).add(str(text["builds"]))
    connection.close()
    return found


@pytest.mark.timeout(1200 if TORTURE else 120)
def test_hooks_by_the_hundred(either: Leeroy, gave: longrun.Tell) -> None:
    """Each delivery makes one build, however often it comes; memory does not grow with them."""
    either.settings["slots"] = 1
    repo = either.shop(test='while [ ! -e "{world}/go" ]; do sleep 0.05; done')
    either.start()
    commit = repo.git("rev-parse", "main")
    deliver(either, repo, commit, [f"warm-{n}" for n in range(50)])
    assert either.process is not None
    before = resident(either.process.pid)
    began = time.monotonic()
    names = [f"delivery-{n % (HOOKS * 4 // 5)}" for n in range(HOOKS)]
    random.Random(7).shuffle(names)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda n: deliver(either, repo, commit, names[n::8]), range(8)))
    after = resident(either.process.pid)
    answers: dict[str, set[str]] = {}
    for part in parts:
        for delivery, builds in part.items():
            answers.setdefault(delivery, set()).update(builds)
    wrong = sum(len(builds) != 1 for builds in answers.values())
    gave(f"hooks on {either.address.partition(':')[0].partition('+')[0]}, a fifth of them repeated",
         rounds=HOOKS, builds=len(set().union(*answers.values())), violations=wrong,
         seconds=time.monotonic() - began)  # fmt: skip
    assert HOOKS * 4 // 5 == len(answers)
    assert all(len(builds) == 1 for builds in answers.values()), "the same builds in every answer"
    made = [json.loads(next(iter(builds))) for builds in answers.values()]
    assert all(len(builds) == 1 for builds in made)
    assert len(made) == len({builds[0] for builds in made}), "one build for each delivery"
    listed = {build["id"] for build in either.ask("list", limit=1000)}
    assert min(50 + len(made), 1000) == len(listed), "and no other"
    print(f"\n{HOOKS} hooks: memory {before >> 20} MB, then {after >> 20} MB")
    assert after - before < GROWTH


def test_a_fork_bomb(leeroy: Leeroy, gave: longrun.Tell) -> None:
    """Bounded by the service's limit, as systemd sets one; dead as a whole; and all goes on."""
    leeroy.pipeline(
        """
[[test]]
name = "bomb"
timeout = "3s"
run = '''
#!/usr/bin/env python3
import os, time
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
'''
""",
        "bomb",
    )
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "true"\n')
    limit = 400
    with a_group("pids", limit) as group:
        leeroy.wrap = group.wrap
        leeroy.start()
        began = time.monotonic()
        idle = len(group.pids())
        build = leeroy.ask("trigger", name="bomb")["id"]
        until(lambda: len(group.pids()) > limit // 2, 20, "it forks")
        assert "failed" == leeroy.until_over(build, timeout=60)
        [step] = [s for s in leeroy.build(build)["steps"] if s["name"] == "bomb"]
        assert "failed" == step["state"]
        until(lambda: len(group.pids()) <= idle, 10, "nothing of it is left")
        assert "done" == leeroy.until_over(leeroy.ask("trigger", name="shop")["id"], timeout=30)
        assert leeroy.process is not None and leeroy.process.poll() is None
        gave("a fork bomb", builds=2, violations=0, seconds=time.monotonic() - began)
        leeroy.kill()


OUTPUT, MOST = (2_000_000_000, "8MB") if TORTURE else (20_000_000, "1MB")


@pytest.mark.timeout(900 if TORTURE else 120)
def test_more_output_than_anybody_reads(leeroy: Leeroy, gave: longrun.Tell) -> None:
    """The log keeps head and tail and says what is missing; nobody's memory grows with it."""
    leeroy.settings["max_log"] = MOST
    leeroy.pipeline(
        '[[test]]\nname = "unit"\n'
        f"run = 'echo first; yes 0123456789abcdef | head -c {OUTPUT}; echo; echo last'\n"
    )
    leeroy.start()
    assert leeroy.process is not None
    before = resident(leeroy.process.pid)
    began = time.monotonic()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "done" == leeroy.until_over(build, timeout=600)
    seconds = time.monotonic() - began
    after = resident(leeroy.process.pid)
    log = leeroy.logged(build)
    gap = r"\n\[… (\d+) bytes dropped: the log is larger than max_log …\]\n"
    [dropped] = re.findall(gap, log)
    kept = re.sub(gap, "", log).removeprefix("== test unit ==\n")
    assert len(kept) <= int(MOST.removesuffix("MB")) * 1_000_000
    assert kept.startswith("first\n0123456789abcdef\n") and kept.endswith("\nlast\n")
    assert len("first\n") + OUTPUT + len("\nlast\n") == len(kept) + int(dropped)
    gave(f"{OUTPUT:,} bytes of output", builds=1, violations=0, seconds=seconds)
    print(f"\n{OUTPUT} bytes of output: memory {before >> 20} MB, then {after >> 20} MB")
    assert after - before < GROWTH
