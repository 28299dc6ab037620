"""What the service manager hears: ready when hooks are taken, alive from the loop, stopping."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.servers import Leeroy


def test_the_service_manager_is_told(leeroy: Leeroy, tmp_path: Path) -> None:
    """READY=1 once it serves, WATCHDOG=1 with the loop's turns, STOPPING=1 at its end."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(path))
        ear.settimeout(10)
        leeroy.env["NOTIFY_SOCKET"] = str(path)
        leeroy.start()
        heard: list[str] = []
        while not any("READY=1" in text for text in heard):
            heard.append(ear.recv(4096).decode())
        assert f"serves {leeroy.url}" in heard[-1]
        ear.settimeout(10)
        for _ in range(2):
            while "WATCHDOG=1" not in ear.recv(4096).decode():
                pass
        assert 0 == leeroy.stop()
        rest = []
        ear.settimeout(1)
        try:
            while True:
                rest.append(ear.recv(4096).decode())
        except TimeoutError:
            pass
        assert any("STOPPING=1" in text for text in rest)


def test_scripts_do_not_hear_of_the_service_manager(leeroy: Leeroy, tmp_path: Path) -> None:
    """NOTIFY_SOCKET, credentials and all else of the service's environment stay with it."""
    leeroy.env |= {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "CREDENTIALS_DIRECTORY": "/x"}
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = \'env > "{world}/env"\'\n')
    leeroy.start()
    assert "done" == leeroy.until_over(leeroy.ask("trigger", name="shop")["id"])
    names = {line.partition("=")[0] for line in leeroy.marks("env")}
    assert not {"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "PYTHONPATH"} & names
