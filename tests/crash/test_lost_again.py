"""A deploy that is lost a second time, and one whose run directory goes: nothing twice, nothing beside it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from leeroy.runner import wire
from leeroy.scheduler.ending import MOST_REPEATS
from tests.crash.test_server_dies import go, long
from tests.servers import Leeroy, scripts
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"

STUBBORN = """
mine="{world}/$LEEROY_STAGE"
if [ -s "{world}/pids" ] && kill -0 "$(cat "{world}/pids")" 2>/dev/null; then
    echo "$LEEROY_STAGE" >> "{world}/overlap"
fi
echo $$ > "{world}/pids"
echo "$LEEROY_BUILD $LEEROY_ENVIRONMENT $LEEROY_ATTEMPT" >> "$mine.begun"
trap '' TERM HUP
while [ ! -e "{world}/go" ]; do sleep 0.02; done
"""
"""A deploy that nothing but KILL ends, and that says when another is still alive at its start."""

ASKED = """
if kill -0 "$(cat "{world}/pids")" 2>/dev/null; then echo status >> "{world}/overlap"; fi
"""
"""A `status` script: it landed, and it says when that was asked too soon."""


def deploy(rule: str, environment: str = "production", status: bool = False) -> str:
    asked = f"status = '''{ASKED}exit 0'''\n" if status else ""
    return (
        f"[[deploy]]\nenvironment = \"{environment}\"\nrun = '''{STUBBORN}'''\n"
        f'grace = "0s"\ninterrupted = "{rule}"\n{asked}'
    )


def begun(leeroy: Leeroy) -> int:
    return len(leeroy.marks("deploy.begun"))


def lose(leeroy: Leeroy, number: int) -> None:
    """The supervisor of the *number*-th deploy script dies, and the script lives on."""
    until(lambda: begun(leeroy) == number, 15)
    runs = (leeroy.folder / "var" / "runs").glob("[0-9]*/lock")
    newest = max(runs, key=lambda lock: int(lock.parent.name.split("-")[1]))
    found = wire.parse_identity(newest.read_bytes())
    assert found is not None
    os.kill(found[0], signal.SIGKILL)


@pytest.mark.parametrize("kind", ["either"] if TORTURE else ["leeroy"])
def test_a_second_loss_is_cleared_like_the_first(request: pytest.FixtureRequest, kind: str) -> None:
    """With "again" every attempt runs alone, whichever it is; the fifth one is a person's to ask for."""
    leeroy: Leeroy = request.getfixturevalue(kind)
    leeroy.pipeline("untested = true\n" + deploy("again"))
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    for number in range(1, 2 + MOST_REPEATS):
        lose(leeroy, number)
    leeroy.until_state(build, "interrupted")
    until(lambda: not scripts(leeroy.folder), 5, "nothing of it lives on")
    assert not leeroy.marks("overlap")
    assert 1 + MOST_REPEATS == begun(leeroy)
    last = leeroy.ask("events", id=build)[-1]
    assert "lose" == last["move"]
    assert f"lost more than {MOST_REPEATS} times" in last["reason"]
    (leeroy.world / "go").touch()
    leeroy.ask("resolve", id=build, outcome="again", environment="production", reason="repaired")
    assert "done" == leeroy.until_over(build)


@pytest.mark.parametrize("outcome", ["failed", "again"] if TORTURE else ["failed"])
def test_a_person_is_asked_a_second_time(leeroy: Leeroy, outcome: str) -> None:
    """With "hold" nothing lives on either, so that whatever is answered runs alone."""
    leeroy.pipeline("untested = true\n" + deploy("hold"))
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    say = partial(leeroy.ask, "resolve", environment="production", reason="looked")
    lose(leeroy, 1)
    leeroy.until_state(build, "interrupted")
    say(id=build, outcome="again")
    lose(leeroy, 2)
    leeroy.until_state(build, "interrupted")
    say(id=build, outcome=outcome)
    if outcome == "failed":
        leeroy.ask("trigger", name="shop")
    until(lambda: begun(leeroy) == 3, 15)
    assert not leeroy.marks("overlap")
    (leeroy.world / "go").touch()


def test_a_loss_at_the_next_environment(leeroy: Leeroy) -> None:
    """`status` is asked there, too, only when nothing of the deploy is alive."""
    leeroy.pipeline(
        "untested = true\n"
        + deploy("hold", "staging", status=True)
        + deploy("hold", "production", status=True)
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    lose(leeroy, 1)
    lose(leeroy, 2)
    assert "done" == leeroy.until_over(build)
    assert not leeroy.marks("overlap")
    assert not scripts(leeroy.folder)


def _removed(run: Path) -> None:
    shutil.rmtree(run)


def _renamed(run: Path) -> None:
    run.rename(run.parent.parent / "away")


FATES = [(_removed, True), (_renamed, False), (_removed, False), (_renamed, True)]


@pytest.mark.parametrize(("befall", "ended"), FATES if TORTURE else FATES[:1])
def test_a_run_that_goes_while_no_server_runs_is_not_repeated(
    either: Leeroy, befall: Callable[[Path], None], ended: bool
) -> None:
    """Somebody makes room: what it did, nobody knows; it was launched, so it is never "not begun"."""
    either.pipeline(
        f"untested = true\n[[deploy]]\nenvironment = \"production\"\nrun = '''{long('deploy')}'''\n"
        'grace = "0s"\n'
    )
    either.start()
    build = either.ask("trigger", name="shop")["id"]
    until(lambda: either.marks("deploy.begun"), 10)
    either.kill()
    [run] = (either.folder / "var" / "runs").glob(f"{build}-*")
    if ended:
        go(either, "deploy")
        until(lambda: (run / wire.RESULT).exists(), 10)
    befall(run)
    either.start()
    either.until_state(build, "interrupted")
    assert "withdraw" not in either.moves(build)
    assert ["begun"] == either.marks("deploy.begun")
    go(either, "deploy")
    either.ask("resolve", id=build, outcome="failed", environment="production", reason="looked")
    until(lambda: not scripts(either.folder), 10)


def test_a_directory_that_comes_back_tells_the_end(leeroy: Leeroy) -> None:
    """Under the same server, and before the rule "again": what is known is not repeated."""
    leeroy.pipeline(
        f"untested = true\n[[deploy]]\nenvironment = \"production\"\nrun = '''{long('deploy')}'''\n"
        'grace = "0s"\ninterrupted = "again"\n'
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: leeroy.marks("deploy.begun"), 10)
    leeroy.kill()
    [run] = (leeroy.folder / "var" / "runs").glob(f"{build}-*")
    go(leeroy, "deploy")
    until(lambda: (run / wire.RESULT).exists(), 10)
    _renamed(run)
    leeroy.start()
    leeroy.until_state(build, "interrupted")
    (run.parent.parent / "away").rename(run)
    assert "done" == leeroy.until_over(build)
    assert ["begun"] == leeroy.marks("deploy.begun")
    assert "its end was found" in leeroy.ask("events", id=build)[-1]["reason"]
