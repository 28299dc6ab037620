"""Many at the same time: of a stop and a deploy's start exactly one wins, and hooks are never lost."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from leeroy.client import Server
from leeroy.errors import NotPossible
from tests.functional.test_story import NOTIFY, link_of
from tests.servers import Leeroy
from tests.sinks import json_sink
from tests.waiting import until


@pytest.mark.parametrize("attempt", range(3))
def test_a_hundred_stops_race_the_deploy(either: Leeroy, attempt: int) -> None:
    """What was acknowledged holds: a stop that was answered 200 means that nothing was deployed."""
    with json_sink() as sink:
        either.env["OPS"] = sink.url
        either.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\n'
            "run = 'echo x >> \"{world}/deployed\"'\n"
            f'grace = "1s"\n{NOTIFY}'
        )
        either.start()
        build = either.ask("trigger", name="shop")["id"]
        link = link_of(sink, build)
        shown = until(lambda: either.build(build)["deploy_at"], 5)
        assert shown
        gate = threading.Barrier(100)

        def stop(number: int) -> int:
            gate.wait()
            # spread over the moment at which the grace period ends
            threading.Event().wait(0.6 + 0.006 * number + 0.1 * attempt)
            return either.http("POST", link)[0]

        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(stop, range(100)))
        state = either.until_over(build)
        assert set(answers) <= {200, 409}
        if 200 in answers:
            assert "cancelled" == state
            assert 200 == min(answers) == max(answers), "a later stop cannot fail"
            assert not either.marks("deployed")
        else:
            assert "done" == state
            assert ["x"] == either.marks("deployed")


@pytest.mark.parametrize("attempt", range(3))
def test_the_approval_and_the_stop(either: Leeroy, attempt: int) -> None:
    """Approve starts it at once, cancel stops it at once; together, exactly one of them."""
    with json_sink() as sink:
        either.env["OPS"] = sink.url
        either.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\n'
            "run = 'echo x >> \"{world}/deployed\"'\n"
            f'grace = "60s"\n{NOTIFY}'
        )
        either.start()
        for _ in range(5):
            build = either.ask("trigger", name="shop")["id"]
            either.until_state(build, "deploy_pending")
            gate = threading.Barrier(2)
            outcome: list[str] = []

            def approve(build: int = build, gate: threading.Barrier = gate) -> None:
                gate.wait()
                with contextlib.suppress(NotPossible):
                    Server(either.url, either.token).call("approve", id=build)

            other = threading.Thread(target=approve)
            other.start()
            gate.wait()
            try:
                either.ask("cancel", id=build)
                outcome.append("cancelled")
            except NotPossible:
                outcome.append("done")
            other.join()
            assert outcome == [either.until_over(build)]
            assert ("x" in either.marks("deployed")) == (outcome == ["done"])
            (either.world / "deployed").unlink(missing_ok=True)


def test_fifty_hooks_at_once_make_fifty_builds(either: Leeroy) -> None:
    """Nobody is told that the database is locked."""
    repo = either.shop()
    either.start()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: either.hook(repo, delivery=f"d{n}"), range(50)))
    assert {202} == {status for status, _ in answers}
    ids = {answer["builds"][0] for _, answer in answers}
    assert 50 == len(ids)
    assert "locked" not in either.log.read_text()
    again = either.hook(repo, delivery="d7")
    assert (200, {"builds": answers[7][1]["builds"], "reason": "seen before"}) == again


def test_the_same_delivery_many_times_at_once(either: Leeroy) -> None:
    """A redelivery makes no second build, however close it comes."""
    repo = either.shop()
    either.start()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: either.hook(repo, delivery="same"), range(20)))
    assert 1 == len({answer["builds"][0] for _, answer in answers})
    assert [202] == [status for status, _ in answers if status != 200]
