"""A push, all the way: tests, the message, the grace period, and the deploy, or what stopped it."""

from __future__ import annotations

import html
import json
import re
import time

import pytest

from tests.servers import Leeroy
from tests.sinks import JsonSink, json_sink
from tests.waiting import until

NOTIFY = """
[[notify]]
to = "env:OPS"
on = ["deploy_pending", "done", "failed", "deploy_failed", "cancelled", "interrupted"]
"""


def link_of(sink: JsonSink, build: int, timeout: float = 15) -> str:
    """The stop link of a build's announcement, as its path."""

    def found() -> str | None:
        for told in list(sink.received):
            match = re.search(r"http://[^/]+(/stop/\S+)", told["message"])
            if match and f"#{build}" in told["title"]:
                return match[1]
        return None

    return until(found, timeout, f"the announcement of build {build}")


def test_a_push_is_tested_then_deployed(either: Leeroy) -> None:
    """The exact commit is tested and deployed, with what the tests' environment promises."""
    repo = either.shop(
        test='git rev-parse HEAD > "{world}/tested"; echo "$1 $2 $3"; env > "{world}/env"',
        deploy='git rev-parse HEAD > "{world}/deployed"; echo "$LEEROY_DEPLOY $LEEROY_ENVIRONMENT"',
    )
    commit = repo.commit("new wares")
    either.start()
    build = either.push(repo)
    assert "done" == either.until_over(build)
    assert [commit] == either.marks("tested") == either.marks("deployed")
    shown = either.build(build)
    assert shown["commit"] == commit
    assert ["checkout", "test", "checkout", "deploy"] == [s["stage"] for s in shown["steps"]]
    assert "accept start pass announce deploy finish" == " ".join(either.moves(build))
    log = either.logged(build)
    assert f"{repo.bare} main 1" in log
    assert f"shop-production-{build} production" in log
    [place] = either.ask("environments")
    assert (build, commit, None) == (place["runs"], place["commit"], place["held_by"])
    names = {line.partition("=")[0] for line in either.marks("env")}
    assert names <= {
        *["CI", "LEEROY", "PATH", "LANG", "TMPDIR", "HOME", "PWD", "OLDPWD", "SHLVL", "_"],
        *(n for n in names if n.startswith("LEEROY_")),
    }, "nothing else of the server's environment"
    assert not {"SHOP_HOOK", "PYTHONPATH"} & names


def test_a_red_test_deploys_nothing(leeroy: Leeroy) -> None:
    """A failed test stops the line, and says which."""
    repo = leeroy.shop(test="echo broken; exit 3", deploy='touch "{world}/deployed"')
    leeroy.start()
    build = leeroy.push(repo)
    assert "failed" == leeroy.until_over(build)
    assert not leeroy.marks("deployed")
    last = leeroy.ask("events", id=build)[-1]
    assert "test unit exited 3" == last["reason"]
    assert "broken" in leeroy.logged(build)


def test_the_link_stops_the_deploy(either: Leeroy) -> None:
    """Whoever has the message stops it; looking changes nothing; stopping twice is as good."""
    with json_sink() as sink:
        either.env["OPS"] = sink.url
        repo = either.shop(deploy='touch "{world}/deployed"', more='grace = "60s"', tail=NOTIFY)
        either.start()
        build = either.push(repo)
        link = link_of(sink, build)
        version = either.until_state(build, "deploy_pending")["version"]
        for method in ("GET", "HEAD"):
            status, headers, text = either.http(method, link)
            assert 200 == status
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
        status, _, text = either.http("GET", link)
        for words in (
            b"Stop this deploy",
            b"Hold it",
            b"autofocus",
            b"production",
            b"Ada Lovelace",
        ):
            assert words in text
        assert version == either.build(build)["version"]
        status, _, text = either.http("POST", link)
        assert (200, "cancelled") == (status, either.state(build))
        assert b"is cancelled" in text
        assert 200 == either.http("POST", link, b"action=cancel")[0]
        assert 404 == either.http("POST", link[:-1] + "x")[0]
        assert not (either.world / "deployed").exists()
        until(lambda: any("cancelled" in told["title"] for told in sink.received), 10)
        last = either.ask("events", id=build)[-1]
        assert "stop link (env:OPS)" == last["actor"]


