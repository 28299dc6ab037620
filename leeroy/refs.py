"""Which branches and tags a list of patterns means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # `*` also crosses `/`: "release/*" is meant for release/2.1/hotfix, too.
    parts = (re.escape(part) for part in re.split(r"\*+", pattern))
    return re.compile(".*".join(parts), re.DOTALL)


def matches(patterns: Sequence[str], ref: str) -> bool:
    """
    Whether *ref* is meant by patterns such as "main", "release/*", "!release/old".

    The last pattern that fits decides.  A list of nothing but negations
    starts from everything; an empty list means nothing.
    """
    meant = bool(patterns) and all(pattern.startswith("!") for pattern in patterns)
    for pattern in patterns:
        if _compiled(pattern.removeprefix("!")).fullmatch(ref):
            meant = not pattern.startswith("!")
    return meant
