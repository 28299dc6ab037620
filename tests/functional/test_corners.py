"""Where others trip: tags, locks, vanished pipelines, hostile artifacts, a dead parent, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.functional.test_story import NOTIFY, link_of
from tests.parts import missing
from tests.servers import Leeroy, supervisors
from tests.sinks import json_sink
from tests.waiting import until


def test_tags_are_deployed_one_after_the_other(leeroy: Leeroy) -> None:
    """A tag takes no older tag's place: the newer one waits until the older one is over."""
    repo = leeroy.shop(
        test='test "$LEEROY_TAG" != v1 || while [ ! -e "{world}/go" ]; do sleep 0.05; done',
        deploy='echo "$LEEROY_TAG" >> "{world}/order"',
        more='tags = ["v*"]',
    )
    leeroy.start()
    ids = []
    for tag in ("v1", "v2"):
        commit = repo.commit(tag)
        repo.git("tag", tag)
        repo.git("push", "-q", "origin", tag)
        status, answer = leeroy.hook(repo, commit, ref=f"refs/tags/{tag}")
        assert 202 == status, answer
        ids.append(answer["builds"][0])
    shown = leeroy.until_state(ids[1], "deploy_pending")
    why = until(lambda: leeroy.build(ids[1])["waiting_for"], 5)
    assert f"the older tag build {ids[0]} goes first" == why
    assert ("v2", None) == (shown["tag"], shown["branch"])
    (leeroy.world / "go").touch()
    for build in ids:
        assert "done" == leeroy.until_over(build)
    assert ["v1", "v2"] == leeroy.marks("order")


