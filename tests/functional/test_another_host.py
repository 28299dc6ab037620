"""`leeroy cancel` from another host: a network namespace with nothing but an address and a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.functional.test_story import NOTIFY
from tests.parts import missing, need
from tests.servers import ROOT, Leeroy


@pytest.fixture
def namespace() -> Iterator[str]:
    """A host of its own: only the pair of addresses connects it to this one."""
    need("ip")
    if os.geteuid() != 0:
        missing("root, for a network namespace")
    name = f"leeroy-{os.getpid()}"
    near, far = f"le{os.getpid() % 10**7}a", f"le{os.getpid() % 10**7}b"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode != 0:
        missing("the right to make a network namespace")

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far)
        ip("link", "set", far, "netns", name)
        ip("addr", "add", "10.97.83.1/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "addr", "add", "10.97.83.2/30", "dev", far)
        ip("-n", name, "link", "set", far, "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


def test_a_deploy_is_stopped_from_another_host(leeroy: Leeroy, namespace: str) -> None:
    """Only LEEROY_SERVER and LEEROY_TOKEN: no configuration, no database, no network but that."""
    leeroy.settings["listen"] = "10.97.83.1:0"
    leeroy.env["OPS"] = "json://127.0.0.1:9/"
    leeroy.pipeline(
        'untested = true\n[[deploy]]\nenvironment = "production"\n'
        "run = 'touch \"{world}/deployed\"'\n" + NOTIFY
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    leeroy.until_state(build, "deploy_pending")

    def there(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", namespace, sys.executable, "-m", "leeroy", *words],
            cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    asked = {"LEEROY_SERVER": leeroy.url, "LEEROY_TOKEN": leeroy.token}
    assert 6 == there("cancel", str(build), LEEROY_SERVER=leeroy.url).returncode
    done = there("cancel", str(build), "--reason", "from afar", "--json", **asked)
    assert 0 == done.returncode, done.stderr
    assert "cancelled" == json.loads(done.stdout)["state"]
    assert 0 == there("cancel", str(build), **asked).returncode
    assert not (leeroy.world / "deployed").exists()
    leeroy.stop()
    gone = there("cancel", str(build), **asked)
    assert 5 == gone.returncode
    assert leeroy.url in gone.stderr
