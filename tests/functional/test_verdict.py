"""`leeroy verdict`: what really happened, the same each time, and a mailbox as its witness."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.crash.test_server_dies import go, kill_everything, long
from tests.functional.test_story import NOTIFY
from tests.servers import Leeroy
from tests.sinks import smtp_sink
from tests.waiting import until


def verdict(leeroy: Leeroy, build: int) -> dict[str, Any]:
    """What the program prints; a server that is asked says the same."""
    found = json.loads(leeroy.cli("verdict", str(build), "--json").stdout)
    assert found == leeroy.ask("verdict", id=build)
    return dict(found)


def kinds(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [line for line in found["lines"] if line["kind"] == kind]


def test_the_mailbox_is_the_witness(either: Leeroy) -> None:
    """done and failed: the head hash that a mail brought is the one the rows give, also later."""
    with smtp_sink() as mail:
        either.env["OPS"] = mail.url
        either.env["KEY"] = "a very secret key"
        repo = either.shop(
            deploy="exit $(cat {world}/code)",
            more='grace = "1s"\nsecrets = { KEY = "env:KEY" }',
            tail=NOTIFY,
        )
        either.start()
        for code, state, fault in (("0", "done", "nobody"), ("3", "deploy_failed", "script")):
            (either.world / "code").write_text(code)
            build = either.push(repo)
            assert state == either.until_over(build)
            heads = until(
                lambda build=build: [
                    found[0]
                    for m in mail.received
                    if f"#{build}" in str(m.message["Subject"])
                    and (found := re.findall(r"^([0-9a-f]{64})$", m.text, flags=re.M))
                ],
                20,
            )
            found = verdict(either, build)
            assert (heads[0], fault, True) == (found["head"], found["fault"], found["over"])
            assert 0 == either.cli("verdict", str(build), "--head", heads[0][:16]).returncode
            saved = either.folder / "saved"
            saved.write_text(either.cli("verdict", str(build)).stdout)
            assert 0 == either.cli("verdict", "--verify", str(saved), "--head", heads[0]).returncode
            saved.write_text(saved.read_text().replace('"exit_code":0', '"exit_code":1', 1))
            wrong = either.cli("verdict", "--verify", str(saved), check=False)
            assert 1 == wrong.returncode
            assert re.search(r"line \d+ was changed", wrong.stdout)
            assert "a very secret key" not in json.dumps(found)
        assert "the deploy script of production failed (exit 3)" == found["cause"]
        steps = {s["stage"]: s for s in kinds(found, "step")}
        assert [0, 0, 3] == [steps[s]["exit_code"] for s in ("checkout", "test", "deploy")]
        assert 64 == len(steps["deploy"]["log"]) == len(steps["deploy"]["script"])
        assert ["KEY"] == steps["deploy"]["secrets"]
        assert {"PATH", "LEEROY_DEPLOY", "LEEROY_RUN", "LEEROY_RUN_DIR"} <= set(
            steps["deploy"]["variables"]
        )
        assert kinds(found, "accepted")
        opened = next(g for g in kinds(found, "gate") if g["who"] == "open")
        assert 1_000_000 <= opened["number"] < 10_000_000
        page = either.http("GET", f"/builds/{build}", token=either.token)[2].decode()
        assert found["head"] in page
        assert found["cause"] in page
        head = found["head"]
        assert "2 builds replayed" in either.cli("replay").stdout
        either.restart()
        assert head == verdict(either, build)["head"]


def test_a_stopped_deploy_names_who_stopped_it(leeroy: Leeroy) -> None:
    """In its grace period, and in the middle of its script."""
    leeroy.pipeline(
        'untested = true\n[[deploy]]\nenvironment = "production"\napprove = true\n'
        f"run = '''{long('deploy')}'''\n"
    )
    leeroy.start()
    first = leeroy.ask("trigger", name="shop")["id"]
    leeroy.until_state(first, "deploy_pending")
    leeroy.ask("cancel", id=first, reason="not today")
    found = verdict(leeroy, first)
    assert "person" == found["fault"]
    assert (
        "stopped by tests (token) before its deploy to production started: not today"
        == (found["cause"])
    )
    second = leeroy.ask("trigger", name="shop")["id"]
    leeroy.until_state(second, "deploy_pending")
    leeroy.ask("approve", id=second)
    until(lambda: leeroy.marks("deploy.begun"), 10)
    so_far = leeroy.cli("verdict", str(second)).stdout
    assert "fault: open" in so_far
    (leeroy.folder / "so-far").write_text(so_far)
    assert "before the build was over" in leeroy.cli("verdict", "--verify", "so-far").stdout
    leeroy.ask("cancel", id=second, force=True)
    assert "cancelled" == leeroy.until_over(second)
    found = verdict(leeroy, second)
    assert "ended in the middle" in found["cause"]
    assert "tests (token)" == kinds(found, "approved")[0]["who"]


def test_an_interrupted_deploy_is_nobodys_script(leeroy: Leeroy) -> None:
    """Everything was killed: the restart is in the record, and who said how it ended."""
    leeroy.pipeline(
        f"untested = true\n[[deploy]]\nenvironment = \"production\"\nrun = '''{long('deploy')}'''\n"
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: leeroy.marks("deploy.begun"), 10)
    kill_everything(leeroy)
    leeroy.start()
    leeroy.until_state(build, "interrupted")
    assert "nobody has said yet" in verdict(leeroy, build)["cause"]
    leeroy.ask("resolve", id=build, outcome="failed", reason="the page is old")
    found = verdict(leeroy, build)
    assert "leeroy" == found["fault"]
    assert "supervisor was killed" in found["cause"]
    assert "tests (token) says (the page is old) that it did not land" in found["cause"]
    assert ["crash"] == [line["said"] for line in kinds(found, "started")]
    assert [] == leeroy.ask("replay")["differences"]
    go(leeroy, "deploy")


def test_a_rollback_has_the_checks_it_relies_on(either: Leeroy) -> None:
    """The build it deploys again, its record's head, and every test; also of a rollback of it."""
    repo = either.shop()
    either.start()
    first = either.push(repo)
    assert "done" == either.until_over(first)
    source = verdict(either, first)
    build = first
    for _ in range(2):
        build = either.ask("deploy", id=build, to="production", now=True)["id"]
        assert "done" == either.until_over(build)
        found = verdict(either, build)
        assert ["build", "source", "check", "check"] == [x["kind"] for x in found["lines"][:4]]
        assert (first, source["head"]) == tuple(found["lines"][1][k] for k in ("build", "head"))
        passed = [x for x in kinds(source, "step") if x["environment"] is None]
        same = ("stage", "name", "state", "exit_code", "script", "log")
        assert [[x[k] for k in same] for x in passed] == [
            [x[k] for k in same] for x in kinds(found, "check")
        ]
        assert "test unit passed, exit 0" in either.cli("verdict", str(build)).stdout
        assert chain_holds(either, build)


def test_a_repository_that_is_not_there(leeroy: Leeroy) -> None:
    """A checkout runs no script of anybody's: the repository is named, and what git said of it."""
    leeroy.pipeline(
        'repository = "/nope/none.git"\nuntested = true\n[[test]]\nname = "unit"\nrun = "true"\n'
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop", branch="main", commit="a" * 40)["id"]
    assert "failed" == leeroy.until_over(build)
    found = verdict(leeroy, build)
    said = "there is no git repository at /nope/none.git on this machine; is the path right?"
    assert ("repository", f"the checkout failed: {said}") == (found["fault"], found["cause"])
    assert f"checkout: {said}" in leeroy.ask("why", id=build)["why"]
    assert chain_holds(leeroy, build)


def chain_holds(leeroy: Leeroy, build: int) -> bool:
    saved = leeroy.folder / "saved"
    saved.write_text(leeroy.cli("verdict", str(build)).stdout)
    return leeroy.cli("verdict", "--verify", str(saved)).returncode == 0
