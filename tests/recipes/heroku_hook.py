"""
The hooks of the Heroku-like remote.

pre-receive builds (unpacks the commit), releases (the Procfile's `release`)
and starts `web` in place of what ran; anything that fails refuses the push.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

from tests.recipes.pausing import busy, pause
from tests.waiting import until


def main() -> int:
    with busy(Path(sys.argv[2])):
        return hook(sys.argv[1], Path(sys.argv[2]))


def hook(name: str, folder: Path) -> int:
    [(_, new, ref)] = [line.split() for line in sys.stdin.read().splitlines()]
    if name == "post-receive":
        pause(folder, "landed")
        return 0
    if ref != "refs/heads/main":
        print(f"{ref} is not built")
        return 1
    pause(folder, "arrived")
    if (folder / "refuse").exists():
        print("Push rejected, failed to compile Python app.")
        return 1
    slug = folder / "slugs" / new
    packed = subprocess.run(["git", "archive", new], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(slug, filter="data")
    release(folder, slug, new)
    return 0


def release(folder: Path, slug: Path, commit: str) -> None:
    port = (folder / "port").read_text()
    lines = (slug / "Procfile").read_text().splitlines()
    commands = {kind.strip(): text.strip() for kind, _, text in (x.partition(":") for x in lines)}
    env = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PORT": port,
        "HEROKU_BUILD_COMMIT": commit,
        "SHOP_DB": str(folder / "shop.sqlite3"),
    }
    with (folder / "log").open("ab") as log:
        subprocess.run(
            ["/bin/sh", "-ec", commands["release"]], cwd=slug, env=env,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
        )  # fmt: skip
        dyno = folder / "dyno"
        if dyno.exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(dyno.read_text()), signal.SIGKILL)
        web = subprocess.Popen(
            ["/bin/sh", "-ec", f"exec {commands['web']}"], cwd=slug, env=env,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    dyno.write_text(str(web.pid))
    until(lambda: serves(port) == commit, 20)
    with (folder / "releases").open("a") as file:
        file.write(f"{commit}\n")


def serves(port: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
