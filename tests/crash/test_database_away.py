"""PostgreSQL stops, dies, ends its sessions, loses its answers: scripts run on, nothing is lost or done twice."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.crash.test_server_dies import go, long
from tests.functional.test_story import NOTIFY, link_of
from tests.gitservers import a_repo
from tests.postgres import Postgres, a_postgres
from tests.servers import Leeroy, a_leeroy
from tests.sinks import json_sink
from tests.waiting import until

_number = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A database server that the tests here may ill-treat."""
    with a_postgres(Path("/tmp") / f"leeroy-pg-away-{os.getpid()}", durable=True) as made:
        yield made


@pytest.fixture
def away(server: Postgres, tmp_path: Path) -> Iterator[Leeroy]:
    """An installation on it, not yet started."""
    if server.process is None:
        server.start()
    url = server.database(f"away{next(_number)}", template="template")
    with a_leeroy(tmp_path / "leeroy", url) as made:
        yield made
    server.answer()


LOUD = 'i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo "line $i of a log that goes on"; done\n'


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_scripts_run_on_without_the_database(away: Leeroy, server: Postgres, how: str) -> None:
    """Nothing starts, nobody gets a yes, and all that happened is recorded when it is back."""
    away.pipeline(
        f"[[test]]\nname = \"unit\"\nrun = '''{long('test').replace('echo last', LOUD + 'echo last')}'''\n"
        "[[deploy]]\nenvironment = \"production\"\nrun = '''echo x >> \"{world}/deployed\"'''\n"
    )
    away.pipeline(
        'untested = true\n[[deploy]]\nenvironment = "moon"\ngrace = "1s"\n'
        "run = '''echo x >> \"{world}/moon\"'''\n"
        '[[notify]]\nto = "env:OPS"\non = ["deploy_pending"]\n',
        "moon",
    )
    with json_sink() as sink:
        sink.down()
        away.env["OPS"] = sink.url
        repo = a_repo(away.folder / "srv")
        hooked = f'repository = "{repo.bare}"\nsecret = "env:SHOP_HOOK"\n'
        away.pipeline(f'{hooked}[[test]]\nname = "unit"\nrun = "true"\n', "hooked")
        away.start()
        build = away.ask("trigger", name="shop")["id"]
        moon = away.ask("trigger", name="moon")["id"]
        until(lambda: away.marks("test.begun"), 10)
        away.until_state(moon, "deploy_pending")
        getattr(server, how)()
        sink.up()
        go(away, "test")
        until(lambda: away.marks("test.ended"), 20)
        assert 503 == away.http("POST", f"/api/v1/builds/{moon}/cancel", token=away.token)[0]
        asked = {"LEEROY_SERVER": away.url, "LEEROY_TOKEN": away.token}
        assert 5 == away.cli("cancel", str(moon), check=False, **asked).returncode
        assert 5 == away.cli("cancel", str(moon), check=False).returncode
        assert 503 == away.hook(repo, delivery="while-away")[0]
        assert 503 == away.http("GET", "/healthz")[0]
        time.sleep(1.5)  # longer than the grace period: nothing may start now
        assert not away.marks("moon") and not away.marks("deployed")
        assert away.process is not None and away.process.poll() is None
        server.start()
        back = time.monotonic()
        assert "done" == away.until_over(build, timeout=15)
        assert time.monotonic() - back < 10
        assert "done" == away.until_over(moon)
        assert ["x"] == away.marks("moon") == away.marks("deployed")
        assert ["begun"] == away.marks("test.begun")
        lines = [line for line in away.logged(build).splitlines() if "of a log" in line]
        assert [f"line {n} of a log that goes on" for n in range(1, 40001)] == lines
        status, answer = away.hook(repo, delivery="while-away")
        assert 202 == status and 1 == len(answer["builds"])
        assert 200 == away.http("GET", "/healthz")[0]


