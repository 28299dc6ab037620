"""Lengths of time and sizes as people write them: "90s", "20m", "1h30m", "64MB"."""

from __future__ import annotations

import re

from leeroy.errors import Invalid

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_S = 36_525 * 86_400
_LARGEST = 10**18
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_SIZES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"([0-9]{1,9})\s?(B|kB|KB|MB|GB|TB)")


def seconds(text: str) -> float:
    """
    The length of time in seconds: "90s", "20m", "2h", "1h30m", "90d".

    Raises:
        Invalid: It is none, and the sentence says what one looks like.
    """
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise Invalid(f'{text!r} is no length of time; write "90s", "20m", "2h" or "1h30m"')
    found = sum(float(part[1]) * _UNITS_S[part[2]] for part in parts)
    if found > _LONGEST_S:
        raise Invalid(f"{text!r} is longer than a hundred years; write a shorter one")
    return found


def size(text: str) -> int:
    """
    The size in bytes: "64MB", "1GB" (powers of 1000).

    Raises:
        Invalid: It is none, and the sentence says what one looks like.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Invalid(f'{text!r} is no size; write "500kB", "64MB" or "1GB"')
    if (measured := int(found[1]) * _SIZES[found[2]]) > _LARGEST:
        raise Invalid(f"{text!r} is more than any disk holds; write a smaller one")
    return measured


def sized(size: int) -> str:
    """A size in bytes for people: "640 B", "1.2 GB" (powers of 1000)."""
    for unit in ("TB", "GB", "MB", "kB"):
        if size >= _SIZES[unit]:
            return f"{size / _SIZES[unit]:.1f} {unit}"
    return f"{size} B"
