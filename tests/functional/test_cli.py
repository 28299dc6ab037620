"""The program, both ways: on the database and against a server; exit codes; JSON; a new folder."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import need
from tests.servers import ROOT, SECRET, Leeroy
from tests.sinks import json_sink
from tests.waiting import until


@pytest.fixture(params=["server", "database"])
def run(request: pytest.FixtureRequest, leeroy: Leeroy):
    """`run("show", "1")`, asked over HTTP or of the database."""
    leeroy.pipeline(
        """
[[test]]
name = "unit"
run = "echo tested; test ! -e '{world}/red'"
[[deploy]]
environment = "production"
run = "echo deployed"
approve = true
"""
    )
    leeroy.start()

    def ask(*words: str, code: int = 0) -> str:
        env = {}
        if request.param == "server":
            env = {"LEEROY_SERVER": leeroy.url, "LEEROY_TOKEN": leeroy.token}
        done = leeroy.cli(*words, check=False, **env)
        assert code == done.returncode, done.stdout + done.stderr
        if code:
            assert done.stderr.startswith(("leeroy: ", "Usage", "build")), done.stderr
        return done.stdout

    ask.leeroy = leeroy  # type: ignore[attr-defined]
    return ask


def test_a_build_from_its_beginning_to_its_end(run) -> None:
    """trigger, show, list, why, events, log, approve: the same both ways."""
    build = json.loads(run("trigger", "shop", "--json"))
    number = str(build["id"])
    assert "queued" == build["state"]
    run.leeroy.until_state(build["id"], "deploy_pending")
    assert "a person must say go" in run("why", number)
    shown = json.loads(run("show", number, "--json"))
    assert list(shown) == [
        "id", "place", "pipeline", "repository", "branch", "tag", "commit", "pull_request",
        "message", "author", "trigger", "source", "state", "version", "host", "environment",
        "deploy_at", "waiting_for", "stop_requested", "created_at", "started_at", "finished_at",
        "steps",
    ]  # fmt: skip
    assert shown["created_at"].endswith("Z")
    assert [shown["id"]] == [
        b["id"] for b in json.loads(run("list", "--json", "--state", "deploy_pending"))
    ]
    run("approve", number)
    assert "done" == run.leeroy.until_over(build["id"])
    events = json.loads(run("events", number, "--json"))
    assert {"seq", "at", "move", "from", "to", "environment", "actor", "reason"} == set(events[0])
    assert (1, "accept", None, "queued") == tuple(
        events[0][k] for k in ("seq", "move", "from", "to")
    )
    assert "tested\n" == run("log", number, "--step", "unit")
    assert "deployed" in run("log", number)
    assert "done" in run("list")
    assert "shop/production" in run("environments")


def test_exit_codes(run) -> None:
    """0 done, 1 failed, 2 usage, 3 too late, 4 no such, each with a sentence."""
    run("show", "99", code=4)
    run("trigger", "nothing", code=4)
    run("cancel", "x", code=2)
    run("list", "--state", "nowhere", code=2)
    build = str(json.loads(run("trigger", "shop", "--json", "--no-deploy"))["id"])
    run.leeroy.until_over(int(build))
    run("cancel", build, code=3)
    run("hold", build, code=3)
    run("log", build, "--step", "no such", code=4)
    run("cancel", build, "--reason", os.fsdecode(b"\xff"), code=2)
    (run.leeroy.world / "red").touch()
    assert "failed" in run("retry", build, "--wait", code=1)


def test_cancel_twice_is_done(run) -> None:
    """A second cancel is as good as the first."""
    build = str(json.loads(run("trigger", "shop", "--json"))["id"])
    run.leeroy.until_state(int(build), "deploy_pending")
    assert "is cancelled" in run("cancel", build, "--reason", "not today")
    assert "cancelled already" in run("cancel", build)


def test_whoever_waits_was_told(leeroy: Leeroy) -> None:
    """`trigger --wait` confirms the announcement it shows, and the grace period starts."""
    leeroy.env["OPS"] = "json://127.0.0.1:9/"
    leeroy.pipeline(
        'untested = true\n[[deploy]]\nenvironment = "production"\nrun = "true"\ngrace = "2s"\n'
        '[[notify]]\nto = "env:OPS"\n'
    )
    leeroy.start()
    done = leeroy.cli("trigger", "shop", "--wait", "--json")
    assert "done" == json.loads(done.stdout)["state"]
    assert "stop it: leeroy cancel" in done.stderr
    assert re.search(r"production not before [0-9: -]{19}, in [123] s", done.stderr), done.stderr


def test_a_log_is_followed_to_its_end(leeroy: Leeroy) -> None:
    """--follow prints what is written as it is written, once, and ends with the build."""
    leeroy.pipeline(
        "[[test]]\nname = \"unit\"\nrun = '''for i in $(seq 20); do echo line $i; sleep 0.05; done'''\n"
    )
    leeroy.start()
    build = str(leeroy.ask("trigger", name="shop")["id"])
    text = leeroy.cli("log", build, "--follow").stdout
    assert [f"line {i}" for i in range(1, 21)] == text.splitlines()[1:]


def test_no_answer_is_exit_code_5(leeroy: Leeroy) -> None:
    """It names the server or database that was asked, and makes no database."""
    done = leeroy.cli("list", check=False, LEEROY_SERVER="http://127.0.0.1:9")
    assert (5, True) == (done.returncode, "http://127.0.0.1:9" in done.stderr)
    done = leeroy.cli("list", check=False)
    assert 5 == done.returncode
    assert "there is no database" in done.stderr
    assert not (leeroy.folder / "var" / "leeroy.db").exists()


def test_roles_and_tokens(leeroy: Leeroy) -> None:
    """Not allowed is exit code 6; a removed token is of no use."""
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "true"\n')
    leeroy.start()
    token = json.loads(leeroy.cli("token", "add", "ada", "--role", "viewer", "--json").stdout)
    assert ("ada", "viewer") == (token["name"], token["role"])
    asked = {"LEEROY_SERVER": leeroy.url, "LEEROY_TOKEN": token["token"]}
    until(lambda: leeroy.cli("list", check=False, **asked).returncode == 0, 5)
    assert 6 == leeroy.cli("trigger", "shop", check=False, **asked).returncode
    assert 6 == leeroy.cli("list", check=False, **asked | {"LEEROY_TOKEN": "wrong"}).returncode
    leeroy.cli("token", "remove", "ada")
    until(lambda: leeroy.cli("list", check=False, **asked).returncode == 6, 5)


def test_cancel_at_a_server_is_light(leeroy: Leeroy) -> None:
    """No SQLAlchemy, no web server, no templates: it answers at once (`make bench` says how fast)."""
    code = (
        "import sys\nfrom leeroy.cli.app import run\ncode = run(['cancel', '1'])\n"
        "heavy = [m for m in ('sqlalchemy', 'starlette', 'jinja2', 'apprise') if m in sys.modules]\n"
        "print(code, heavy)\n"
    )
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "sleep 60"\n')
    leeroy.start()
    leeroy.ask("trigger", name="shop")
    env = {"LEEROY_SERVER": leeroy.url, "LEEROY_TOKEN": leeroy.token}
    done = subprocess.run(
        [sys.executable, "-c", code], env=leeroy.environment() | env, capture_output=True, text=True,
        cwd=leeroy.folder, check=True,
    )  # fmt: skip
    assert "0 []" == done.stdout.splitlines()[-1]


def test_init_check_serve_in_an_empty_folder(tmp_path: Path) -> None:
    """Three commands, and there is a Leeroy; a second init changes nothing."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LEEROY_")}
    env |= {"PYTHONPATH": str(ROOT), "LEEROY_LISTEN": "127.0.0.1:0"}

    def leeroy(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "leeroy", *words], cwd=tmp_path, env=env, capture_output=True,
            text=True, check=False, timeout=30,
        )  # fmt: skip

    made = leeroy("init")
    assert 0 == made.returncode, made.stderr
    early = leeroy("doctor")
    assert (1, "LOOK", "`leeroy serve` makes it") == (
        early.returncode,
        early.stdout.splitlines()[-1][:4],
        early.stdout.strip()[-23:],
    )
    text = (tmp_path / "pipelines" / "hello.toml").read_text()
    lines = [x for x in text.splitlines() if x.strip() and not x.startswith("#")]
    assert len(lines) <= 10
    assert 0o600 == (tmp_path / "secrets.env").stat().st_mode & 0o777
    checked = leeroy("check")
    assert 0 == checked.returncode, checked.stdout
    again = leeroy("init")
    assert (2, "nothing was changed") == (again.returncode, again.stderr.strip()[-19:])
    server = subprocess.Popen(
        [sys.executable, "-m", "leeroy", "serve"], cwd=tmp_path, env=env, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("leeroy serves")
        done = leeroy("trigger", "hello", "--wait")
        assert 0 == done.returncode, done.stderr
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()


def test_init_with_a_repository(tmp_path: Path) -> None:
    """A pipeline named after it, with a hook secret that `hook show` tells."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LEEROY_")}
    env |= {"PYTHONPATH": str(ROOT)}

    def leeroy(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "leeroy", *words], cwd=tmp_path, env=env, capture_output=True,
            text=True, check=True, timeout=30,
        ).stdout  # fmt: skip

    leeroy("init", "--repo", "git@github.com:acme/shop.git")
    shown = json.loads(leeroy("hook", "show", "shop", "--json", "--secret"))
    assert "http://127.0.0.1:8082/hooks/github" == shown["url"]
    assert len(shown["secret_value"]) > 20
    assert "no mistakes found" in leeroy("check")


def test_a_plain_repository_delivers_by_its_own_hook(leeroy: Leeroy) -> None:
    """The script of docs/hooks.md, as it stands there; nobody is told of forges."""
    assert need("curl") and need("openssl")
    repo = leeroy.shop()
    leeroy.start()
    shown = leeroy.cli("hook", "show", "shop")
    assert "A plain repository" in shown.stdout and "GitLab" not in shown.stdout + shown.stderr
    assert "post-receive" not in leeroy.cli("doctor", check=False).stdout
    assert "docs/hooks.md has a script" in leeroy.cli("doctor", check=False).stdout
    part = (ROOT / "docs" / "hooks.md").read_text().partition("### A plain repository")[2]
    script = part.partition("```sh\n")[2].partition("```")[0]
    secret = leeroy.folder / "shop.secret"
    secret.write_text(SECRET + "\n")
    for name, value in (
        ("url", f"{leeroy.url}/hooks/github"), ("secret", secret), ("repository", repo.bare)
    ):  # fmt: skip
        script, count = re.subn(rf"^{name}=\S+", f"{name}={value}", script, flags=re.M)
        assert 1 == count
    hook = repo.bare / "hooks" / "post-receive"
    hook.write_text(script)
    hook.chmod(0o755)
    commit = repo.commit("sell hats")
    (build,) = leeroy.ask("list")
    assert (commit, "push", "main") == (build["commit"], build["trigger"], build["branch"])
    assert "done" == leeroy.until_over(build["id"])


def test_a_target_that_is_tested_is_named_once(leeroy: Leeroy) -> None:
    """Its address stands in the pipeline; a reference is said with what it leads to."""
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        leeroy.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\nrun = "true"\n'
            f'[[notify]]\nto = "{sink.url}"\n[[notify]]\nto = "env:OPS"\n'
        )
        leeroy.write_settings()
        told = json.loads(leeroy.cli("notify", "test", "--json").stdout)
    where = f"json://127.0.0.1:{sink.port}"
    names = [one["target"] for one in told]
    assert [where, f"env:OPS ({where})"] == names


def test_the_demo_tells_its_story_and_leaves_nothing(tmp_path: Path) -> None:
    """`leeroy demo --once`: one deploy stopped, one done, exit code 0, an empty folder."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LEEROY_")}
    env |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "leeroy", "demo", "--once"], cwd=tmp_path, env=env,
        capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "the rack is empty" in done.stdout
    assert "on the rack now" in done.stdout
    assert [] == list(tmp_path.iterdir())


