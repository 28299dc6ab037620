"""The model of claim, cancel, requeue and withdraw, searched to its end by Spin."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.parts import need

MODEL = Path(__file__).with_name("claim.pml")
DEATHS = "-DDEATHS=2" if os.environ.get("LEEROY_TORTURE") == "1" else "-DDEATHS=1"
ERRORS = ("CLAIM_IN_TWO", "CANCEL_BLINDLY", "REPEAT_LOST", "LAUNCH_FIRST")


def search(folder: Path, *defines: str) -> tuple[int, int, str]:
    """Every state that can be reached: errors found, states visited, and Spin's words."""
    spin, compiler = need("spin"), need("gcc")
    subprocess.run([spin, *defines, "-a", MODEL], cwd=folder, check=True, capture_output=True)
    subprocess.run(
        [compiler, "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c"],
        cwd=folder,
        check=True,
    )
    done = subprocess.run(
        ["./pan", "-m100000"], cwd=folder, check=True, capture_output=True, text=True, timeout=100
    )
    errors = re.search(r"errors: (\d+)", done.stdout)
    states = re.search(r"(\d+) states, stored", done.stdout)
    assert errors and states, done.stdout + done.stderr
    assert "Search not completed" not in done.stdout or int(errors[1]), done.stdout
    return int(errors[1]), int(states[1]), done.stdout


def test_no_order_of_events_breaks_a_promise(tmp_path: Path) -> None:
    """Once each, tested, never after "cancelled", and nobody waits for ever: in every state."""
    errors, states, said = search(tmp_path, DEATHS)
    print(f"\nspin: {states} states, {errors} errors")
    assert 0 == errors, said
    assert states > 1000, "the model does next to nothing"


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_the_model_is_found(tmp_path: Path, error: str) -> None:
    """A model in which nothing can go wrong would prove nothing."""
    errors, _, said = search(tmp_path, f"-D{error}")
    assert errors > 0, said
