"""What sshd runs instead of a command of ssh-rsync: the command, between two points."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.recipes.pausing import busy, pause


def main() -> int:
    folder = Path(sys.argv[1])
    with busy(folder) as at:
        return run(folder, at)


def run(folder: Path, at: int) -> int:
    current = folder / "srv" / "current"
    command = os.environ["SSH_ORIGINAL_COMMAND"]
    if (folder / "refuse").exists() and "mv -T" in command:
        print("the disk is full", file=sys.stderr)
        return 1
    if command.startswith("rsync"):
        pause(folder, "arrived")
    before = str(current.readlink()) if current.is_symlink() else ""
    code = subprocess.run(["/bin/sh", "-c", command], pass_fds=[at], check=False).returncode
    after = str(current.readlink()) if current.is_symlink() else ""
    if after != before:
        with (folder / "changes").open("a") as file:
            file.write(f"{Path(after).name}\n")
        pause(folder, "landed")
    return code


if __name__ == "__main__":
    sys.exit(main())