def test_one_lock_over_two_pipelines(leeroy: Leeroy) -> None:
    """Environments with the same lock never deploy at the same time."""
    for name in ("shop", "bank"):
        leeroy.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\nlock = "db1"\n'
            'run = \'echo + >> "{world}/db1"; sleep 0.4; echo - >> "{world}/db1"\'\n',
            name,
        )
    leeroy.start()
    ids = [leeroy.ask("trigger", name=name)["id"] for name in ("shop", "bank", "shop", "bank")]
    for build in ids:
        assert leeroy.until_over(build) in ("done", "superseded")
    marks = leeroy.marks("db1")
    assert len(marks) >= 4
    assert ["+", "-"] * (len(marks) // 2) == marks


def test_a_pipeline_that_vanishes_leaves_its_builds_alone(leeroy: Leeroy) -> None:
    """What was accepted runs with the text it was accepted with; nothing new is accepted."""
    file = leeroy.pipeline(
        '[[test]]\nname = "unit"\nrun = \'while [ ! -e "{world}/go" ]; do sleep 0.05; done\'\n'
        '[[deploy]]\nenvironment = "e"\nrun = \'touch "{world}/deployed"\'\n'
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    leeroy.until_state(build, "building")
    file.unlink()
    until(lambda: leeroy.ask("pipelines") == [], 3)
    assert 4 == leeroy.cli("trigger", "shop", check=False).returncode
    (leeroy.world / "go").touch()
    assert "done" == leeroy.until_over(build)
    assert (leeroy.world / "deployed").exists()
    assert 4 == leeroy.cli("retry", str(build), check=False).returncode


@pytest.mark.parametrize(
    "script",
    [
        "ln -s /etc/passwd dist/passwd",
        "ln -s /etc dist/etc",
        "rmdir dist; ln -s /etc dist",
        "mkfifo dist/pipe",
    ],
)
def test_hostile_artifacts_are_refused(leeroy: Leeroy, script: str) -> None:
    """A link, a pipe: the build fails with a sentence, and nothing foreign is taken along."""
    leeroy.pipeline(
        f"""
untested = true
[[build]]
name = "wheel"
run = "mkdir dist; {script}"
artifacts = ["dist/*"]
"""
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "failed" == leeroy.until_over(build)
    assert "artifacts: " in leeroy.ask("events", id=build)[-1]["reason"]
    kept = leeroy.folder / "var" / "artifacts" / str(build)
    assert [] == [p for p in kept.rglob("*") if p.is_file()]


def test_a_link_of_an_earlier_environment_is_too_late(leeroy: Leeroy) -> None:
    """The link for staging does not stop production."""
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        leeroy.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "staging"\nrun = "true"\ngrace = "2s"\n'
            '[[deploy]]\nenvironment = "production"\nrun = "true"\ngrace = "60s"\n' + NOTIFY
        )
        leeroy.start()
        build = leeroy.ask("trigger", name="shop")["id"]
        link = link_of(sink, build)
        until(lambda: leeroy.build(build)["environment"] == "production", 10)
        leeroy.until_state(build, "deploy_pending")
        status, _, text = leeroy.http("POST", link)
        assert 409 == status
        assert b"the deploy to staging started" in text
        assert f"its deploy to production can still be stopped: `leeroy cancel {build}`" in (
            text.decode()
        )
        assert "deploy_pending" == leeroy.state(build)


def test_the_runners_parent_dies(leeroy: Leeroy) -> None:
    """Another one is started; what ran goes on, what comes runs."""
    leeroy.pipeline(
        '[[test]]\nname = "unit"\nrun = \'touch "{world}/begun"; '
        'while [ ! -e "{world}/go" ]; do sleep 0.05; done\'\n'
    )
    leeroy.start()
    first = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: (leeroy.world / "begun").exists(), 10)
    assert leeroy.process is not None
    children = Path(f"/proc/{leeroy.process.pid}/task/{leeroy.process.pid}/children")
    mine = {int(pid) for pid in children.read_text().split()}
    [parent] = [pid for pid in supervisors(leeroy.folder) if pid in mine]
    os.kill(parent, signal.SIGKILL)
    second = leeroy.ask("trigger", name="shop")["id"]
    (leeroy.world / "go").touch()
    for build in (first, second):
        assert "done" == leeroy.until_over(build)
        assert [1] == [step["attempt"] for step in leeroy.build(build)["steps"]]


def test_a_full_disk_is_said_and_survived(tmp_path: Path, leeroy: Leeroy) -> None:
    """Hooks answer 503 and never 2xx without a commit; with room again, everything goes on."""
    if os.geteuid() != 0:
        missing("root, for a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        missing("the right to mount")
    try:
        leeroy.settings["data"] = str(disk / "var")
        repo = leeroy.shop()
        leeroy.start()
        first = leeroy.push(repo)
        assert "done" == leeroy.until_over(first)
        with (disk / "ballast").open("wb") as ballast:
            try:
                while True:
                    ballast.write(b"x" * 65536)
                    ballast.flush()
            except OSError:
                pass
        answers = [leeroy.hook(repo, delivery=f"full-{n}")[0] for n in range(40)]
        assert set(answers) <= {202, 503}
        assert 503 in answers, "there is no room for forty more"
        assert leeroy.process is not None
        stored = answers.count(202)
        (disk / "ballast").unlink()
        assert leeroy.process.poll() is None or leeroy.process.wait() == 1
        if leeroy.process.poll() is not None:
            leeroy._gone()
            leeroy.start()
        _, answer = until(
            lambda: (r := leeroy.hook(repo, delivery="after"))[0] in (200, 202) and r, 20
        )
        assert "done" == leeroy.until_over(answer["builds"][0])
        assert 2 + stored == len(leeroy.ask("list", limit=100))
    finally:
        if leeroy.process is not None:
            leeroy.kill()
        subprocess.run(["umount", "-l", disk], check=False)


def test_names_that_are_no_text(leeroy: Leeroy) -> None:
    """A file name of raw bytes in the artifacts: the build ends, and says so."""
    leeroy.pipeline(
        """
untested = true
[[build]]
name = "wheel"
run = '''
mkdir dist
ln -s /etc/passwd "dist/$(printf 'b\\377d')"
'''
artifacts = ["dist/*"]
"""
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "failed" == leeroy.until_over(build, timeout=10)
    assert "is a link" in leeroy.ask("events", id=build)[-1]["reason"]
