"""What is thrown away when it is old, and what is not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection

from leeroy import config, context
from leeroy.clock import Clock
from leeroy.db import artifacts as manifests
from leeroy.db import builds
from leeroy.db.engine import Database
from leeroy.runner.runner import Runner
from leeroy.scheduler import artifacts, keeping
from leeroy.terms import Move
from tests.db import story
from tests.db.story import START


def test_a_build_stays_while_one_that_puts_it_back_is_there(database: Database) -> None:
    """The rollback has the artifacts of its source, waiting or long over; then both may go."""

    def work(conn: Connection) -> None:
        old, other = story.push(conn), story.push(conn)
        for build in (old, other):
            story.make(conn, build, Move.cancel)
        late = START + timedelta(days=100)
        back = story.push(conn, deploy_to="staging", source=old.id, trigger="deploy")
        assert [other.id] == builds.finished_before(conn, late, set(), 10), "it still waits"
        story.make(conn, back, Move.cancel)
        assert [other.id, back.id] == builds.finished_before(conn, late, set(), 10)
        builds.delete(conn, back.id)
        assert [old.id, other.id] == builds.finished_before(conn, late, set(), 10)

    database.transact(work)


def test_the_longest_names_are_artifacts(tmp_path: Path) -> None:
    """A name may have 255 bytes, whatever letters it is made of."""
    workspace, kept, again = tmp_path / "w", tmp_path / "k", tmp_path / "a"
    names = ("ä" * 127, "x" * 255, "A", "a", "e\u0301", "\u00e9")
    for folder in (workspace, again):
        folder.mkdir()
    for name in names:
        (workspace / name).write_text(name)
    manifest = artifacts.collect(workspace, ["*"], kept, (), 10**9)
    assert len(names) == len(manifest)
    artifacts.unpack(kept, manifest, again)
    assert {name: name for name in names} == {p.name: p.read_text() for p in again.iterdir()}


def test_artifacts_whose_build_is_gone_are_swept(database: Database, tmp_path: Path) -> None:
    """And what a crash left of a copy or a removal; not what a build has, nor what is no build's."""
    loaded = config.load(None, {"LEEROY_DATA": str(tmp_path), "LEEROY_KEEP": "1d"})
    late = START + timedelta(days=2)
    here = context.make(loaded, Clock(lambda: late, lambda: 0.0), {}, new=True)

    def work(conn: Connection) -> tuple[int, int, int]:
        old, over = story.push(conn), story.push(conn)
        story.make(conn, old, Move.cancel)
        story.make(conn, over, Move.cancel, now=late)
        busy = story.make(conn, story.push(conn), Move.start, changes={"slot": 1})
        manifests.keep(conn, old.id, [manifests.Artifact("x", 1, "0" * 64)])
        return old.id, over.id, busy.id

    old, over, busy = database.transact(work)
    stay = {str(over), f".new-{busy}", str(busy), "4711-x", "9" * 30}
    for name in {str(old), "4711", f".new-{over}", ".new-4711", f".gone-{busy}", *stay}:
        (tmp_path / "artifacts" / name / "dist").mkdir(parents=True)
        (tmp_path / "artifacts" / name / "dist" / "x").touch()
    runner = Runner(tmp_path, lambda run_id: None)
    runner.runs.open()
    keeping.round_(database, runner, here)
    assert stay == {path.name for path in (tmp_path / "artifacts").iterdir()}
    assert () == database.read(lambda conn: manifests.of(conn, old))