def test_sessions_end_again_and_again(away: Leeroy, server: Postgres) -> None:
    """`pg_terminate_backend` of everybody, thirty times under load: every build ends, each script ran once."""
    away.settings["slots"] = 4
    away.pipeline(
        '[[test]]\nname = "unit"\nrun = \'echo $LEEROY_BUILD >> "{world}/tested"\'\n'
        '[[build]]\nname = "wheel"\nrun = \'echo $LEEROY_BUILD >> "{world}/built"\'\n'
    )
    away.start()
    ids = [away.ask("trigger", name="shop")["id"] for _ in range(30)]
    for _ in range(30):
        server.terminate()
        time.sleep(0.05)  # load, not a condition: some of it must happen in between
    for build in ids:
        assert "done" == away.until_over(build, timeout=60)
    for name in ("tested", "built"):
        assert sorted(map(str, ids)) == sorted(away.marks(name)), name


def test_a_database_that_hangs(away: Leeroy, server: Postgres) -> None:
    """Everybody is answered within 5 s, however many ask; a stop holds once it is acknowledged."""
    repo = away.shop()
    away.pipeline(
        'untested = true\n[[deploy]]\nenvironment = "moon"\ngrace = "60s"\n'
        "run = 'touch \"{world}/moon\"'\n" + NOTIFY,
        "moon",
    )
    with json_sink() as sink:
        away.env["OPS"] = sink.url
        away.start()
        build = away.ask("trigger", name="moon")["id"]
        link = link_of(sink, build)
        cancel = f"/api/v1/builds/{build}/cancel"
        asked = [
            ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/"), ("GET", f"/builds/{build}"),
            ("GET", "/api/v1/builds"), ("GET", f"/api/v1/builds/{build}/log"), ("GET", "/metrics"),
            ("POST", cancel), ("GET", link), ("POST", link),
        ]  # fmt: skip

        def timed(one: tuple[str, str]) -> tuple[str, int, str | None, float]:
            began = time.monotonic()
            status, headers, _ = away.http(*one, token=away.token)
            return " ".join(one), status, headers.get("retry-after"), time.monotonic() - began

        server.hang()
        try:
            # Far more than there are threads, over and over; and healthz is answered after all.
            with ThreadPoolExecutor(60) as pool:
                hooked = pool.submit(away.hook, repo, delivery="hung")
                many = list(pool.map(timed, asked * 6))
            assert 503 == hooked.result()[0]
            many += [timed(one) for one in (("GET", "/healthz"), ("POST", cancel))]
        finally:
            server.go_on()
        assert [] == [one for one in many if one[1:3] != (503, "5")]
        assert [] == [one for one in many if one[3] > 7], "on a busy machine; ours are 4.5 s"
        until(lambda: away.http("GET", "/readyz")[0] == 200, 20)
        assert 200 == away.http("POST", link)[0]
        assert 200 == away.http("POST", link)[0]
        assert "cancelled" == away.state(build) and 1 == away.moves(build).count("cancel")
        status, answer = away.hook(repo, delivery="hung")
        assert status in (200, 202) and 1 == len(answer["builds"])
        assert "done" == away.until_over(answer["builds"][0])
        assert answer["builds"] == [b["id"] for b in away.ask("list") if b["pipeline"] == "shop"]
        assert not (away.world / "moon").exists()
        server.hang()
        try:
            began = time.monotonic()
            away.stop(20)
            assert time.monotonic() - began < 18, "it stops though the database hangs"
        finally:
            server.go_on()
        assert "Traceback" not in away.log.read_text()


def test_whoever_asks_goes_away(away: Leeroy) -> None:
    """In the middle of a body: no error of ours."""
    away.pipeline('[[test]]\nname = "unit"\nrun = "true"\n')
    away.start()
    address = urlsplit(away.url)
    for path in ("/hooks/github", "/api/v1/pipelines/shop/builds"):
        with socket.create_connection((address.hostname, address.port)) as guest:
            head = f"POST {path} HTTP/1.1\r\nHost: leeroy\r\nContent-Length: 99\r\n"
            guest.sendall(f"{head}Authorization: Bearer {away.token}\r\n\r\n{{".encode())
    until(lambda: away.log.read_text().count("whoever asked has gone") == 2, 10)
    assert "Traceback" not in away.log.read_text()


