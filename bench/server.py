"""A real `leeroy serve`, and what it needs for builds, hooks, output, and for nothing."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from bench.load import hooks_per_second

ROOT = Path(__file__).resolve().parent.parent
SECRET = "a hook's secret"
TRIVIAL = '[[test]]\nname = "unit"\nrun = "true"\n'


class Served:
    """A server in a folder of its own, with 2 slots and without notify targets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pipelines").mkdir(parents=True)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("LEEROY_")}
        self.env |= {"PYTHONPATH": str(ROOT), "SHOP_HOOK": SECRET}
        (folder / "leeroy.toml").write_text('listen = "127.0.0.1:0"\nslots = 2\nmin_free = "1MB"\n')
        self.token = ""
        self.asked = 0.0

    def pipeline(self, name: str, text: str) -> None:
        (self.folder / "pipelines" / f"{name}.toml").write_text(text)

    def start(self) -> float:
        """Start it; seconds until hooks are taken."""
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "leeroy", "serve"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "serve.log").open("ab"),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        took = time.perf_counter() - started
        if "serves" not in line:
            raise SystemExit((self.folder / "serve.log").read_text())
        self.port = int(line.rpartition(":")[2])
        if not self.token:
            made = subprocess.run(
                [sys.executable, "-m", "leeroy", "token", "add", "b", "--role", "admin", "--json"],
                cwd=self.folder, env=self.env, capture_output=True, check=True,
            )  # fmt: skip
            self.token = json.loads(made.stdout)["token"]
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        return took

    def stop(self) -> None:
        self.connection.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(15)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        text = None if body is None else json.dumps(body)
        if time.monotonic() - self.asked > 2:
            self.connection.close()  # the server lets go of a connection after a while
        self.connection.request(method, f"/api/v1{path}", text, headers)
        answer = json.loads(self.connection.getresponse().read())
        self.asked = time.monotonic()
        return answer

    def trigger(self, name: str) -> int:
        return int(self.ask("POST", f"/pipelines/{name}/builds", {})["id"])

    def until_over(self, build: int) -> dict[str, Any]:
        while True:
            found = self.ask("GET", f"/builds/{build}")
            if found["finished_at"]:
                return dict(found)
            time.sleep(0.002)


def latencies(served: Served, count: int = 60) -> tuple[float, float]:
    """Median milliseconds from a trigger's request to the first instruction, and to finished."""
    mark = served.folder / "mark"
    served.pipeline("first", f"[[test]]\nname = \"unit\"\nrun = '''date +%s.%N > {mark}'''\n")
    served.pipeline("trivial", TRIVIAL)
    time.sleep(1.5)
    first, finished = [], []
    for name in ("first", "trivial"):
        for _ in range(count):
            at = time.time()
            build = served.trigger(name)
            over = served.until_over(build)
            if over["state"] != "done":
                raise SystemExit(f"build {build} is {over['state']}")
            if name == "first":
                first.append((float(mark.read_text()) - at) * 1000)
            else:
                end = time.strptime(over["finished_at"][:19], "%Y-%m-%dT%H:%M:%S")
                seconds = __import__("calendar").timegm(end) + float(over["finished_at"][19:23])
                finished.append((seconds - at) * 1000)
    return statistics.median(first), statistics.median(finished)


def builds_per_second(served: Served, count: int = 300) -> float:
    """Trivial builds per second, from the first trigger to the last end, with 2 slots."""
    started = time.perf_counter()
    ids = [served.trigger("trivial") for _ in range(count)]
    while served.ask("GET", "/builds?limit=1&state=queued") + served.ask(
        "GET", "/builds?limit=1&state=building"
    ):
        time.sleep(0.02)
    took = time.perf_counter() - started
    for build in ids:
        if served.until_over(build)["state"] != "done":
            raise SystemExit(f"build {build} is not done")
    return count / took


def hook_request(number: int) -> bytes:
    """A signed delivery of a push to a branch that nobody builds twice."""
    body = json.dumps(
        {
            "ref": f"refs/heads/b{number}",
            "before": "0" * 40,
            "after": f"{number:040x}",
            "created": True,
            "deleted": False,
            "head_commit": {
                "id": f"{number:040x}",
                "message": "Change the shop " * 10,
                "author": {"name": "Ada", "email": "ada@example.com"},
            },
            "repository": {
                "full_name": "acme/shop",
                "default_branch": "main",
                "clone_url": "https://github.com/acme/shop.git",
                "html_url": "https://github.com/acme/shop",
                "ssh_url": "git@github.com:acme/shop.git",
            },
        }
    ).encode()
    code = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    head = (
        "POST /hooks/github HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"X-GitHub-Event: push\r\nX-GitHub-Delivery: {uuid.uuid4()}\r\n"
        f"X-Hub-Signature-256: sha256={code}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def hooks(served: Served, rounds: int, size: int = 3000) -> float:
    """Hooks per second at 16 connections, each answered after its commit; no slot is free."""
    served.pipeline("busy", '[[test]]\nname = "unit"\nrun = "sleep 60"\n')
    time.sleep(1.5)
    busy = [served.trigger("busy") for _ in range(2)]
    while any(served.ask("GET", f"/builds/{b}")["state"] != "building" for b in busy):
        time.sleep(0.02)
    return max(
        # No push is told of twice.
        hooks_per_second(served.port, hook_request, range(size * number, size * (number + 1)))
        for number in range(rounds)
    )


def memory_mb(pid: int) -> float:
    """The memory that is a process's alone, and its share of the rest (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    return 0.0


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def idle(served: Served, seconds: float = 20.0) -> tuple[float, float]:
    """Megabytes (with the runner's parent) and percent of one CPU, doing nothing."""

    def cpu() -> float:
        total = 0.0
        for pid in family(served.process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total

    time.sleep(3)
    before = cpu()
    time.sleep(seconds)
    used = cpu() - before
    return sum(memory_mb(pid) for pid in family(served.process.pid)), 100 * used / seconds


def output(served: Served, size: int = 100_000_000) -> tuple[float, float]:
    """Seconds for a step that writes 100 MB, and how many more megabytes the server takes."""
    served.pipeline("loud", f"[[test]]\nname = \"unit\"\nrun = 'yes 0123456789 | head -c {size}'\n")
    time.sleep(1.5)
    before = memory_mb(served.process.pid)
    most = before
    started = time.perf_counter()
    build = served.trigger("loud")
    while True:
        most = max(most, memory_mb(served.process.pid))
        if served.ask("GET", f"/builds/{build}")["finished_at"]:
            break
        time.sleep(0.02)
    took = time.perf_counter() - started
    found = served.ask("GET", f"/builds/{build}")
    if found["state"] != "done":
        raise SystemExit(f"build {build} is {found['state']}")
    return took, most - before


def client_cpu_ms(served: Served, count: int = 10) -> float:
    """Milliseconds of CPU of a client command at a server (of the installed program, if it is)."""
    build = str(served.trigger("trivial"))
    program = Path(sys.executable).with_name("leeroy")
    words = [str(program)] if program.exists() else [sys.executable, "-m", "leeroy"]
    env = served.env | {
        "LEEROY_SERVER": f"http://127.0.0.1:{served.port}",
        "LEEROY_TOKEN": served.token,
    }
    before = os.times()
    for _ in range(count):
        subprocess.run([*words, "show", build], env=env, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return 1000 * used / count