def test_a_held_deploy_waits_for_a_person(leeroy: Leeroy) -> None:
    """Hold by link, approve by command: then it goes at once, and is told."""
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        repo = leeroy.shop(deploy='touch "{world}/deployed"', more='grace = "2s"', tail=NOTIFY)
        leeroy.start()
        build = leeroy.push(repo)
        link = link_of(sink, build)
        assert 200 == leeroy.http("POST", link, b"action=hold")[0]
        time.sleep(3)  # more than the grace period: the point is that nothing happens in it
        assert "deploy_pending" == leeroy.state(build)
        assert "held by" in leeroy.cli("why", str(build)).stdout
        leeroy.cli("approve", str(build))
        assert "done" == leeroy.until_over(build)
        assert (leeroy.world / "deployed").exists()
        status, _, text = leeroy.http("POST", link)
        assert 409 == status
        assert b"too late: the deploy to production started" in text


def test_the_grace_period_starts_when_somebody_was_told(leeroy: Leeroy) -> None:
    """While nobody can be told the deploy waits; then the full period runs."""
    with json_sink() as sink:
        sink.down()
        leeroy.env["OPS"] = sink.url
        repo = leeroy.shop(deploy="true", more='grace = "2s"', tail=NOTIFY)
        leeroy.start()
        build = leeroy.push(repo)
        shown = leeroy.until_state(build, "deploy_pending")
        time.sleep(2.5)
        shown = leeroy.build(build)
        assert "deploy_pending" == shown["state"]
        assert "nobody could be told yet" in shown["waiting_for"]
        sink.up()
        link_of(sink, build)
        told = time.monotonic()
        assert "done" == leeroy.until_over(build)
        assert time.monotonic() - told > 1.7
        until(lambda: any("done" in told["title"] for told in sink.received), 10)


def test_nobody_who_listens_means_no_grace_period(leeroy: Leeroy) -> None:
    """Without a target for announcements the deploy starts at once, and check warns."""
    repo = leeroy.shop(more='grace = "30s"')
    leeroy.start()
    build = leeroy.push(repo)
    assert "done" == leeroy.until_over(build, timeout=10)
    assert "its grace period is over at once" in leeroy.cli("check").stdout


