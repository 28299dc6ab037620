"""The table of a long run holds what the tests told, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests import longrun


def test_the_table_holds_what_was_told() -> None:
    """A count that was not told stays empty; two of one name are added up."""
    told: list[tuple[str, object]] = []
    tell = longrun.teller(lambda key, value: told.append((key, value)))
    tell("storm", kills=1000, violations=0)
    tell("storm", kills=234, violations=0)
    quiet = SimpleNamespace(user_properties=[("other", 1)])
    table = longrun.lines([SimpleNamespace(user_properties=told), quiet])
    assert table[0].startswith("| what | rounds | kills |")
    assert table[2].startswith("| storm |  | 1,234 |  |  | 0 |  |")
    assert 3 == len(table) and {8} == {line.count("|") - 1 for line in table}
    assert [] == longrun.lines([quiet])


def test_a_count_of_another_name_is_refused() -> None:
    """A slip of the pen would leave a cell empty."""
    with pytest.raises(AssertionError):
        longrun.teller(lambda key, value: None)("storm", kilss=1)
