"""The network between Leeroy and PostgreSQL fails without a word: partitions, half-open connections."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.test_server_dies import go, long
from tests.functional.test_story import NOTIFY, link_of
from tests.gitservers import a_repo
from tests.postgres import Postgres, a_postgres
from tests.servers import a_leeroy
from tests.sinks import json_sink
from tests.waiting import until
from tests.wires import Wire, a_wire

_number = itertools.count(1)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """What the tests here cut."""
    with a_wire() as made:
        yield made


@pytest.fixture(scope="module")
def server(wire: Wire) -> Iterator[Postgres]:
    """A database server at its far end."""
    with a_postgres(Path("/tmp") / f"leeroy-pg-apart-{os.getpid()}", wire=wire) as made:
        yield made


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["cut", "deafen"])
def test_the_network_fails_without_a_word(
    server: Postgres, wire: Wire, tmp_path: Path, how: str
) -> None:
    """503 within 5 s, nothing starts, scripts run on; mended, all goes on by itself, and once."""
    url = server.database(f"apart{next(_number)}", template="template")
    with a_leeroy(tmp_path / "leeroy", url) as away, json_sink() as sink:
        away.env["OPS"] = sink.url
        repo = a_repo(away.folder / "srv")
        away.pipeline(
            f"[[test]]\nname = \"unit\"\nrun = '''{long('test')}'''\n"
            "[[deploy]]\nenvironment = \"production\"\nrun = '''echo x >> \"{world}/deployed\"'''\n"
        )
        hooked = f'repository = "{repo.bare}"\nsecret = "env:SHOP_HOOK"\n'
        away.pipeline(
            f'{hooked}[[test]]\nname = "unit"\nrun = "echo x >> \\"{{world}}/hooked\\""\n', "hooked"
        )
        away.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "moon"\ngrace = "60s"\n'
            "run = 'touch \"{world}/moon\"'\n" + NOTIFY,
            "moon",
        )
        away.start()
        build = away.ask("trigger", name="shop")["id"]
        moon = away.ask("trigger", name="moon")["id"]
        link = link_of(sink, moon)
        until(lambda: away.marks("test.begun"), 20)
        getattr(wire, how)()
        try:
            began = time.monotonic()
            go(away, "test")
            for one in (("POST", link), ("GET", "/healthz"), ("GET", f"/builds/{build}")):
                asked = time.monotonic()
                assert 503 == away.http(*one, token=away.token)[0], one
                assert time.monotonic() - asked < 7, one
            assert 503 == away.hook(repo, delivery="apart")[0]
            until(lambda: away.marks("test.ended"), 20)
            # Not a condition: so long that both ends have given their connections up.
            time.sleep(max(0.0, 12 - (time.monotonic() - began)))
            assert not away.marks("deployed")
        finally:
            wire.mend()
        mended = time.monotonic()
        until(lambda: away.http("GET", "/readyz")[0] == 200, 20, "it is well again")
        assert "done" == away.until_over(build, timeout=30)
        print(f"\n{how}: done {time.monotonic() - mended:.1f} s after it was mended")
        assert ["begun"] == away.marks("test.begun") and ["x"] == away.marks("deployed")
        assert 200 == away.http("POST", link)[0]
        assert "cancelled" == away.state(moon) and 1 == away.moves(moon).count("cancel")
        status, answer = away.hook(repo, delivery="apart")
        assert status in (200, 202) and 1 == len(answer["builds"])
        assert "done" == away.until_over(answer["builds"][0])
        assert 1 == len([b for b in away.ask("list") if b["pipeline"] == "hooked"])
        assert ["x"] == away.marks("hooked") and not (away.world / "moon").exists()
        assert "Traceback" not in away.log.read_text()
