"""Put each error into a copy of the tree and see that its test fails: python -m tests.mutants."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.catalogue import MUTANTS, ROOT, Mutant

_COPIED = ("leeroy", "tests", "migrations", "pipelines", "docs", "pyproject.toml")


def passes(tree: Path, *tests: str) -> tuple[int, str]:
    """pytest's exit code and words for the tests in *tree*."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip
    return done.returncode, done.stdout


def caught(tree: Path, mutant: Mutant) -> bool:
    """Whether the mutant's test fails, by itself and not for want of something else."""
    file = tree / mutant.file
    text = file.read_text()
    file.write_text(mutant.applied(text))
    try:
        code, said = passes(tree, mutant.test)
    finally:
        file.write_text(text)
    return code == 1 and f"FAILED {mutant.test}" in said


def main() -> int:
    """0: every test passes without its error, and fails with it."""
    with tempfile.TemporaryDirectory(prefix="leeroy-mutants-") as folder:
        tree = Path(folder)
        for name in _COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / name, tree / name)
        code, said = passes(tree, *sorted({mutant.test for mutant in MUTANTS}))
        if code:
            print(said, "a test fails without any error put in", sep="\n")
            return 1
        missed = [mutant for mutant in MUTANTS if not _told(tree, mutant)]
    print(f"mutants: {len(MUTANTS)}, caught: {len(MUTANTS) - len(missed)}")
    return 1 if missed else 0


def _told(tree: Path, mutant: Mutant) -> bool:
    found = caught(tree, mutant)
    print(f"{'caught' if found else 'MISSED'}  {mutant.name}  ({mutant.test})", flush=True)
    return found


sys.exit(main())
