"""What a long run gave: each test tells its counts, and `make torture` prints them as one table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

KEY: Final = "gave"
COLUMNS: Final = ("rounds", "kills", "builds", "deploys", "violations", "seconds")

Tell = Callable[..., None]


def teller(record_property: Callable[[str, object], None]) -> Tell:
    """A function `(what, **counts)` that a test calls with what it has seen."""

    def tell(what: str, **counts: float) -> None:
        unknown = set(counts) - set(COLUMNS)
        assert not unknown, f"no such column: {unknown}"
        record_property(KEY, {"what": what, **counts})

    return tell


def lines(reports: Iterable[Any]) -> list[str]:
    """
    The table, as docs/guarantees.md shows it; empty when no test has told anything.

    What several tests tell of the same thing is added up.
    """
    found: dict[str, Counter[str]] = {}
    for report in reports:
        for key, value in report.user_properties:
            if key == KEY:
                counts = {name: count for name, count in value.items() if name != "what"}
                found.setdefault(value["what"], Counter()).update(counts)
    if not found:
        return []
    today = time.strftime("%Y-%m-%d", time.gmtime())
    rows = [f"| what | {' | '.join(COLUMNS)} | date |", "|---" * (len(COLUMNS) + 2) + "|"]
    for what, counts in found.items():
        cells = [f"{counts[name]:,.0f}" if name in counts else "" for name in COLUMNS]
        rows.append(f"| {what} | {' | '.join(cells)} | {today} |")
    return rows
