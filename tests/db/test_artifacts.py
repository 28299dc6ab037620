"""The list of what a build left, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from leeroy import config, context
from leeroy.clock import Clock
from leeroy.db import artifacts, builds, steps
from leeroy.db.artifacts import Artifact
from leeroy.db.engine import Database
from leeroy.model import Build
from leeroy.runner.runner import Result, Run
from leeroy.scheduler import ending, starting
from leeroy.scheduler.acts import End, Launch
from leeroy.terms import Move, Stage
from tests.db import story
from tests.db.story import START

TWO_STEPS = """
untested = true
[[build]]
name = "one"
run = "true"
artifacts = ["*"]
[[build]]
name = "two"
run = "true"
[[deploy]]
environment = "production"
run = "true"
"""

A, B, C = (Artifact(path, 3, path[0] * 64) for path in ("Z/one", "a/two", "é"))


def test_what_steps_left_is_listed_and_goes_with_the_build(database: Database) -> None:
    """A later step's file replaces an earlier one's; the order is the same everywhere."""

    def work(conn: Connection) -> None:
        build, other = story.push(conn), story.push(conn)
        artifacts.keep(conn, other.id, [A])
        artifacts.keep(conn, build.id, [B, A])
        newer = Artifact(B.path, 2**40, "f" * 64)
        artifacts.keep(conn, build.id, [newer, C])
        assert (A, newer, C) == artifacts.of(conn, build.id)
        assert newer == artifacts.get(conn, build.id, B.path)
        for path in ("b", "", "a/two\0"):
            assert artifacts.get(conn, build.id, path) is None
        artifacts.keep(conn, build.id, [])
        builds.delete(conn, build.id)
        assert () == artifacts.of(conn, build.id)
        assert (A,) == artifacts.of(conn, other.id)
        artifacts.forget(conn, other.id)
        assert () == artifacts.of(conn, other.id)

    database.transact(work)


def test_the_longest_path_is_stored(database: Database) -> None:
    """PostgreSQL's index takes what the copy lets through, also if it cannot be compressed."""
    letters = "".join(chr(0x4E00 + n * n * 31 % 20_000) for n in range(333))
    assert 999 == len(letters.encode())
    long = Artifact(letters, 0, "0" * 64)

    def work(conn: Connection) -> None:
        build = story.push(conn)
        artifacts.keep(conn, build.id, [long])
        assert (long,) == artifacts.of(conn, build.id)

    database.transact(work)


def test_there_is_no_list_without_its_build(database: Database) -> None:
    """The database itself refuses it."""
    with pytest.raises(IntegrityError):
        database.transact(lambda conn: artifacts.keep(conn, 4711, [A]))


def test_a_rollback_has_those_of_the_build_it_puts_back(database: Database) -> None:
    """Also one that puts back a rollback."""

    def work(conn: Connection) -> None:
        first = story.push(conn)
        story.make(conn, first, Move.cancel)
        back = story.push(conn, deploy_to="staging", source=first.id, trigger="deploy")
        again = story.push(conn, deploy_to="staging", source=back.id, trigger="deploy")
        retried = story.push(conn, source=first.id, trigger="retry")
        owners = [artifacts.owner(conn, build) for build in (first, back, again, retried)]
        assert [first.id, first.id, first.id, retried.id] == owners

    database.transact(work)


@pytest.fixture
def here(tmp_path: Path) -> context.Context:
    """A host whose clock stands still."""
    loaded = config.load(None, {"LEEROY_DATA": str(tmp_path)})
    return context.make(loaded, Clock(lambda: START, lambda: 0.0), {}, new=True)


def ended(launch: Launch, code: int, *kept: Artifact) -> End:
    """The end of what was launched."""
    assert launch.step.run_id is not None
    result = Result(code, None, None, 0.0, 1.0, 0, 0, "0" * 64)
    return End(launch.step.run_id, Run.ended, result, kept=kept)


def test_the_list_is_written_with_the_end_of_the_step(
    database: Database, here: context.Context
) -> None:
    """In its transaction, once; a lost attempt's list is forgotten when the next one starts."""

    def start(conn: Connection) -> tuple[Build, Launch]:
        build = story.push(conn, pipeline_text=TWO_STEPS, repository=None)
        [launch] = starting.start(conn, here, build, 1)
        assert isinstance(launch, Launch)
        return build, launch

    build, first = database.transact(start)
    [second] = database.transact(lambda conn: ending.record(conn, here, ended(first, 0, A, B)))
    assert isinstance(second, Launch)
    assert [] == database.transact(lambda conn: ending.record(conn, here, ended(first, 0, C)))
    assert (A, B) == database.read(lambda conn: artifacts.of(conn, build.id))

    def lose(conn: Connection) -> list[Artifact]:
        ending.record(conn, here, End(str(second.step.run_id), Run.lost))
        queued = builds.get(conn, build.id)
        assert queued is not None
        assert 1 == queued.requeues
        starting.start(conn, here, queued, 1)
        return list(artifacts.of(conn, build.id))

    assert [] == database.transact(lose)


def test_a_failed_step_leaves_nothing(database: Database, here: context.Context) -> None:
    """Whatever was copied of it."""

    def work(conn: Connection) -> None:
        build = story.push(conn, pipeline_text=TWO_STEPS, repository=None)
        [launch] = starting.start(conn, here, build, 1)
        assert isinstance(launch, Launch)
        ending.record(conn, here, ended(launch, 1, A))
        assert () == artifacts.of(conn, build.id)

    database.transact(work)


@pytest.mark.parametrize(
    ("text", "kept", "manifest"),
    [
        (TWO_STEPS, (A, B), (A, B)),
        (TWO_STEPS, (), None),
        (story.SHOP, (), ()),
        ("no toml any more [", (), ()),
    ],
)
def test_a_deploy_comes_with_the_list(
    database: Database,
    text: str,
    kept: tuple[Artifact, ...],
    manifest: tuple[Artifact, ...] | None,
) -> None:
    """A build that must have left something, with no list, is one of before there were lists."""

    def work(conn: Connection) -> None:
        first = story.push(conn, pipeline_text=text)
        artifacts.keep(conn, first.id, kept)
        back = story.push(conn, deploy_to="staging", source=first.id, trigger="deploy")
        for stage in (Stage.deploy, Stage.verify):
            step = steps.get(conn, steps.add(conn, back.id, stage, "x", environment="staging"))
            assert step is not None
            launch = starting.launch(conn, back, step)
            assert first.id == launch.artifacts_of
            assert (manifest if stage is Stage.deploy else None) == launch.manifest

    database.transact(work)
