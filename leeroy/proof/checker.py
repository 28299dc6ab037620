"""Every rule, by the number it has in docs/guarantees.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from leeroy.proof import places, running, states, stopping, telling, tested
from leeroy.proof.history import History, Violation

Rule = Callable[[History], Iterator[Violation]]

RULES: Final[tuple[tuple[str, Rule], ...]] = (
    ("A1", states.numbered),
    ("A2", states.chained),
    ("A3", states.rows_agree),
    ("A4", states.over_is_over),
    ("A5", states.everything_ends),
    ("A6", states.nothing_forgotten),
    ("B1", tested.tests_passed),
    ("B2", tested.same_commit),
    ("B3", tested.planned),
    ("B4", tested.trusted),
    ("C1", stopping.acknowledged),
    ("C1", stopping.held),
    ("C1", stopping.frozen),
    ("C2", stopping.truthful),
    ("C3", stopping.grace),
    ("C4", stopping.stopped),
    ("D1", places.alone),
    ("D1", places.held),
    ("D2", places.in_order),
    ("D3", places.give_way),
    ("E1", running.once),
    ("E1", running.withdrawn),
    ("E1", running.repeated),
    ("E2", running.truth),
    ("E3", running.one_end),
    ("E4", running.nothing_left),
    ("E5", running.whole_log),
    ("E6", running.own_workspace),
    ("F1", telling.kept),
    ("F2", telling.not_twice),
    ("F3", telling.together),
    ("G1", telling.one_each),
    ("G2", telling.each_ends),
    ("G3", telling.in_turn),
    ("R1", states.interrupted_is_resolved),
)


def check(history: History) -> list[Violation]:
    """Everything that breaks a rule; empty where every promise was kept."""
    return [violation for _, rule in RULES for violation in rule(history)]
