"""
Canonical lines, each with the hash of the one before, and what an edit breaks.

Pure and standard library only: whoever has a saved record and the head hash
from a mail needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from leeroy.errors import Invalid
from leeroy.terms import OVER

FORMAT: Final = 1
START: Final = "0" * 64
"""What the first line names as the hash of the one before."""
SHORTEST = 12
"""So many digits of a head hash say which one is meant."""

Line = dict[str, Any]


@dataclass(frozen=True)
class Broken:
    """An edit that was found: the line's number (0: the whole file), and what is wrong there."""

    line: int
    text: str


def canonical(value: Any) -> str:
    """The one way to write a value down."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(line: Line) -> str:
    """The hash of a line: of all that is in it but the hash itself."""
    bare = {key: value for key, value in line.items() if key != "hash"}
    return hashlib.sha256(canonical(bare).encode("utf-8", "surrogatepass")).hexdigest()


def chained(records: Iterable[Line]) -> list[Line]:
    """The records, numbered from 1, each with the hash of the one before and its own."""
    lines: list[Line] = []
    before = START
    for number, record in enumerate(records, 1):
        line = {**record, "n": number, "before": before}
        before = line["hash"] = digest(line)
        lines.append(line)
    return lines


def head(lines: list[Line]) -> str:
    """The hash that stands for the whole record."""
    return str(lines[-1].get("hash", "")) if lines else START


def is_closed(lines: list[Line]) -> bool:
    """Whether the record is of a build that was over."""
    return bool(lines) and lines[-1].get("kind") == "end"


def _cut(lines: list[Line]) -> str | None:
    """What its last line fails to say of the last move; None: it ends as a record has to."""
    last, closed = lines[-1], is_closed(lines)
    if last.get("kind") not in ("end", "open"):
        return "is not how a record ends: the end, or that the build was still open, is cut off"
    moves = [line for line in lines if line.get("kind") == "move"]
    state = moves[-1].get("to") if moves else None
    if last.get("state") != state:
        return f"does not say where the last move led: {state}"
    if closed != (state in list(OVER)):
        return f"says that the build was {'over' if closed else 'open'}, and it was {state}"
    if last.get("fault") != "open" and not closed:
        return "names a fault, and the build was not over"
    return None


def check(lines: list[Line]) -> list[Broken]:
    """Every place where the chain does not hold; empty when it does."""
    found: list[Broken] = []
    if not lines:
        return [Broken(0, "there is no line of a record in it")]
    before = START
    for number, line in enumerate(lines, 1):
        own = line.get("hash")
        if digest(line) != own:
            found.append(Broken(number, "was changed: it does not have the hash that it names"))
        elif line.get("n") != number or line.get("before") != before:
            found.append(
                Broken(
                    number,
                    "does not follow the one before: a line was removed, added, moved or changed",
                )
            )
        if line.get("kind") in ("end", "open") and number != len(lines):
            found.append(Broken(number + 1, "was added: the record ends before it"))
        before = own if isinstance(own, str) else ""
    if cut := _cut(lines):
        found.append(Broken(len(lines), cut))
    first = lines[0]
    if first.get("kind") != "build":
        found.append(Broken(1, "is not how a record begins"))
    elif first.get("format") != FORMAT:
        found.append(Broken(1, f"is of format {first.get('format')!r}, which is not known here"))
    return found


def meant(text: str) -> str:
    """A head hash as people copy it; raises Invalid for what is none."""
    found = text.strip().rstrip(".…").lower()
    if len(found) < SHORTEST or len(found) > 64 or set(found) - set("0123456789abcdef"):
        raise Invalid(f"{text!r} is no head hash; copy at least {SHORTEST} of its digits")
    return found


def differs(lines: list[Line], wanted: str) -> Broken | None:
    """Whether a record is another one than the head hash *wanted* (or its start) stands for."""
    if head(lines).startswith(meant(wanted)):
        return None
    return Broken(0, f"its head hash is {head(lines)}, not {wanted}: this is another record")


def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no key stands twice (of two, readers would see different ones)."""
    made = dict(found)
    if len(made) != len(found):
        raise ValueError("a key stands twice")
    return made


def parse(text: str) -> Any:
    """JSON; raises ValueError also where a key stands twice."""
    return json.loads(text, object_pairs_hook=pairs)