class Losing:
    """While it is open every COMMIT is stored, and its answer lost with the session."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.lost = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._lose)

    def _lose(self) -> None:
        while not self._done.wait(0.05):
            waiting = self.server.waiting()
            if waiting:
                self.server.terminate("wait_event = 'SyncRep'")
                self.lost += waiting

    def __enter__(self) -> Losing:
        self.server.withhold()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.server.answer()


STAGES = """
[[test]]
name = "unit"
run = '''
echo $LEEROY_BUILD >> "{world}/tested"
while [ ! -e "{world}/test.$LEEROY_BUILD" ]; do sleep 0.02; done
'''
[[deploy]]
environment = "production"
grace = "1s"
run = '''
echo $LEEROY_BUILD >> "{world}/deployed"
while [ ! -e "{world}/deploy.$LEEROY_BUILD" ]; do sleep 0.02; done
'''
verify = 'echo $LEEROY_BUILD >> "{world}/verified"'
[[notify]]
to = "env:OPS"
"""


def let(leeroy: Leeroy, stage: str, build: int) -> None:
    """The stage's script may end."""
    (leeroy.world / f"{stage}.{build}").touch()


@pytest.mark.parametrize("when", ["start", "test", "grace", "deploy"])
def test_answers_of_commits_are_lost(away: Leeroy, server: Postgres, when: str) -> None:
    """What was stored and what follows from it is found again: no script twice, none forgotten."""
    with json_sink() as sink:
        away.env["OPS"] = sink.url
        away.settings["slots"] = 1
        away.pipeline(STAGES)
        away.start()
        first = away.ask("trigger", name="shop", deploys=False)["id"]
        build = away.ask("trigger", name="shop")["id"]
        until(lambda: away.marks("tested"), 10)
        if when != "start":
            let(away, "test", first)
            until(lambda: len(away.marks("tested")) == 2, 10)
        if when == "deploy":
            let(away, "test", build)
            until(lambda: away.marks("deployed"), 10)
        with Losing(server) as losing:
            if when == "start":
                let(away, "test", first)
            elif when == "test":
                let(away, "test", build)
            elif when == "grace":
                let(away, "test", build)
                until(lambda: losing.lost >= 8, 20, "eight lost answers")
            else:
                let(away, "deploy", build)
            until(lambda: losing.lost >= 3, 20, "three lost answers")
        let(away, "test", build)
        let(away, "deploy", build)
        assert "done" == away.until_over(build, timeout=30)
        assert "done" == away.until_over(first)
        assert [str(first), str(build)] == away.marks("tested")
        assert [str(build)] == away.marks("deployed") == away.marks("verified")
        for one in (first, build):
            events = away.ask("events", id=one)
            assert list(range(1, len(events) + 1)) == [event["seq"] for event in events]
            until(
                lambda one=one: (
                    {"sent", "obsolete"}
                    >= {notice["state"] for notice in away.ask("notices", id=one)}
                ),
                30,
                "every notice is sent",
            )


def test_a_hook_whose_commit_was_not_answered(away: Leeroy, server: Postgres) -> None:
    """It is answered 503, and the redelivery names the build that was stored: there is one."""
    repo = away.shop()
    away.start()
    server.withhold()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(away.hook, repo, delivery="lost")
        until(server.waiting, 10, "the commit is stored")
        server.answer_none()
        assert 503 == first.result(30)[0]
    status, answer = until(lambda: (r := away.hook(repo, delivery="lost"))[0] != 503 and r, 20)
    assert (200, "seen before") == (status, answer["reason"])
    [build] = answer["builds"]
    assert "done" == away.until_over(build)
    assert [build] == [one["id"] for one in away.ask("list")]


def test_a_stop_whose_commit_was_not_answered(away: Leeroy, server: Postgres) -> None:
    """Never a yes without a commit; asked again there is one truthful answer, and no deploy."""
    with json_sink() as sink:
        away.env["OPS"] = sink.url
        away.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\ngrace = "60s"\n'
            "run = 'touch \"{world}/deployed\"'\n" + NOTIFY
        )
        away.start()
        build = away.ask("trigger", name="shop")["id"]
        link = link_of(sink, build)
        with Losing(server):
            assert 503 == away.http("POST", link)[0]
        until(lambda: away.http("GET", "/healthz")[0] == 200, 20)
        assert 200 == away.http("POST", link)[0]
        assert 200 == away.http("POST", link)[0]
        assert 0 == away.cli("cancel", str(build)).returncode
        assert "cancelled" == away.state(build)
        assert 1 == away.moves(build).count("cancel")
        assert not (away.world / "deployed").exists()
