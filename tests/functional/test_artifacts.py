"""A deploy gets the very bytes that were tested, or does not begin; and people can fetch them."""

from __future__ import annotations

import hashlib
import http.client
import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from tests.servers import Leeroy
from tests.waiting import until

NAME = 'dist/shop & "co" ä%41#?.whl'
WHEEL = """
[[build]]
name = "wheel"
run = '''mkdir -p dist; printf "wheel of $LEEROY_BUILD" > 'dist/shop & "co" ä%41#?.whl'; echo > dist/n'''
artifacts = ["dist/*.whl"]
[[build]]
name = "notes"
run = "echo notes > notes"
artifacts = ["notes", "dist/n"]
"""


def test_what_was_tested_is_listed_fetched_and_put_back(either: Leeroy) -> None:
    """And once a file has changed or gone, it is neither handed out nor deployed."""
    leeroy = either
    repo = leeroy.shop(deploy='cat dist/*.whl notes >> "{world}/got"', tail=WHEEL)
    leeroy.start()
    build = leeroy.push(repo)
    assert "done" == leeroy.until_over(build)
    assert [f"wheel of {build}notes"] == leeroy.marks("got")
    data = f"wheel of {build}".encode()
    listed = leeroy.ask("artifacts", id=build)
    assert ["dist/n", NAME, "notes"] == [a["path"] for a in listed]
    assert {
        "path": NAME,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    } == listed[1]

    made = leeroy.cli("token", "add", "looks", "--role", "viewer", "--json")
    viewer = json.loads(made.stdout)["token"]
    until(lambda: leeroy.http("GET", "/api/v1/builds", token=viewer)[0] == 200, 5)
    place, where = f"/builds/{build}/artifacts/{quote(NAME)}", f"/builds/{build}/artifacts/"
    status, headers, text = leeroy.http("GET", place, token=viewer)
    assert (200, data) == (status, text)
    assert "application/octet-stream" == headers["content-type"]
    assert (
        f"attachment; filename*=UTF-8''{quote(NAME[5:], safe='')}"
        == (headers["content-disposition"])
    )
    assert "nosniff" == headers["x-content-type-options"]
    status, headers, text = leeroy.http("HEAD", place, token=viewer)
    assert (200, str(len(data)), b"") == (status, headers["content-length"], text)
    assert 200 == leeroy.http("GET", f"/api/v1/builds/{build}/artifacts", token=viewer)[0]
    for path in (place, where + "notes"):
        assert 401 == leeroy.http("GET", path)[0], "nobody without a token"
    assert 401 == leeroy.http("GET", f"/api/v1/builds/{build}/artifacts")[0]
    page = leeroy.http("GET", f"/builds/{build}", token=viewer)[2].decode()
    assert f'href="{where}{quote(NAME)}"' in page
    assert f"<small>{len(data)} B</small>" in page
    for path in (
        "..%2f..%2fleeroy.db",
        "%2e%2e/%2e%2e/host",
        "dist",
        "",
        "notes%00",
        "dist/x",
        "/notes",
    ):
        assert 404 == leeroy.http("GET", where + path, token=viewer)[0], path

    kept = leeroy.folder / "var" / "artifacts" / str(build)
    (kept / "notes").write_text("NOTES\n")
    with pytest.raises(http.client.IncompleteRead):
        leeroy.http("GET", where + "notes", token=viewer)
    back = leeroy.ask("deploy", id=build, to="production", now=True)["id"]
    assert "deploy_failed" == leeroy.until_over(back)
    assert "notes in " in (reason := leeroy.ask("events", id=back)[-1]["reason"])
    assert "has changed since the build left it" in reason
    (kept / "notes").write_text("notes and more\n")
    assert 409 == leeroy.http("GET", where + "notes", token=viewer)[0]
    kept.rename(kept.with_name("elsewhere"))
    assert 404 == leeroy.http("GET", where + "notes", token=viewer)[0]
    again = leeroy.ask("deploy", id=build, to="production", now=True)["id"]
    assert "deploy_failed" == leeroy.until_over(again)
    assert "is gone from" in leeroy.ask("events", id=again)[-1]["reason"]
    assert listed == leeroy.ask("artifacts", id=again), "those of the build it puts back"
    assert [f"wheel of {build}notes"] == leeroy.marks("got"), "the target was not touched again"


