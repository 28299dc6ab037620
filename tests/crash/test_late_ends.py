"""How an interrupted deploy ends after all: its own late record, a person, a status script."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from leeroy.errors import Invalid, NotFound, NotPossible
from leeroy.runner import wire
from tests.crash.test_server_dies import go, long, pipeline
from tests.parts import missing
from tests.servers import Leeroy
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
ENDS = [(0, "done"), (3, "deploy_failed")]


def kill_supervisor(leeroy: Leeroy) -> None:
    """kill -9 of the one supervisor that holds a run now."""
    for lock in (leeroy.folder / "var" / "runs").glob("[0-9]*/lock"):
        found = wire.parse_identity(lock.read_bytes())
        if found is not None and not lock.with_name(wire.RESULT).exists():
            os.kill(found[0], signal.SIGKILL)


@contextmanager
def a_mount_over(folder: Path) -> Iterator[None]:
    """Another, empty disk where *folder* was."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode != 0:
        missing("the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(("code", "end"), ENDS if TORTURE else ENDS[:1])
def test_a_late_end_closes_an_interrupted_deploy(leeroy: Leeroy, code: int, end: str) -> None:
    """The folder of runs was not mounted at a start: nobody knew, and nothing ran twice."""
    leeroy.pipeline(
        f"untested = true\n[[deploy]]\nenvironment = \"production\"\nrun = '''{long('deploy', code)}'''\n"
        'interrupted = "again"\nstatus = "exit 1"\n'
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: leeroy.marks("deploy.begun"), 10)
    leeroy.kill()
    go(leeroy, "deploy")
    runs = leeroy.folder / "var" / "runs"
    until(lambda: list(runs.glob(f"[0-9]*/{wire.RESULT}")), 10)
    with a_mount_over(runs):
        for _ in range(2):
            leeroy.start()
            leeroy.until_state(build, "interrupted", timeout=5)
            until(lambda: leeroy.ask("why", id=build)["why"], 5)
            assert "resolve" in leeroy.build(build)["waiting_for"]
            leeroy.kill()
    leeroy.start()
    assert end == leeroy.until_over(build, timeout=5)
    events = leeroy.ask("events", id=build)
    last = events[-1]
    assert last["actor"].startswith("scheduler@"), events
    assert "its end was found" in last["reason"], events
    [step] = [s for s in leeroy.build(build)["steps"] if s["stage"] == "deploy"]
    assert code == step["exit_code"]
    verdict = leeroy.ask("verdict", id=build)
    assert ("script" if code else "nobody") == verdict["fault"]
    assert "its run directory was gone, removed or not mounted" in verdict["cause"]
    assert "its end was found later" in verdict["cause"]
    assert [] == leeroy.ask("replay")["differences"]
    assert ["begun"] == leeroy.marks("deploy.begun")


def test_runs_that_vanish_are_not_repeated(leeroy: Leeroy) -> None:
    """Somebody removes the folder of a deploy that runs: nobody saw its end, so a person is asked."""
    pipeline(leeroy, 'interrupted = "again"')
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    go(leeroy, "test")
    until(lambda: leeroy.marks("deploy.begun"), 10)
    [run] = (leeroy.folder / "var" / "runs").glob("[0-9]*")
    subprocess.run(["rm", "-rf", run], check=True)
    go(leeroy, "deploy")
    leeroy.until_state(build, "interrupted")
    assert ["begun"] == leeroy.marks("deploy.begun")
    leeroy.ask("resolve", id=build, outcome="failed", reason="looked")
    assert "deploy_failed" == leeroy.until_over(build)
    verdict = leeroy.ask("verdict", id=build)
    assert "host" == verdict["fault"]
    assert "its run directory was gone, removed or not mounted" in verdict["cause"]


@pytest.mark.parametrize(
    ("outcome", "end", "times"), [("failed", "deploy_failed", 1), ("again", "done", 2)]
)
def test_a_person_says_how_it_ended(leeroy: Leeroy, outcome: str, end: str, times: int) -> None:
    """`leeroy resolve`: who said it and why is kept; of another environment it is a miss."""
    pipeline(leeroy, '[[deploy]]\nenvironment = "moon"\nrun = "echo moon >> \\"{world}/moon\\""')
    leeroy.pipeline((leeroy.folder / "pipelines" / "shop.toml").read_text())
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    why = "the old version is still there"

    def resolve(environment: str | None, said: str = outcome, which: int = build) -> None:
        leeroy.ask("resolve", id=which, outcome=said, environment=environment, reason=why)

    with pytest.raises(NotPossible):
        resolve(None)
    go(leeroy, "test")
    until(lambda: leeroy.marks("deploy.begun"), 10)
    kill_supervisor(leeroy)
    leeroy.until_state(build, "interrupted")
    for mistake, words in (
        (Invalid, ("production", "perhaps")),
        (Invalid, (None,)),
        (NotPossible, ("moon",)),
        (NotFound, ("production", outcome, 99)),
    ):
        with pytest.raises(mistake):
            resolve(*words)
    assert "interrupted" == leeroy.state(build)
    words = ("resolve", str(build), outcome, "--environment", "production", "--reason", why)
    leeroy.cli(*words)
    go(leeroy, "deploy")
    assert end == leeroy.until_over(build)
    assert times == len(leeroy.marks("deploy.begun"))
    assert (["moon"] if end == "done" else []) == leeroy.marks("moon")
    [said] = [e for e in leeroy.ask("events", id=build) if e["move"] == f"resolve_{outcome}"]
    assert why == said["reason"] and "@" in said["actor"]


def test_the_status_script_may_say_again(leeroy: Leeroy) -> None:
    """It did not land, and the rule is "again": the old processes are gone, so it runs once more."""
    pipeline(leeroy, 'interrupted = "again"\nstatus = "exit 1"')
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    go(leeroy, "test")
    until(lambda: leeroy.marks("deploy.begun"), 10)
    kill_supervisor(leeroy)
    until(lambda: len(leeroy.marks("deploy.begun")) == 2, 10)
    go(leeroy, "deploy")
    assert "done" == leeroy.until_over(build)
    events = leeroy.ask("events", id=build)
    [again] = [event for event in events if event["move"] == "resolve_again"]
    assert ("status script", "the status script says that it did not land") == (
        again["actor"],
        again["reason"],
    )


def at(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["at"])


def test_all_is_known_within_five_seconds_of_a_start(leeroy: Leeroy) -> None:
    """By the server's own times: an end, a loss, and a script that runs on and is stopped."""
    leeroy.settings["slots"] = 3
    for name in ("ends", "runs"):
        leeroy.pipeline(f"[[test]]\nname = \"unit\"\nrun = '''{long(name)}'''\n", name)
    leeroy.pipeline(
        f"untested = true\n[[deploy]]\nenvironment = \"production\"\nrun = '''{long('dies')}'''\n",
        "dies",
    )
    leeroy.start()
    builds = {n: leeroy.ask("trigger", name=n)["id"] for n in ("dies", "ends", "runs")}
    until(lambda: all(leeroy.marks(f"{name}.begun") for name in builds), 20)
    leeroy.kill()
    go(leeroy, "ends")
    for lock in (leeroy.folder / "var" / "runs").glob(f"{builds['dies']}-*/lock"):
        found = wire.parse_identity(lock.read_bytes())
        assert found is not None
        os.kill(found[0], signal.SIGKILL)
    until(lambda: leeroy.marks("ends.ended"), 10)
    leeroy.start()
    leeroy.ask("cancel", id=builds["runs"])
    for name, state in (("ends", "done"), ("dies", "interrupted"), ("runs", "cancelled")):
        leeroy.until_state(builds[name], state)
        lines = leeroy.ask("verdict", id=builds[name])["lines"]
        [began] = [line for line in lines if line["kind"] == "started"]
        events = leeroy.ask("events", id=builds[name])
        moved = [e for e in events if e["move"] in ("pass", "lose", "cancel")][-1]
        assert (at(moved) - at(began)).total_seconds() < 5, name
