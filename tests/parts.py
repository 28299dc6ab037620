"""The real parts tests stand on (servers, browsers, tools), and what a missing one means."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip, or fail when every part is required (LEEROY_TEST_REQUIRE_ALL=1)."""
    if os.environ.get("LEEROY_TEST_REQUIRE_ALL") == "1":
        pytest.fail(f"{what} is missing, and LEEROY_TEST_REQUIRE_ALL=1 asks for every part")
    pytest.skip(f"{what} is missing")


def need(program: str) -> str:
    """The path of *program*; the test skips (or fails) without it."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        missing(program)
    return path


def need_mounts(*more: str) -> list[str]:
    """The command before one that is to have mounts of its own (unshare(1), with *more* of it)."""
    words = [need("unshare"), "-m", *more]
    tried = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        missing(f"the right to have mounts of one's own ({tried.stderr.strip()})")
    return words