def test_a_file_that_changes_between_the_tests_and_the_deploy(leeroy: Leeroy) -> None:
    """Fails the deploy before its script starts."""
    leeroy.pipeline(
        "untested = true\n"
        + WHEEL
        + '[[deploy]]\nenvironment = "production"\napprove = true\nrun = \'touch "{world}/got"\'\n'
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    leeroy.until_state(build, "deploy_pending")
    (leeroy.folder / "var" / "artifacts" / str(build) / NAME).write_text(f"wheel of {build + 1}")
    leeroy.ask("approve", id=build, environment="production")
    assert "deploy_failed" == leeroy.until_over(build)
    step = leeroy.build(build)["steps"][-1]
    assert ("deploy", "failed", None) == (step["stage"], step["state"], step["exit_code"])
    assert "cannot start: artifacts: dist/shop" in step["reason"]
    assert not (leeroy.world / "got").exists()


def test_a_build_that_leaves_too_much(leeroy: Leeroy) -> None:
    """Fails with what is too much and what to do; what an earlier step left stays whole."""
    leeroy.settings["max_artifacts"] = "1kB"
    leeroy.pipeline(
        "untested = true\n"
        + WHEEL
        + '[[build]]\nname = "big"\nrun = "head -c 1000 /dev/zero > big; echo > a"\n'
        'artifacts = ["a", "big"]\n'
        + '[[deploy]]\nenvironment = "production"\ngrace = "0s"\nrun = \'touch "{world}/got"\'\n'
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    assert "failed" == leeroy.until_over(build)
    reason = leeroy.ask("events", id=build)[-1]["reason"]
    assert reason.startswith("build big: artifacts: the build would keep 1.0 kB (10")
    assert "max_artifacts is 1.0 kB; name fewer files, or raise it in leeroy.toml" in reason
    kept = leeroy.folder / "var" / "artifacts"
    left = {str(p.relative_to(kept)) for p in kept.rglob("*") if p.is_file()}
    assert {f"{build}/{a['path']}" for a in leeroy.ask("artifacts", id=build)} == left
    assert 3 == len(left)
    assert not (leeroy.world / "got").exists()


SPOILED = {
    "file": ("mkdir dist; ln -s {world}/private dist/a", "dist/*", "dist/a is a link"),
    "on-the-way": ("ln -s {world} dist", "dist/private", "dist is a link"),
    "inside": ("mkdir dist; echo > dist/a; ln -s {world} dist/b", "dist", "dist/b is a link"),
    "pipe": ("mkdir dist; mkfifo dist/a", "dist/*", "dist/a is no plain file"),
}


def test_links_lead_nowhere(leeroy: Leeroy) -> None:
    """A file of this host that a build's link leads to is not kept, shown or deployed."""
    (leeroy.world / "private").write_text("what only the server may read")
    for name, (script, pattern, _) in SPOILED.items():
        leeroy.pipeline(
            f"untested = true\n[[build]]\nname = 'spoil'\nrun = '{script}'\n"
            f"artifacts = ['{pattern}']\n"
            "[[deploy]]\nenvironment = 'e'\ngrace = '0s'\nrun = 'touch {world}/got'\n",
            name,
        )
    leeroy.start()
    for name, (_, _, sentence) in SPOILED.items():
        build = leeroy.ask("trigger", name=name)["id"]
        assert "failed" == leeroy.until_over(build)
        assert f"artifacts: {sentence}" in leeroy.ask("events", id=build)[-1]["reason"]
        assert [] == leeroy.ask("artifacts", id=build)
    kept = leeroy.folder / "var" / "artifacts"
    assert [] == [path for path in kept.rglob("*") if not path.is_dir() or path.is_symlink()]
    assert not (leeroy.world / "got").exists()


def test_a_link_in_the_repository_does_not_lead_a_deploy_out(leeroy: Leeroy) -> None:
    """The checkout has a link where artifacts go: the deploy fails, and nothing is written there."""
    outside = leeroy.folder / "outside"
    outside.mkdir()
    repo = leeroy.shop(
        deploy='touch "{world}/got"',
        tail='[[build]]\nname = "wheel"\nrun = "rm dist; mkdir dist; echo wheel > dist/wheel"\n'
        'artifacts = ["dist/*"]\n',
    )
    (repo.work / "dist").symlink_to(outside)
    repo.commit("Lead out")
    leeroy.start()
    build = leeroy.push(repo)
    assert "deploy_failed" == leeroy.until_over(build)
    assert "dist of the checkout is a link" in leeroy.ask("events", id=build)[-1]["reason"]
    assert [] == [*outside.iterdir()]
    assert not (leeroy.world / "got").exists()


def test_artifacts_go_with_their_build(leeroy: Leeroy) -> None:
    """keep: an old build's files go when it goes; what is deployed keeps its own, to be put back."""
    leeroy.pipeline("untested = true\n" + WHEEL, "built")
    leeroy.pipeline(
        "untested = true\n" + WHEEL + '[[deploy]]\nenvironment = "e"\ngrace = "0s"\nrun = "true"\n',
        "deployed",
    )
    leeroy.start()
    built = leeroy.ask("trigger", name="built")["id"]
    deployed = leeroy.ask("trigger", name="deployed")["id"]
    for build in (built, deployed):
        assert "done" == leeroy.until_over(build)
    kept = leeroy.folder / "var" / "artifacts"
    assert {str(built), str(deployed)} == {path.name for path in kept.iterdir()}
    leeroy.settings["keep"] = "1s"
    ended = datetime.fromisoformat(leeroy.build(deployed)["finished_at"])
    leeroy.stop()
    until(lambda: (datetime.now(UTC) - ended).total_seconds() > 1.1)
    leeroy.start()
    until(lambda: {str(deployed)} == {path.name for path in kept.iterdir()}, 20, "they are gone")
    assert 404 == leeroy.http("GET", f"/builds/{built}/artifacts/notes", token=leeroy.token)[0]
    back = leeroy.ask("deploy", id=deployed, to="e", now=True)["id"]
    assert "done" == leeroy.until_over(back)


def test_a_pattern_cannot_climb_out(leeroy: Leeroy) -> None:
    """It is a mistake in the file, and starts nothing."""
    leeroy.pipeline(
        'untested = true\n[[build]]\nname = "b"\nrun = "true"\nartifacts = ["../../host"]\n'
    )
    leeroy.start()
    answer = leeroy.cli("check", check=False)
    assert 1 == answer.returncode
    assert "'../../host'" in answer.stdout + answer.stderr
    assert 0 != leeroy.cli("trigger", "shop", check=False).returncode