def test_the_demo_on_a_terminal_and_for_programs(tmp_path: Path) -> None:
    """With --json the story goes to stderr, here a terminal that sees the time run out."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LEEROY_")}
    env |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "TERM": "xterm"}
    near, far = pty.openpty()
    told = bytearray()
    with subprocess.Popen(
        [sys.executable, "-m", "leeroy", "demo", "--once", "--json"], cwd=tmp_path, env=env,
        stdout=subprocess.PIPE, stderr=far, stdin=subprocess.DEVNULL,
    ) as demo:  # fmt: skip
        os.close(far)
        with contextlib.suppress(OSError):  # EIO: nobody holds the terminal any more
            while piece := os.read(near, 4096):
                told += piece
        assert demo.stdout is not None
        builds = json.loads(demo.stdout.read())
        assert 0 == demo.wait(30)
    os.close(near)
    assert ["cancelled", "done"] == [build["state"] for build in builds]
    seconds = [int(n) for n in re.findall(rb"production in (\d+) s", bytes(told))]
    assert sorted(seconds, reverse=True) == seconds
    assert len(set(seconds)) >= 3
    assert [] == list(tmp_path.iterdir())


def test_a_build_has_several_names(leeroy: Leeroy) -> None:
    """Its number, with a hash, or the address of its page; `-h` and `--version` answer."""
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "true"\n')
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    for name in (str(build), f"#{build}", f"{leeroy.url}/builds/{build}"):
        assert build == json.loads(leeroy.cli("show", name, "--json").stdout)["id"]
    for name in ("0", "-1", "x", "1x", "http://127.0.0.1/builds/", "9" * 19):
        assert 2 == leeroy.cli("show", "--", name, check=False).returncode
    assert leeroy.cli("--version").stdout.startswith("leeroy 0.")
    assert "Maintenance:" in leeroy.cli("-h").stdout


def test_states_and_help_and_migrate_and_backup(leeroy: Leeroy) -> None:
    """The small commands do what they say."""
    assert "stateDiagram-v2" in leeroy.cli("states", "--mermaid").stdout
    assert "deploy_pending" in leeroy.cli("states").stdout
    leeroy.start()
    assert "already" in leeroy.cli("migrate").stdout
    leeroy.cli("backup", "copy.db")
    assert (leeroy.folder / "copy.db").stat().st_size > 1000
    assert 2 == leeroy.cli("backup", "copy.db", check=False).returncode
    found = json.loads(leeroy.cli("doctor", "--json", check=False).stdout)
    assert any("answers" in line["text"] for line in found)
