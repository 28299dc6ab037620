"""The models of claim, cancel, requeue, withdraw and a second loss, searched to their end by Spin."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.parts import need

CLAIM, AGAIN = (Path(__file__).with_name(name) for name in ("claim.pml", "again.pml"))
DEATHS = "-DDEATHS=2" if os.environ.get("LEEROY_TORTURE") == "1" else "-DDEATHS=1"
ERRORS = [
    *((CLAIM, e) for e in ("CLAIM_IN_TWO", "CANCEL_BLINDLY", "REPEAT_LOST", "LAUNCH_FIRST")),
    *((AGAIN, e) for e in ("BY_BUILD", "FOLLOW_AT_ONCE", "NO_NOTE", "NOTE_LAST")),
]


def search(folder: Path, model: Path, *defines: str) -> tuple[int, int, str]:
    """Every state that can be reached: errors found, states visited, and Spin's words."""
    spin, compiler = need("spin"), need("gcc")
    subprocess.run([spin, *defines, "-a", model], cwd=folder, check=True, capture_output=True)
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


@pytest.mark.parametrize("model", [CLAIM, AGAIN], ids=["claim", "again"])
def test_no_order_of_events_breaks_a_promise(tmp_path: Path, model: Path) -> None:
    """Once each, tested, alone, never after "cancelled", and nobody waits for ever: in every state."""
    errors, states, said = search(tmp_path, model, DEATHS)
    print(f"\nspin: {states} states, {errors} errors")
    assert 0 == errors, said
    assert states > 1000, "the model does next to nothing"


@pytest.mark.parametrize(("model", "error"), ERRORS, ids=[error for _, error in ERRORS])
def test_an_error_in_the_model_is_found(tmp_path: Path, model: Path, error: str) -> None:
    """A model in which nothing can go wrong would prove nothing."""
    errors, _, said = search(tmp_path, model, f"-D{error}")
    assert errors > 0, said
