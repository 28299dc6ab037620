"""The commands that say what happened, and whether the records hold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from leeroy import showing
from leeroy.cli import asking
from leeroy.cli.app import Config, Json, ServerUrl
from leeroy.errors import Invalid
from leeroy.verdict import chain, words


def verdict(
    id: Annotated[int | None, typer.Argument(metavar="[ID]", min=1)] = None,
    verify: Annotated[
        Path | None, typer.Option("--verify", metavar="FILE", help="find every edit of a saved one")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="HASH", help="compare with the closing notice's")
    ] = None,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """A build's hash-chained record, and one sentence: why it ended as it did."""
    if (id is None) == (verify is None):
        raise Invalid("name one build, or --verify FILE")
    if verify is not None:
        return _verify(verify, head, json)
    with asking.leeroy(server, config) as leeroy:
        found = leeroy.call("verdict", id=id)
    other = None if head is None else chain.differs(found["lines"], head)
    if json:
        showing.as_json(found)
    else:
        showing.out(words.text(found))
    if other is not None:
        showing.say(f"leeroy: {other.text}")
    return 0 if other is None else 1


def _verify(file: Path, head: str | None, json: bool) -> int:
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"{file} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    found = words.verify(content, head)
    ends = chain.is_closed(found.lines)
    if json:
        showing.as_json(
            {
                "holds": not found.broken,
                "over": ends,
                "head": chain.head(found.lines),
                "broken": [{"line": b.line or None, "text": b.text} for b in found.broken],
            }
        )
    elif found.broken:
        for b in found.broken:
            showing.out(f"{file}: line {b.line} {b.text}" if b.line else f"{file}: {b.text}")
    else:
        so_far = "" if ends else "; it was saved before the build was over"
        against = "" if head is not None else "; compare its head with the closing notice's"
        lines = len(found.lines)
        showing.out(
            f"the chain of {lines} lines holds, head {chain.head(found.lines)}{so_far}{against}"
        )
    return 1 if found.broken else 0


def replay(
    id: Annotated[int | None, typer.Argument(metavar="[ID]", min=1)] = None,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """Rebuild builds from their events and compare with the rows; exit code 1: they differ."""
    differences: list[str] = []
    count, after = 0, 0
    with asking.leeroy(server, config) as leeroy:
        while True:
            found = leeroy.call("replay", id=id, after=after if id is None else None)
            count += found["builds"]
            differences += found["differences"]
            if found["last"] is None:
                break
            after = found["last"]
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{count} builds replayed")
    if sys.stderr.isatty() and after:
        sys.stderr.write("\r\x1b[K")
    if json:
        showing.as_json({"builds": count, "differences": differences})
        return 1 if differences else 0
    for difference in differences:
        showing.out(difference)
    if not differences:
        showing.out(f"{count} builds replayed: every row is what its events make of it")
    return 1 if differences else 0
