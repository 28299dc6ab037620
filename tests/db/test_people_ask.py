"""What people ask at the command line and what they are answered, on a database of theirs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from leeroy import config
from leeroy.cli import app
from leeroy.clock import Clock
from leeroy.context import Context, make
from leeroy.db import builds, deploys, schema
from leeroy.db.engine import Database
from leeroy.db.tables import audit
from leeroy.model import Build
from leeroy.terms import Move, State
from tests.db import story
from tests.db.story import START


class Desk:
    """An installation that nobody serves; `run` is the program on it, in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._file = folder / "leeroy.toml"
        self._file.write_text('[executors.inside]\nwrap = ["env"]\n')
        (folder / "pipelines").mkdir()
        (folder / "var").mkdir()
        self.pipeline(story.SHOP)
        self._capsys = capsys
        settings = config.load(str(self._file))
        schema.ensure(settings.database, migrate=True)
        clock = Clock(lambda: START, lambda: 0.0)
        self.context: Context = make(settings, clock, {}, new=True)
        self.database = Database(settings.database, journal=self.context.journal)

    def pipeline(self, text: str) -> None:
        """The pipeline as it is from now on."""
        (self._file.parent / "pipelines" / "shop.toml").write_text(text)

    def run(self, *words: str, code: int = 0) -> str:
        """What the program says, both streams."""
        self._capsys.readouterr()
        ended = app.run([*words, "--config", str(self._file)])
        said = self._capsys.readouterr()
        assert code == ended, said.out + said.err
        return said.out + said.err

    def named(self, text: str, outcome: str = "done", code: int = 0) -> str:
        """Run the command that a sentence names, as it stands."""
        found = re.search(r"`leeroy ([^`]+)`", text)
        assert found, f"no command in: {text}"
        words = found[1].replace("done|failed|again", outcome).replace("…", "seen")
        return self.run(*shlex.split(words), code=code)

    def make(self, work: Callable[..., Build], *arguments: object, **options: object) -> Build:
        return self.database.transact(lambda conn: work(conn, *arguments, **options))

    def build(self, number: int) -> Build:
        found = self.database.read(lambda conn: builds.get(conn, number))
        assert found is not None
        return found


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    made = Desk(tmp_path, capsys)
    yield made
    made.database.close()


def test_what_lifts_a_hold_is_named_as_it_is_taken(desk: Desk) -> None:
    """The build goes to two environments: the command in the sentence says which one is meant."""
    build = desk.make(lambda conn: story.pending(conn, story.push(conn)))
    held = desk.run("hold", str(build.id))
    why = desk.run("why", str(build.id))
    assert f"`leeroy approve {build.id} --environment staging`" in held
    assert f"`leeroy approve {build.id} --environment staging`" in why
    unsaid = desk.run("approve", str(build.id), code=2)
    assert f"`leeroy approve {build.id} --environment staging`" in unsaid
    assert "held" in why
    desk.named(held)
    assert "held" not in desk.run("why", str(build.id))


def test_an_approval_is_named_as_it_is_taken(desk: Desk) -> None:
    """`approve = true` asks with the environment that waits; another one is a miss that says it."""
    text = story.SHOP.replace('"staging"', '"staging"\napprove = true')
    build = desk.make(lambda conn: story.pending(conn, story.push(conn, pipeline_text=text)))
    missed = desk.run("approve", str(build.id), "--environment", "production", code=3)
    assert "at staging now, not at production" in missed
    why = desk.run("why", str(build.id))
    assert "a person must say go" in why
    desk.named(why)
    assert "a person must say go" not in desk.run("why", str(build.id))


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("done", State.deploy_pending),
        ("failed", State.deploy_failed),
        ("again", State.deploy_pending),
    ],
)
def test_an_interrupted_deploy_is_resolved_as_it_is_named(
    desk: Desk, outcome: str, state: State
) -> None:
    """By `why` and by the refusal of `cancel` alike, with every outcome."""
    build = desk.make(lambda conn: story.make(conn, story.deploying(conn, story.push(conn)),
                                              Move.lose))  # fmt: skip
    refused = desk.run("cancel", str(build.id), code=3)
    assert "done|failed|again --environment staging" in refused
    unsaid = desk.run("resolve", str(build.id), outcome, "--reason", "seen", code=2)
    assert f"`leeroy resolve {build.id} {outcome} --environment staging --reason …`" in unsaid
    desk.named(desk.run("why", str(build.id)) if outcome == "again" else refused, outcome)
    assert state is desk.build(build.id).state


