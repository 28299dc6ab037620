"""`python -m bench`: every number, what is to be reached, and the ratio to this machine's limit."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bench import limits, server

ROUNDS = 3
"""A throughput is the best of so many: what else the machine does only takes away."""
WHAT = "{:<44}{:>12}{:>14}   {}"


def row(what: str, value: float, unit: str, goal: str, beside: str) -> None:
    """One line of the table."""
    print(WHAT.format(what, f"{value:,.1f} {unit}", goal, beside), flush=True)


def main() -> None:
    """Measure, and print."""
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}\n")
    print(WHAT.format("what", "measured", "to reach", "beside this machine's limit"))
    with tempfile.TemporaryDirectory(prefix="leeroy-bench-") as name:
        folder = Path(name)
        fork_ms = limits.fork_exec_s() * 1000
        commit_ms = limits.commit_s(folder) * 1000
        bare = limits.bare_hooks(folder, server.hook_request)
        pipe = limits.pipe_mb_s()
        served = server.Served(folder / "served")
        served.pipeline(
            "shop",
            'repository = "https://github.com/acme/shop.git"\nsecret = "env:SHOP_HOOK"\n'
            'branches = ["b*"]\n[[test]]\nname = "unit"\nrun = "true"\n',
        )
        served.start()
        served.stop()
        ready = min(served_start(served) for _ in range(3))
        served.start()
        try:
            mb, cpu = server.idle(served)
            row("ready after", ready * 1000, "ms", "<= 1,200", "")
            row("idle memory", mb, "MB", "<= 100", "")
            row("idle CPU", cpu, "%", "<= 0.3", "")
            first, finished = server.latencies(served)
            floor = fork_ms + 2 * commit_ms
            row(
                "trigger to first instruction (p50)",
                first,
                "ms",
                "<= 13",
                f"{first / floor:.1f} x (fork+exec {fork_ms:.2f} + 2 commits {commit_ms:.2f} ms)",
            )
            floor = fork_ms + 3 * commit_ms
            row("trigger to finished (p50)", finished, "ms", "<= 16", f"{finished / floor:.1f} x")
            rate = max(server.builds_per_second(served) for _ in range(ROUNDS))
            row(
                "trivial builds, 2 slots",
                rate,
                "/s",
                ">= 150",
                f"{rate * fork_ms / 1000:.2f} of fork+exec one by one",
            )
            row("a client command at a server", server.client_cpu_ms(served), "ms", "<= 250", "CPU")
            took, more = server.output(served)
            row("100 MB of output", took, "s", "<= 3", f"{took * pipe / 100:.1f} x a pipe")
            row("... more memory meanwhile", more, "MB", "<= 60", "")
            # The last one: the builds it makes would keep the slots busy (nothing to clone).
            rate = server.hooks(served, ROUNDS)
            row(
                "hooks, 16 connections",
                rate,
                "/s",
                ">= 1,000",
                f"{rate / bare:.2f} of a bare ASGI app ({bare:,.0f}/s)",
            )
        finally:
            served.stop()


def served_start(served: server.Served) -> float:
    """One cold start."""
    took = served.start()
    served.stop()
    return took


main()
