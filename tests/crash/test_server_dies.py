"""kill -9 of the server, of supervisors, of everything: each script runs once, and its end is known."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.servers import Leeroy, scripts, supervisors
from tests.sinks import json_sink
from tests.waiting import until

LONG = """
echo begun >> "{world}/NAME.begun"
echo first line
while [ ! -e "{world}/NAME.go" ]; do sleep 0.02; done
echo last line
echo ended >> "{world}/NAME.ended"
exit CODE
"""


def long(name: str, code: int = 0) -> str:
    """A script that says when it begins, and ends when it is told to."""
    return LONG.replace("NAME", name).replace("CODE", str(code))


def go(leeroy: Leeroy, name: str) -> None:
    (leeroy.world / f"{name}.go").touch()


def pipeline(leeroy: Leeroy, more: str = "") -> None:
    leeroy.pipeline(
        f"""
[[test]]
name = "unit"
run = '''{long("test")}'''
[[deploy]]
environment = "production"
run = '''{long("deploy")}'''
{more}
"""
    )


@pytest.mark.parametrize("back", ["while it runs", "after it ended"])
def test_a_killed_server_takes_every_script_up_again(either: Leeroy, back: str) -> None:
    """In a test and in a deploy: once each, the right end, the whole log, within 5 s."""
    pipeline(either)
    either.start()
    build = either.ask("trigger", name="shop")["id"]
    for name in ("test", "deploy"):
        until(lambda name=name: either.marks(f"{name}.begun"), 10)
        either.kill()
        if back == "while it runs":
            either.start()
            go(either, name)
        else:
            go(either, name)
            until(lambda name=name: either.marks(f"{name}.ended"), 10)
            either.start()
        started = time.monotonic()
        if name == "test":
            until(lambda: either.marks("deploy.begun"), 10)
        else:
            assert "done" == either.until_over(build)
        assert time.monotonic() - started < 5
    for name in ("test", "deploy"):
        assert ["begun"] == either.marks(f"{name}.begun")
        assert ["ended"] == either.marks(f"{name}.ended")
    assert [0, 0] == [step["exit_code"] for step in either.build(build)["steps"]]
    lines = either.logged(build).splitlines()
    assert ["first line", "last line"] * 2 == [line for line in lines if "line" in line]
    assert "accept start pass announce deploy finish" == " ".join(either.moves(build))


def test_an_exit_code_survives_the_server(leeroy: Leeroy) -> None:
    """What the script said while nobody listened is what counts."""
    leeroy.pipeline(f"[[test]]\nname = \"unit\"\nrun = '''{long('test', 7)}'''\n")
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: leeroy.marks("test.begun"), 10)
    leeroy.kill()
    go(leeroy, "test")
    until(lambda: leeroy.marks("test.ended"), 10)
    leeroy.start()
    assert "failed" == leeroy.until_over(build)
    assert 7 == leeroy.build(build)["steps"][0]["exit_code"]


def test_a_timeout_is_kept_while_the_server_is_down(leeroy: Leeroy) -> None:
    """The supervisor watches the clock by itself."""
    leeroy.pipeline(
        '[[test]]\nname = "unit"\ntimeout = "2s"\nrun = \'touch "{world}/begun"; sleep 600\'\n'
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: (leeroy.world / "begun").exists(), 10)
    leeroy.kill()
    time.sleep(2.5)
    leeroy.start()
    assert "failed" == leeroy.until_over(build, timeout=5)
    assert "test unit took too long" == leeroy.ask("events", id=build)[-1]["reason"]


def test_sigterm_leaves_scripts_running(leeroy: Leeroy) -> None:
    """An upgrade in the middle of a deploy: the server is gone in 5 s, the script is not."""
    pipeline(leeroy)
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    go(leeroy, "test")
    until(lambda: leeroy.marks("deploy.begun"), 10)
    started = time.monotonic()
    assert 0 == leeroy.stop()
    assert time.monotonic() - started < 5
    assert not leeroy.marks("deploy.ended")
    leeroy.start()
    assert "deploying" == leeroy.state(build)
    go(leeroy, "deploy")
    assert "done" == leeroy.until_over(build)
    assert ["begun"] == leeroy.marks("deploy.begun")


def kill_everything(leeroy: Leeroy) -> None:
    """The server, the supervisors and the scripts."""
    everything = [*supervisors(leeroy.folder), *scripts(leeroy.folder)]
    leeroy.kill()
    for pid in everything:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_lost_deploy_is_interrupted_held_and_told(either: Leeroy) -> None:
    """Nobody saw its end: it is never repeated by itself, and a person says how it ended."""
    with json_sink() as sink:
        either.env["OPS"] = sink.url
        notify = '[[notify]]\nto = "env:OPS"\non = ["interrupted", "done"]'
        pipeline(either, notify)
        either.start()
        first = either.ask("trigger", name="shop")["id"]
        go(either, "test")
        until(lambda: either.marks("deploy.begun"), 10)
        kill_everything(either)
        either.start()
        shown = either.until_state(first, "interrupted", timeout=5)
        assert "leeroy resolve" in shown["waiting_for"]
        until(lambda: any("interrupted" in str(told) for told in sink.received), 10)
        second = either.ask("trigger", name="shop")["id"]
        either.until_state(second, "deploy_pending")
        why = until(lambda: either.build(second)["waiting_for"], 5)
        assert f"build {first} is at shop/production" in why
        assert 3 == either.cli("cancel", str(first), check=False).returncode
        assert 2 == either.cli("resolve", str(first), "done", check=False).returncode
        either.cli("resolve", str(first), "done", "--reason", "the page shows the new version")
        assert "done" == either.until_over(first)
        go(either, "deploy")
        assert "done" == either.until_over(second)
        assert ["begun"] * 2 == either.marks("deploy.begun")
        last = either.ask("events", id=first)[-1]
        assert "the page shows the new version" == last["reason"]
        assert "@" in last["actor"]


@pytest.mark.parametrize(
    ("rule", "end"), [("fail", "deploy_failed"), ("again", "done"), ("hold", "interrupted")]
)
def test_the_pipelines_rule_for_interrupted_deploys(leeroy: Leeroy, rule: str, end: str) -> None:
    """`interrupted` decides once the old processes are provably gone."""
    pipeline(leeroy, f'interrupted = "{rule}"')
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    go(leeroy, "test")
    until(lambda: leeroy.marks("deploy.begun"), 10)
    kill_everything(leeroy)
    go(leeroy, "deploy")
    leeroy.start()
    leeroy.until_state(build, end)
    assert "lose" in leeroy.moves(build)
    assert (2 if rule == "again" else 1) == len(leeroy.marks("deploy.begun"))


@pytest.mark.parametrize(
    ("script", "end"), [("exit 0", "done"), ("exit 1", "deploy_failed"), ("exit 7", "interrupted")]
)
def test_the_status_script_knows(leeroy: Leeroy, script: str, end: str) -> None:
    """0 it landed, 1 it did not, anything else: a person is asked."""
    pipeline(leeroy, f'status = "{script}"')
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    go(leeroy, "test")
    until(lambda: leeroy.marks("deploy.begun"), 10)
    kill_everything(leeroy)
    leeroy.start()
    if end == "interrupted":
        until(lambda: leeroy.build(build)["steps"][-1]["state"] == "failed", 10)
    leeroy.until_state(build, end)
    assert "status" == leeroy.build(build)["steps"][-1]["stage"]
    assert ["begun"] == leeroy.marks("deploy.begun")


def test_a_lost_test_is_run_again_at_most_three_times(leeroy: Leeroy) -> None:
    """Lost runs of tests are repeated in a fresh workspace; in the end the build fails."""
    leeroy.pipeline(
        '[[test]]\nname = "unit"\nrun = \'echo $$ >> "{world}/begun"; exec sleep 600\'\n'
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    for times in range(1, 5):
        until(lambda times=times: len(leeroy.marks("begun")) == times, 10)
        kill_everything(leeroy)
        leeroy.start()
    assert "failed" == leeroy.until_over(build)
    assert 4 == len(leeroy.marks("begun"))
    assert 3 == leeroy.moves(build).count("requeue")


def test_the_grace_period_begins_anew_after_a_crash(leeroy: Leeroy) -> None:
    """Down in the middle of the window: announced again, and the full period runs."""
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        leeroy.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\n'
            "run = 'touch \"{world}/deployed\"'\n"
            'grace = "3s"\n[[notify]]\nto = "env:OPS"\non = ["deploy_pending"]\n'
        )
        leeroy.start()
        build = leeroy.ask("trigger", name="shop")["id"]
        until(lambda: leeroy.build(build)["deploy_at"], 10)
        time.sleep(1)
        leeroy.kill()
        time.sleep(3)
        leeroy.start()
        back = time.monotonic()
        assert "done" == leeroy.until_over(build)
        assert time.monotonic() - back > 2.7
        assert 2 == leeroy.moves(build).count("announce")
        assert 2 == sum("not before" in told["title"] for told in sink.received)


def test_what_is_stale_is_held(leeroy: Leeroy) -> None:
    """After more than stale_after nobody is surprised by a deploy: a person is asked."""
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        leeroy.settings["stale_after"] = "2s"
        leeroy.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\nrun = "true"\n'
            'grace = "60s"\n[[notify]]\nto = "env:OPS"\non = ["deploy_pending"]\n'
        )
        leeroy.start()
        build = leeroy.ask("trigger", name="shop")["id"]
        until(lambda: leeroy.build(build)["deploy_at"], 10)
        leeroy.kill()
        time.sleep(8)  # the last beat may be 5 s older than the kill
        leeroy.start()
        why = until(lambda: "stale" in leeroy.ask("why", id=build)["why"], 5)
        assert why
        leeroy.ask("approve", id=build)
        assert "done" == leeroy.until_over(build)


def test_a_deploy_that_never_began_is_withdrawn_and_run(either: Leeroy) -> None:
    """The row said deploying, the script had not begun: it goes back, is announced, and runs once."""
    either.pipeline(
        'untested = true\n[[deploy]]\nenvironment = "production"\n'
        "run = 'echo x >> \"{world}/deployed\"'\n"
    )
    either.write_settings()
    either.cli("migrate")
    build = json.loads(either.cli("trigger", "shop", "--json").stdout)["id"]
    for times in range(1, 4):
        died = subprocess.run(
            [sys.executable, "-m", "tests.crash.before_begin"],
            cwd=either.folder,
            env=either.environment(),
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert 9 == died.returncode, died.stderr
        assert not either.marks("deployed")
        shown = json.loads(either.cli("show", str(build), "--json").stdout)
        assert "deploying" == shown["state"], times
    either.start()
    assert "done" == either.until_over(build)
    assert ["x"] == either.marks("deployed")
    assert 3 == either.moves(build).count("withdraw")


def test_two_servers_on_one_folder_are_refused(leeroy: Leeroy) -> None:
    """The second one names the first, and changes nothing."""
    leeroy.start()
    second = leeroy.cli("serve", check=False)
    assert 5 == second.returncode
    assert "another `leeroy serve`" in second.stderr