def test_several_environments_one_after_the_other(leeroy: Leeroy) -> None:
    """In file order; a failing one ends it."""
    leeroy.pipeline(
        """
[[test]]
name = "unit"
run = "true"
[[deploy]]
environment = "staging"
run = 'echo staging >> "{world}/order"'
verify = 'echo verified >> "{world}/order"; test -e "{world}/order"'
[[deploy]]
environment = "production"
run = 'echo production >> "{world}/order"; exit 1'
[[deploy]]
environment = "moon"
run = 'echo moon >> "{world}/order"'
"""
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "deploy_failed" == leeroy.until_over(build)
    assert ["staging", "verified", "production"] == leeroy.marks("order")
    places = {p["environment"]: p["runs"] for p in leeroy.ask("environments")}
    assert {"staging": build, "production": None, "moon": None} == places


def test_artifacts_reach_the_deploy(leeroy: Leeroy) -> None:
    """What a build leaves is in the deploy's fresh workspace, and what it did not name is not."""
    repo = leeroy.shop(
        deploy='cat dist/shop.whl > "{world}/got"; ls > "{world}/there"',
        tail="""
[[build]]
name = "wheel"
run = "mkdir -p dist; echo wheel of $LEEROY_COMMIT > dist/shop.whl; touch junk"
artifacts = ["dist/*.whl"]
""",
    )
    leeroy.start()
    build = leeroy.push(repo)
    assert "done" == leeroy.until_over(build)
    assert [f"wheel of {repo.git('rev-parse', 'main')}"] == leeroy.marks("got")
    assert "junk" not in leeroy.marks("there")


def test_missing_artifacts_fail_the_build(leeroy: Leeroy) -> None:
    """A pattern that names nothing would deploy nothing: it fails, and says so."""
    leeroy.pipeline(
        """
untested = true
[[build]]
name = "wheel"
run = "true"
artifacts = ["dist/*"]
"""
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "failed" == leeroy.until_over(build)
    why = "artifacts: nothing in the workspace matches 'dist/*'"
    assert why in leeroy.ask("events", id=build)[-1]["reason"]
    last = f"== build wheel: {why} =="
    assert last == leeroy.logged(build).splitlines()[-1]
    assert [last] == leeroy.cli("log", str(build), "--follow").stdout.splitlines()[-1:]
    page = leeroy.http("GET", f"/builds/{build}", token=leeroy.token)[2].decode()
    log = page.partition('id="log"')[2].partition("</pre>")[0]
    assert last == html.unescape(log).splitlines()[-1]
    cursor = re.search(r'data-cursor="([0-9:]+)"', page)
    assert cursor
    rest = leeroy.http("GET", f"/api/v1/builds/{build}/log?cursor={cursor[1]}", token=leeroy.token)
    assert b"" == rest[2], "it stands there once"


def test_a_newer_push_takes_the_older_ones_place(leeroy: Leeroy) -> None:
    """An announced deploy gives way to a newer one; the environment never goes back."""
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        repo = leeroy.shop(
            deploy='echo "$LEEROY_BUILD" >> "{world}/order"', more='grace = "3s"', tail=NOTIFY
        )
        leeroy.start()
        first = leeroy.push(repo)
        leeroy.until_state(first, "deploy_pending")
        repo.commit("newer")
        second = leeroy.push(repo)
        assert "superseded" == leeroy.until_over(first)
        assert "done" == leeroy.until_over(second)
        assert [str(second)] == leeroy.marks("order")
        again = leeroy.ask("retry", id=first)
        assert (first, first) == (again["place"], again["source"])
        assert "superseded" == leeroy.until_over(again["id"])
        assert [str(second)] == leeroy.marks("order")


def test_an_older_build_is_deployed_by_a_person(leeroy: Leeroy) -> None:
    """`deploy ID --to` goes back, with the old artifacts, and freezes what is automatic."""
    repo = leeroy.shop(
        test='echo "$LEEROY_BUILD" >> "{world}/tested"',
        deploy='cat what >> "{world}/order"',
        tail="""
[[build]]
name = "what"
run = "echo artifact of $LEEROY_BUILD > what"
artifacts = ["what"]
""",
    )
    leeroy.start()
    first = leeroy.push(repo)
    assert "done" == leeroy.until_over(first)
    repo.commit("worse")
    second = leeroy.push(repo)
    assert "done" == leeroy.until_over(second)
    back = leeroy.ask("deploy", id=first, to="production", now=True)
    assert first == back["source"]
    assert "done" == leeroy.until_over(back["id"])
    lines = [f"artifact of {first}", f"artifact of {second}", f"artifact of {first}"]
    assert lines == leeroy.marks("order")
    assert [str(first), str(second)] == leeroy.marks("tested"), "the source's tests count"
    repo.commit("better")
    third = leeroy.push(repo)
    leeroy.until_state(third, "deploy_pending")
    assert "frozen" in until(lambda: leeroy.build(third)["waiting_for"], 5)
    leeroy.ask("thaw", which="shop/production")
    assert "done" == leeroy.until_over(third)
    assert "announce" in leeroy.moves(third)[4:], "announced again after the thaw"


def test_frozen_means_frozen(leeroy: Leeroy) -> None:
    """An acknowledged freeze holds, approval or not; thaw lets it go on."""
    leeroy.pipeline('untested = true\n[[deploy]]\nenvironment = "production"\nrun = "true"\n')
    leeroy.start()
    leeroy.ask("freeze", which="*", reason="holidays")
    build = leeroy.ask("trigger", name="shop")["id"]
    leeroy.until_state(build, "deploy_pending")
    until(
        lambda: "frozen by tests (token): holidays" in (leeroy.build(build)["waiting_for"] or ""), 5
    )
    leeroy.ask("approve", id=build)
    time.sleep(1)
    assert "deploy_pending" == leeroy.state(build)
    leeroy.ask("thaw", which="*")
    assert "done" == leeroy.until_over(build)


def test_approval_is_asked_for(leeroy: Leeroy) -> None:
    """approve = true: a person must say go, for the environment that waits."""
    leeroy.pipeline(
        """
untested = true
[[deploy]]
environment = "staging"
run = "true"
[[deploy]]
environment = "production"
run = "true"
approve = true
"""
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: leeroy.build(build)["environment"] == "production", 10)
    assert 2 == leeroy.cli("approve", str(build), check=False).returncode
    missed = leeroy.cli("approve", str(build), "--environment", "staging", check=False)
    assert 3 == missed.returncode
    leeroy.cli("approve", str(build), "--environment", "production")
    assert "done" == leeroy.until_over(build)


def test_stopping_a_running_build_ends_its_processes(leeroy: Leeroy) -> None:
    """Cancelled only when nothing of it is left, a daemonised grandchild included."""
    leeroy.pipeline(
        """
[[test]]
name = "slow"
run = '''
(setsid sh -c 'echo $$ > "{world}/grandchild"; exec sleep 600' &)
sleep 600
'''
[[test]]
name = "never"
run = 'touch "{world}/never"'
"""
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    pid = int(until(lambda: leeroy.marks("grandchild"), 10)[0])
    answer = leeroy.ask("cancel", id=build, reason="wrong branch")
    assert "is being stopped" in answer["answer"]
    assert "cancelled" == leeroy.until_over(build)
    with pytest.raises(ProcessLookupError):
        __import__("os").kill(pid, 0)
    last = leeroy.ask("events", id=build)[-1]
    assert ("tests (token)", "wrong branch") == (last["actor"], last["reason"])
    assert not (leeroy.world / "never").exists()


def test_a_running_deploy_is_stopped_only_by_force(leeroy: Leeroy) -> None:
    """Too late is said truthfully; --force ends the script in the middle."""
    leeroy.pipeline(
        'untested = true\n[[deploy]]\nenvironment = "production"\n'
        "run = 'touch \"{world}/begun\"; sleep 600'\n"
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: (leeroy.world / "begun").exists(), 10)
    late = leeroy.cli("cancel", str(build), check=False)
    assert 3 == late.returncode
    assert "too late: the deploy of build" in late.stderr
    done = leeroy.cli("cancel", str(build), "--force", "--wait", "--json")
    assert f"the deploy of build {build} to production is being stopped" in done.stderr
    assert "cancelled" == json.loads(done.stdout)["state"]
    assert "asked to stop it" not in leeroy.cli("show", str(build)).stdout
    assert 0 == leeroy.cli("cancel", str(build)).returncode


def test_verify_is_tried_until_it_is_well(leeroy: Leeroy) -> None:
    """verify may fail for a while; in the end it decides."""
    leeroy.pipeline(
        """
untested = true
[[deploy]]
environment = "well"
run = "true"
verify = 'echo try >> "{world}/tries"; test "$(wc -l < "{world}/tries")" -ge 3'
[[deploy]]
environment = "ill"
run = "true"
verify = "false"
verify_within = "1s"
"""
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "deploy_failed" == leeroy.until_over(build)
    assert ["try"] * 3 == leeroy.marks("tries")
    assert "verify took too long" == leeroy.ask("events", id=build)[-1]["reason"]


def test_secrets_are_masked_and_only_where_they_are_named(leeroy: Leeroy) -> None:
    """A secret is in the scripts that name it, and nowhere readable."""
    leeroy.env["TOKEN"] = "correct-horse-battery"
    leeroy.pipeline(
        """
[[test]]
name = "with"
run = 'echo "it is $KEY"; echo "$KEY" | base64; printf correct-horse; sleep 0.5; echo -battery'
secrets = { KEY = "env:TOKEN" }
[[test]]
name = "without"
run = 'echo "here it is [$KEY]"'
"""
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "done" == leeroy.until_over(build)
    log = leeroy.logged(build)
    assert "it is ***" in log
    assert "here it is []" in log
    assert "correct-horse" not in log.replace("***", "")
    assert "Y29ycmVjdC1ob3Jz" not in log
    assert "correct-horse-battery" not in leeroy.log.read_text()


def test_a_missing_secret_fails_the_step_with_a_sentence(leeroy: Leeroy) -> None:
    """What cannot start says why."""
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "true"\nsecrets = { KEY = "env:NOT_THERE" }\n')
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "failed" == leeroy.until_over(build)
    assert "env:NOT_THERE is not set" in leeroy.ask("events", id=build)[-1]["reason"]
    assert "== test unit: cannot start: " in leeroy.logged(build).splitlines()[-1]


def test_a_broken_edit_leaves_the_last_good_text(leeroy: Leeroy) -> None:
    """Within a second a good edit counts; a broken one does not, also over a restart."""
    good = '[[test]]\nname = "unit"\nrun = "echo {}"\n'
    file = leeroy.pipeline(good.format("one"))
    leeroy.start()
    assert "done" == leeroy.until_over(leeroy.ask("trigger", name="shop")["id"])
    file.write_text("[[test]\nname = ")
    until(lambda: leeroy.ask("pipelines")[0]["mistakes"], 3)
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "done" == leeroy.until_over(build)
    assert "one" in leeroy.logged(build)
    leeroy.restart()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "done" == leeroy.until_over(build)
    file.write_text(good.format("two"))
    until(lambda: leeroy.ask("pipelines")[0]["mistakes"] is None, 3)
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "done" == leeroy.until_over(build)
    assert "two" in leeroy.logged(build)


def test_slots_and_at_once_are_limits(leeroy: Leeroy) -> None:
    """Never more at a time than slots; `why` says what a build waits for."""
    script = """
[[test]]
name = "unit"
run = '''
echo "+" >> "{world}/running"
sleep 0.3
echo "-" >> "{world}/running"
'''
"""
    leeroy.pipeline("at_once = 1\n" + script)
    leeroy.start()
    ids = [leeroy.ask("trigger", name="shop")["id"] for _ in range(4)]
    why = leeroy.ask("why", id=ids[-1])["why"]
    assert why
    for build in ids:
        assert "done" == leeroy.until_over(build)
    assert ["+", "-"] * 4 == leeroy.marks("running")