def freezes(desk: Desk) -> list[str]:
    """The names of what is frozen."""

    def work(conn: Connection) -> list[str]:
        return [f"{e.pipeline}/{e.name}" for e in deploys.everywhere(conn) if e.frozen_at]

    return desk.database.read(work)


def thaws(desk: Desk) -> list[str]:
    """What the audit says was thawed."""

    def work(conn: Connection) -> list[str]:
        found = select(audit.c.subject).where(audit.c.act == "thaw").order_by(audit.c.id)
        return list(conn.execute(found).scalars())

    return desk.database.read(work)


def test_thaw_all_ends_every_freeze(desk: Desk) -> None:
    """The one of everything and each environment's own; a second time there is nothing to end."""
    desk.make(lambda conn: story.deploying(conn, story.push(conn)))
    desk.run("freeze", "--all")
    desk.run("freeze", "shop/staging", "--reason", "holidays")
    assert ["/*", "shop/staging"] == freezes(desk)
    assert "everything, shop/staging: thawed" in desk.run("thaw", "--all")
    assert [] == freezes(desk)
    assert ["/*", "shop/staging"] == thaws(desk)
    assert "nothing is frozen" in desk.run("thaw", "--all", code=3)
    desk.run("freeze", "shop/staging")
    desk.run("thaw", "--all")
    assert [] == freezes(desk)


def test_what_is_still_frozen_after_a_thaw_is_said(desk: Desk) -> None:
    """Thawing one while everything is frozen; and one that is not frozen, or no more."""
    desk.make(lambda conn: story.deploying(conn, story.push(conn)))
    assert "shop/staging: not frozen" in desk.run("thaw", "shop/staging", code=3)
    desk.run("freeze", "--all")
    refused = desk.run("thaw", "shop/staging", code=3)
    assert "everything is still frozen" in refused and "leeroy thaw --all" in refused
    desk.run("freeze", "shop/staging")
    assert "still frozen" in desk.run("thaw", "shop/staging")
    assert ["/*"] == freezes(desk)


def test_a_freeze_that_is_over_is_no_freeze(desk: Desk) -> None:
    """Its time was up: there is nothing to thaw."""
    desk.make(lambda conn: story.deploying(conn, story.push(conn)))
    desk.database.transact(
        lambda conn: deploys.change(
            conn, "shop", "staging", frozen_at=START, frozen_by="ann", frozen_until=START
        )
    )
    assert "not frozen" in desk.run("thaw", "shop/staging", code=3)


@pytest.mark.parametrize(
    ("forks", "approved", "expected"),
    [
        ("approve", None, None),
        ("approve", "ann", "ann"),
        ("approve", 'forks = "test"', None),
        ("test", None, 'forks = "test"'),
    ],
)
def test_a_forks_retry_is_approved_as_its_source_was(
    desk: Desk, forks: str, approved: str | None, expected: str | None
) -> None:
    """Running it again is no approval; what a person approved of that commit stays approved."""
    desk.pipeline(f'executor = "inside"\nforks = "{forks}"\n' + story.SHOP)
    pull = {"fork": True, "pull_request": 7, "branch": None, "trigger": "pull_request"}

    def cancelled(conn: Connection) -> Build:
        return story.make(conn, story.push(conn, approved_by=approved, **pull), Move.cancel)

    old = desk.make(cancelled)
    desk.run("retry", str(old.id))
    again = desk.build(old.id + 1)
    assert (old.id, expected) == (again.source, again.approved_by)
    waits = desk.run("why", str(again.id))
    assert ("a person must let a fork's code run" in waits) == (expected is None)
    if expected is None:
        desk.named(waits)
        assert desk.build(again.id).approved_by is not None


def test_a_build_that_is_stopped_is_no_more_asked_to_stop(desk: Desk) -> None:
    """While its processes end, `show` says so; then it is cancelled, and that is all."""
    build = desk.make(lambda c: story.make(c, story.push(c), Move.start, changes={"slot": 1}))
    desk.run("cancel", str(build.id))
    assert "asked to stop it" in desk.run("show", str(build.id))
    asked = desk.build(build.id)
    desk.make(lambda conn: story.make(conn, asked, Move.cancel))
    shown = desk.run("show", str(build.id))
    assert "cancelled" in shown and "asked to stop it" not in shown
