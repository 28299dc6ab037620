"""`leeroy check` names file, line, key and remedy of every mistake, and never a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gitservers import a_repo, https_git
from tests.servers import ROOT, Leeroy
from tests.waiting import until

TEST = '[[test]]\nname = "unit"\nrun = "true"\n'
OUTSIDE = "mailtos://ada:hunter2hunter2@mail.example.com/?to=ops@example.com"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "leeroy.toml").write_text("")
    return tmp_path


def check(folder: Path, *words: str, **env: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and every mistake."""
    done = subprocess.run(
        [sys.executable, "-m", "leeroy", "check", "--json", *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "" == done.stderr
    assert "hunter2" not in done.stdout
    return done.returncode, json.loads(done.stdout)


MISTAKES = [
    ("tset", TEST + "[[tset]]\n", 4, "tset", "did you mean"),
    ("type", "at_once = true\n" + TEST, 1, "at_once", "whole number"),
    ("duration", TEST + "timeout = 20\n", 4, "timeout", '"'),
    ("no unit", TEST + 'timeout = "20"\n', 4, "timeout", '"20m"'),
    ("secret", 'secret = "env:NOT_THERE"\n' + TEST, 1, "secret", "set NOT_THERE"),
    ("script's secret", TEST + 'secrets = { KEY = "env:NOT_THERE" }\n', 4, "secrets", "not set"),
    ("in clear", 'secret = "hunter2hunter2"\n' + TEST, 1, "secret", "env:NAME"),
    ("shell", '[[test]]\nname = "u"\nrun = """#!/bin/bash\nfalse\ntrue\n"""\n', 3, "run", "set -e"),
    ("untested", '[[deploy]]\nenvironment = "p"\nrun = "true"\n', 1, "deploy", "untested = true"),
    ("executor", 'executor = "moon"\n' + TEST, 2, "executor", "there are: local"),
    ("state", TEST + '[[notify]]\nto = "env:OPS"\non = ["deployd"]\n', 6, "on", "did you mean"),
    ("author", TEST + '[[notify]]\nto = "author"\n', 5, "to", "mail"),
    ("here", TEST + '[[notify]]\nto = "file:///tmp/x"\n', 5, "to", ""),
    ("broken", TEST + "[[deploy\n", 4, "", ""),
    ("lead out", '[[build]]\nname="b"\nrun="true"\nartifacts=["../x"]\n', 4, "artifacts", "leads out"),
    ("git", TEST + 'env = { LD_PRELOAD = "x" }\n', 4, "env", "may not be set"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "key", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_mistake_is_named(folder: Path, text: str, line: int, key: str, words: str) -> None:
    """File, line, key, and what to do."""
    (folder / "pipelines" / "shop.toml").write_text(text)
    code, found = check(folder, OPS=OUTSIDE)
    wrong = [m for m in found if not m["warning"]]
    assert 1 == code, found
    assert wrong[0]["file"].endswith("pipelines/shop.toml")
    fitting = [m for m in wrong if words in m["text"] and key in (m["key"] or "")]
    assert fitting, wrong
    assert line in [m["line"] for m in fitting], fitting


def test_warnings_stop_nothing(folder: Path) -> None:
    """What is doubtful is said, with exit code 0."""
    assert (0, True) == (check(folder)[0], "no pipeline yet" in check(folder)[1][0]["text"])
    (folder / "pipelines" / "shop.toml").write_text(
        TEST
        + '[[deploy]]\nenvironment = "p"\nrun = "true"\n[[notify]]\nto = "env:OPS"\non = ["done"]\n'
    )
    code, found = check(folder, OPS=OUTSIDE)
    assert 0 == code
    texts = " ".join(m["text"] for m in found)
    assert "nobody is told of a pending deploy" in texts
    assert "people elsewhere cannot open links to http://127.0.0.1" in texts
    (folder / "leeroy.toml").write_text('url = "https://leeroy.example.com"\n')
    assert "people elsewhere" not in str(check(folder, OPS=OUTSIDE)[1])


def test_settings_and_the_secrets_file(folder: Path) -> None:
    """Its mode, its lines, and the settings' own keys."""
    (folder / "leeroy.toml").write_text('env_file = "secrets.env"\nslotz = 2\n')
    secrets = folder / "secrets.env"
    secrets.write_text("OPS=hunter2hunter2\n")
    secrets.chmod(0o644)
    code, found = check(folder)
    assert (1, 2, "slotz") == (code, found[0]["line"], found[0]["key"])
    (folder / "leeroy.toml").write_text('env_file = "secrets.env"\n')
    code, found = check(folder)
    assert 1 == code
    assert "chmod 600" in found[0]["text"]
    secrets.chmod(0o600)
    assert 0 == check(folder)[0]
    code, found = check(folder, LEEROY_COLOUR="red")
    assert 0 == code
    assert "LEEROY_COLOUR" in found[0]["text"]


def test_a_file_that_is_no_text(folder: Path) -> None:
    """Not UTF-8 is said so, for the pipeline and for the settings."""
    (folder / "pipelines" / "shop.toml").write_bytes(b"\xff\xfe")
    assert "UTF-8" in check(folder)[1][0]["text"]
    (folder / "leeroy.toml").write_bytes(b"\xff\xfe")
    assert "UTF-8" in check(folder)[1][0]["text"]


def test_online_asks_repositories_and_targets(folder: Path) -> None:
    """A repository that is not there and a mail server that does not answer are named."""
    (folder / "pipelines" / "shop.toml").write_text(
        f'repository = "{folder}/nowhere.git"\nsecret = "env:S"\n{TEST}[[notify]]\nto = "env:OPS"\n'
    )
    env = {
        "S": "s",
        "OPS": "mailto://127.0.0.1:9?from=a@example.com&to=b@example.com&mode=insecure",
    }
    assert 0 == check(folder, **env)[0]
    code, found = check(folder, "--online", **env)
    assert 1 == code
    texts = " ".join(f"{m['key']}: {m['text']}" for m in found)
    assert "repository: " in texts
    assert "127.0.0.1:9 does not answer" in texts


def test_online_asks_as_the_server_does(folder: Path) -> None:
    """With the settings' own certificates and proxies, and the pipeline's: [env] and env."""
    a_repo(folder / "srv")
    with https_git(folder / "srv", folder / "web") as server:
        shop = folder / "pipelines" / "shop.toml"
        text = f'repository = "{server.private()}"\ntoken = "env:T"\nsecret = "env:T"\n'
        shop.write_text(text + TEST)
        code, found = check(folder, "--online", T=server.token)
        assert (1, ["repository"]) == (code, [m["key"] for m in found])
        trusts = f'SSL_CERT_FILE = "{server.ca}"'
        (folder / "leeroy.toml").write_text(f"[env]\n{trusts}\n")
        assert (0, []) == check(folder, "--online", T=server.token)
        (folder / "leeroy.toml").write_text("")
        shop.write_text(f"{text}env = {{ {trusts} }}\n{TEST}")
        assert (0, []) == check(folder, "--online", T=server.token)
        assert not (folder / "var").exists(), "it changes nothing"


def test_the_server_says_the_same(leeroy: Leeroy) -> None:
    """A broken file is named in the server's log and on the page, with the same words."""
    leeroy.pipeline(TEST + "timeout = 20\n", "broken")
    leeroy.start()
    [mistake] = [m for m in check(leeroy.folder)[1] if m["key"] and "timeout" in m["key"]]
    until(lambda: mistake["text"] in leeroy.log.read_text(), 5)
    _, _, page = leeroy.http("GET", "/", token=leeroy.token)
    assert b"broken.toml:4" in page
    assert 4 == leeroy.cli("trigger", "broken", check=False).returncode
