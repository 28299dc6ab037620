"""The catalogue of errors for `make mutants` fits the code as it is."""

from __future__ import annotations

import pytest

from tests.mutants.catalogue import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_mutant_can_be_made(mutant: Mutant) -> None:
    """Its text is there once, the result is Python, and the test that catches it exists."""
    compile(mutant.applied((ROOT / mutant.file).read_text()), mutant.file, "exec")
    file, _, name = mutant.test.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()
