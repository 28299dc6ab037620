"""Who is who after a death: a boot that is another one, a pid that was given away, a script alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from leeroy.runner import process, wire
from tests.cgroups import a_group
from tests.crash.test_server_dies import go, kill_everything, long, pipeline
from tests.functional.test_runner import alive
from tests.parts import missing, need_mounts
from tests.servers import Leeroy
from tests.waiting import until

TORTURE = os.environ.get("LEEROY_TORTURE") == "1"
RULES = [("again", "done", 2), ("hold", "interrupted", 1), ("fail", "deploy_failed", 1)]
"""What a pipeline says of an interrupted deploy, how it ends then, and how often it ran."""


def another_boot(leeroy: Leeroy) -> None:
    """The next server finds another boot id, as after the machine was started anew."""
    if os.geteuid() != 0:
        missing("root, for a boot id of its own")
    boot = leeroy.folder / "boot_id"
    boot.write_text(f"{uuid.uuid4()}\n")
    text = f'mount --bind "{boot}" /proc/sys/kernel/random/boot_id && exec "$@"'
    leeroy.wrap = [*need_mounts(), "sh", "-c", text, "sh"]


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with anything."""
    with subprocess.Popen(["sleep", "600"]) as made:
        yield made
        made.kill()


@pytest.mark.parametrize(("rule", "end", "times"), RULES if TORTURE else RULES[:1])
def test_a_reboot_in_a_deploy(leeroy: Leeroy, rule: str, end: str, times: int) -> None:
    """Nothing lives over a boot, so the pipeline's rule holds at once."""
    pipeline(leeroy, f'interrupted = "{rule}"')
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    go(leeroy, "test")
    until(lambda: leeroy.marks("deploy.begun"), 10)
    kill_everything(leeroy)
    go(leeroy, "deploy")
    another_boot(leeroy)
    leeroy.start()
    leeroy.until_state(build, end)
    assert times == len(leeroy.marks("deploy.begun"))
    assert "lose" in leeroy.moves(build)
    verdict = leeroy.ask("verdict", id=build)
    assert "reboot" in str(verdict), "the record tells what happened"


def test_a_pid_of_another_boot_is_nobodys(
    leeroy: Leeroy, stranger: subprocess.Popen[bytes]
) -> None:
    """The supervisor's pid and even its start time are a stranger's now: he is left alone."""
    leeroy.pipeline(f"[[test]]\nname = \"unit\"\nrun = '''{long('test')}'''\n")
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: leeroy.marks("test.begun"), 10)
    kill_everything(leeroy)
    [lock] = (leeroy.folder / "var" / "runs").glob("[0-9]*/lock")
    found = wire.parse_identity(lock.read_bytes())
    seen = process.stat(stranger.pid)
    assert found is not None and seen is not None
    lock.write_bytes(wire.identity(stranger.pid, seen.started, found[2]))
    leeroy.cli("cancel", str(build), "--force")  # so that the next server wants to signal somebody
    another_boot(leeroy)
    leeroy.start()
    assert "cancelled" == leeroy.until_over(build)
    assert alive(stranger.pid)


def test_a_pid_that_was_given_away_is_left_alone(tmp_path: Path) -> None:
    """Supervisor and script are dead and strangers have their pids: a stop touches neither."""
    if os.geteuid() != 0:
        missing("root, for processes of its own")
    done = subprocess.run(
        [*need_mounts("-p", "-f", "--mount-proc", "--kill-child"),
         sys.executable, "-m", "tests.crash.reused_pid", str(tmp_path / "leeroy")],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "the strangers live" == done.stdout.strip(), done.stdout + done.stderr


ALONE = """
if [ -s "{world}/pids" ]; then
    if kill -0 "$(cat "{world}/pids")" 2>/dev/null; then echo overlap >> "{world}/overlap"; fi
fi
echo $$ > "{world}/pids"
echo begun >> "{world}/begun"
trap '' TERM HUP
n=0
while [ ! -e "{world}/go" ]; do n=$((n + 1)); echo "beat $n"; sleep 0.02; done
"""


@pytest.mark.parametrize(("rule", "end", "times"), RULES if TORTURE else RULES[:2])
def test_a_supervisor_is_killed_and_its_script_lives(
    leeroy: Leeroy, stranger: subprocess.Popen[bytes], rule: str, end: str, times: int
) -> None:
    """What is left of it is ended before anything follows; nobody else is touched."""
    leeroy.pipeline(
        f"untested = true\n[[deploy]]\nenvironment = \"production\"\nrun = '''{ALONE}'''\n"
        f'interrupted = "{rule}"\n'
    )
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    until(lambda: leeroy.marks("begun"), 10)
    [lock] = (leeroy.folder / "var" / "runs").glob("[0-9]*/lock")
    found = wire.parse_identity(lock.read_bytes())
    assert found is not None
    # Marked as another run's: an environment alone makes nobody ours.
    env = {"LEEROY_RUN": "1-1-00000000", "LEEROY_RUN_DIR": str(lock.parent)}
    with subprocess.Popen(["sleep", "600"], env=env | {"PATH": os.defpath}) as other:
        first = int(leeroy.marks("pids")[0])
        os.kill(found[0], signal.SIGKILL)
        if rule == "again":
            until(lambda: len(leeroy.marks("begun")) == 2, 10)
            (leeroy.world / "go").touch()
        leeroy.until_state(build, end)
        until(lambda: not alive(first), 5, "nothing of it lives on")
        assert times == len(leeroy.marks("begun"))
        assert not leeroy.marks("overlap")
        assert alive(stranger.pid) and alive(other.pid)
        other.kill()


def test_out_of_memory_the_script_dies_and_not_its_supervisor(leeroy: Leeroy) -> None:
    """The kernel takes the script: its end is seen, and told as what it was."""
    leeroy.pipeline(
        'untested = true\n[[deploy]]\nenvironment = "production"\n'
        f"run = '''exec {sys.executable} -c 'x = bytearray(1 << 30)'\n'''\n"
    )
    with a_group("memory", 500 << 20) as group:
        leeroy.wrap = group.wrap
        leeroy.start()
        build = leeroy.ask("trigger", name="shop")["id"]
        assert "deploy_failed" == leeroy.until_over(build)
        [step] = [s for s in leeroy.build(build)["steps"] if s["stage"] == "deploy"]
        assert (9, "failed") == (step["signal"], step["state"])
        assert "lose" not in leeroy.moves(build)
        assert leeroy.process is not None and leeroy.process.poll() is None
        leeroy.kill()
