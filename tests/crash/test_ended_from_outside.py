"""A SIGTERM that Leeroy did not send: of a host that shuts down, or of somebody on it."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from leeroy import ends
from leeroy.runner import process
from tests.crash.test_identity import another_boot
from tests.crash.test_server_dies import go, long, pipeline
from tests.functional.test_verdict import chain_holds, kinds, verdict
from tests.servers import Leeroy, scripts, supervisors
from tests.waiting import until

TRAPPED = """
trap 'echo trapped >> "{world}/trapped"; exit CODE' TERM
echo begun >> "{world}/deploy.begun"
while :; do sleep 0.02; done
"""


def term(leeroy: Leeroy) -> None:
    """SIGTERM to the supervisor of the script that runs, and to nobody else."""
    above = {seen.parent for pid in scripts(leeroy.folder) if (seen := process.stat(pid))}
    found = above & set(supervisors(leeroy.folder))
    assert 1 == len(found)
    os.kill(found.pop(), signal.SIGTERM)


def shut_down(leeroy: Leeroy) -> None:
    """SIGTERM to everything, as the last thing a host does; then it is another boot."""
    assert leeroy.process is not None
    everything = [*supervisors(leeroy.folder), *scripts(leeroy.folder), leeroy.process.pid]
    for pid in sorted(everything):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    assert 0 == leeroy.stop()
    until(lambda: not scripts(leeroy.folder), 15)
    another_boot(leeroy)


def trapped(leeroy: Leeroy, code: int) -> int:
    """A build whose deploy script runs, and exits with *code* when it is told to end."""
    script = TRAPPED.replace("CODE", str(code))
    leeroy.pipeline(
        f"untested = true\n[[deploy]]\nenvironment = \"production\"\nrun = '''{script}'''\n"
    )
    leeroy.start()
    build = int(leeroy.ask("trigger", name="shop")["id"])
    until(lambda: leeroy.marks("deploy.begun"), 10)
    return build


def test_a_host_that_shuts_down(leeroy: Leeroy) -> None:
    """Its test runs again; its deploy is interrupted, and the host is named, not the script."""
    pipeline(leeroy)
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: leeroy.marks("test.begun"), 10)
    shut_down(leeroy)
    go(leeroy, "test")
    leeroy.start()
    until(lambda: leeroy.marks("deploy.begun"), 15)
    assert 2 == len(leeroy.marks("test.begun"))
    shut_down(leeroy)
    leeroy.start()
    leeroy.until_state(build, "interrupted")
    leeroy.restart()
    assert "interrupted" == leeroy.ask("show", id=build)["state"], "its result is no late one"
    leeroy.ask("resolve", id=build, outcome="failed", reason="the page is old")
    found = verdict(leeroy, build)
    assert "host" == found["fault"]
    assert "running when the host was shut down; tests (token) says" in found["cause"]
    assert {"shutdown"} == {line["said"] for line in kinds(found, "started")} - {"stop"}
    assert 1 == len(leeroy.marks("deploy.begun"))
    assert [] == leeroy.ask("replay")["differences"]
    assert chain_holds(leeroy, build)


@pytest.mark.parametrize("code", [0, 3])
def test_somebody_ends_a_deploy(either: Leeroy, code: int) -> None:
    """What its script says counts: exit 0 is done; anything else failed, for no fault of its."""
    build = trapped(either, code)
    term(either)
    assert ("deploy_failed" if code else "done") == either.until_over(build)
    assert ["trapped"] == either.marks("trapped")
    found = verdict(either, build)
    deploy = next(s for s in kinds(found, "step") if s["stage"] == "deploy")
    assert (code, ends.OUTSIDE) == (deploy["exit_code"], deploy["reason"])
    assert ("host" if code else "nobody") == found["fault"]
    assert "from outside" in found["cause"]
    assert [] == scripts(either.folder)
    assert [] == either.ask("replay")["differences"]


def test_somebody_ends_a_test(leeroy: Leeroy) -> None:
    """It was cut short, whatever it exits with, so it runs again; the fourth time is the last."""
    script = TRAPPED.replace("CODE", "0").replace("deploy.begun", "test.begun")
    leeroy.pipeline(f"[[test]]\nname = \"withdrawn\"\nrun = '''{script}'''\n")
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    for times in range(1, 5):
        until(lambda times=times: len(leeroy.marks("test.begun")) == times, 15)
        term(leeroy)
    assert "failed" == leeroy.until_over(build)
    found = verdict(leeroy, build)
    assert "host" == found["fault"]
    assert "which Leeroy did not send: test withdrawn was lost 4 times" in found["cause"]


def test_a_person_stops_a_deploy_that_exits_0_all_the_same(leeroy: Leeroy) -> None:
    """It is stopped, and it is what runs there; the rows and their replay agree."""
    build = trapped(leeroy, 0)
    leeroy.ask("cancel", id=build, force=True)
    assert "cancelled" == leeroy.until_over(build)
    assert "its script exited 0 all the same" in verdict(leeroy, build)["cause"]
    assert [] == leeroy.ask("replay")["differences"]


def test_a_person_stops_a_deploy_before_its_script(leeroy: Leeroy) -> None:
    """In its checkout: the record does not say that a script was ended which never began."""
    repo = leeroy.shop(deploy=long("deploy"), more="approve = true")
    slow = leeroy.folder / "slow"
    slow.mkdir()
    git = slow / "git"
    git.write_text(
        f'#!/bin/sh\n[ ! -e "{leeroy.world}/slow" ] || sleep 30\nexec /usr/bin/git "$@"\n'
    )
    git.chmod(0o755)
    leeroy.env["PATH"] = f"{slow}:{os.environ['PATH']}"
    leeroy.start()
    build = leeroy.push(repo)
    leeroy.until_state(build, "deploy_pending")
    (leeroy.world / "slow").touch()
    leeroy.ask("approve", id=build)
    leeroy.until_state(build, "deploying")
    leeroy.ask("cancel", id=build, force=True)
    assert "cancelled" == leeroy.until_over(build)
    assert "being prepared; its script never began" in verdict(leeroy, build)["cause"]
    assert [] == leeroy.marks("deploy.begun")
    assert [] == leeroy.ask("replay")["differences"]
