"""A record as people read it, above the lines a program checks; and both read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leeroy.verdict import chain
from leeroy.verdict.chain import Broken, Line

_KEYS = {"build", "cause", "fault", "head", "lines", "over"}


@dataclass(frozen=True)
class Verified:
    """What a look at a saved record found: its lines, and every edit of it."""

    lines: list[Line]
    broken: list[Broken]


def as_object(lines: list[Line], fault: str, cause: str) -> dict[str, Any]:
    """The record as `leeroy verdict --json` prints it."""
    return {
        "build": lines[0]["build"],
        "over": chain.is_closed(lines),
        "fault": fault,
        "cause": cause,
        "head": chain.head(lines),
        "lines": lines,
    }


def text(found: dict[str, Any]) -> str:
    """The record as people read it, with the lines themselves below."""
    lines: list[Line] = found["lines"]
    said = [_row(f"build {found['build']}: {found['cause']} (fault: {found['fault']})"), ""]
    said += [f"{line['n']:>4}  {sentence(line)}" for line in lines]
    said += ["", f"head {found['head']}", ""]
    said += [chain.canonical(line) for line in lines]
    return "\n".join(said)


def verify(content: str, head: str | None = None) -> Verified:
    """Find every edit of a saved record (JSON or text); *head* is the hash a witness has."""
    try:
        found = _json(content) if content.lstrip().startswith("{") else None
    except (ValueError, RecursionError) as exc:
        return Verified([], [Broken(0, f"is no JSON of a record: {exc}")])
    lines, broken = _of_object(found) if found is not None else _of_text(content)
    if head is not None and lines:
        other = chain.differs(lines, head)
        broken += [other] if other is not None else []
    return Verified(lines, broken)


def _json(content: str) -> dict[str, Any] | None:
    try:
        found = chain.parse(content)
    except json.JSONDecodeError as exc:
        if exc.msg == "Extra data":
            return None  # bare lines
        raise
    if isinstance(found, dict) and "lines" in found:
        return found
    return None


def _of_object(found: dict[str, Any]) -> tuple[list[Line], list[Broken]]:
    lines = found["lines"]
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        return [], [Broken(0, "its lines are no lines of a record")]
    broken = chain.check(lines)
    if set(found) != _KEYS:
        broken.append(Broken(0, "there is more or less in it than a record has"))
    expected = {"head": chain.head(lines), "over": chain.is_closed(lines)}
    if lines:
        expected["build"] = lines[0].get("build")
        expected |= {key: lines[-1].get(key) for key in ("fault", "cause")}
    for key, value in expected.items():
        if chain.canonical(found.get(key)) != chain.canonical(value):
            broken.append(Broken(0, f"its {key} is not that of its lines"))
    return lines, broken


def _of_text(content: str) -> tuple[list[Line], list[Broken]]:
    rows = content.removesuffix("\n").split("\n")
    lines: list[Line] = []
    for row in rows:
        if not row.startswith("{"):
            continue
        try:
            line = chain.parse(row)
        except (ValueError, RecursionError):
            return [], [Broken(len(lines) + 1, "is no line of a record any more")]
        lines.append(line)
        if chain.canonical(line) != row:
            return lines, [Broken(len(lines), "is not written as a record writes it")]
    broken = chain.check(lines)
    shown = [row for row in rows if not row.startswith("{")]
    if not broken and shown:
        fault, cause = (str(lines[-1].get(key)) for key in ("fault", "cause"))
        whole = text(as_object(lines, fault, cause)).split("\n")
        wanted = [row for row in whole if not row.startswith("{")]
        for number, (is_, was) in enumerate(zip(shown, wanted, strict=False), 1):
            if is_ != was:
                broken.append(Broken(0, f"its row {number} says something else than its lines"))
                break
        if len(shown) != len(wanted):
            broken.append(Broken(0, "rows were added to it or removed from it"))
    return lines, broken


def sentence(line: Line) -> str:
    """One line of a record, for people; foreign text in it is kept on one row."""
    say = _SAY.get(line.get("kind", ""))
    return _row(say(line)) if say is not None else _row(chain.canonical(line))


def _row(words: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def _build(line: Line) -> str:
    ref = line["tag"] or line["branch"] or "no branch"
    by = f" by {line['author']}" if line["author"] else ""
    what = f"{line['pipeline']}, {ref}, {(line['commit'] or 'no commit')[:12]}{by}"
    return f"{line['created_at']}  {what} ({line['trigger']}); pipeline {line['snapshot'][:12]}"


def _move(line: Line) -> str:
    where = f" ({line['environment']})" if line["environment"] else ""
    why = f": {line['reason']}" if line["reason"] else ""
    return f"{line['at']}  {line['move']} → {line['to']}{where}, {line['actor']}{why}"


def _step(line: Line) -> str:
    name = line["stage"] if line["name"] == line["stage"] else f"{line['stage']} {line['name']}"
    again = f" attempt {line['attempt']}" if line["attempt"] > 1 else ""
    end = ""
    if line["exit_code"] is not None:
        end = f", exit {line['exit_code']}"
    elif line["signal"] is not None:
        end = f", signal {line['signal']}"
    why = f" ({line['reason']})" if line["reason"] else ""
    script = f"; script {line['script'][:12]}" if line["script"] else ""
    log = f"; log {line['log'][:12]} ({line['bytes']} bytes)" if line["log"] else ""
    secrets = f"; secrets {', '.join(line['secrets'])}" if line["secrets"] else ""
    when = line["started_at"] or line["finished_at"] or "never begun"
    return f"{when}  {name}{again} {line['state']}{end}{why}{script}{log}{secrets}"


def _accepted(line: Line) -> str:
    return f"{line['at']}  {line['who']} accepted the notice of move {line['number']}"


def _gate(line: Line) -> str:
    if line["who"] != "open":
        return f"{line['at']}  {line['environment']} waits ({line['who']}): {line['said']}"
    watched = ""
    if line["number"] is not None:
        watched = f" ({line['number'] / 1_000_000:.3f} s watched)"
    return f"{line['at']}  every gate of {line['environment']} is open: {line['said']}{watched}"


def _approved(line: Line) -> str:
    what = f"the deploy to {line['environment']}" if line["environment"] else "its tests"
    return f"{line['at']}  {what} approved by {line['who']}"


def _started(line: Line) -> str:
    return f"{line['at']}  a server of {line['who']} started (before: {line['said']})"


def _deploy(line: Line) -> str:
    ended = line["outcome"] or ("not ended" if line["started_at"] else "never started")
    return f"{line['started_at'] or 'never'}  {line['key']}: {ended}"


def _source(line: Line) -> str:
    before = f"; the record of that build: {line['head'][:12]}" if line["head"] else ""
    commit = (line["commit"] or "no commit")[:12]
    return (
        f"{line['created_at']}  deploys build {line['build']} again: {commit}, "
        f"pipeline {line['snapshot'][:12]}{before}"
    )


def _check(line: Line) -> str:
    return f"{_step(line)}; of build {line['build']}"


def _open(line: Line) -> str:
    return f"{line['at']}  open: {line['cause']}"


def _end(line: Line) -> str:
    return f"{line['at']}  {line['state']}: {line['cause']} (fault: {line['fault']})"


_SAY: dict[str, Callable[[Line], str]] = {
    "build": _build,
    "move": _move,
    "step": _step,
    "accepted": _accepted,
    "gate": _gate,
    "approved": _approved,
    "started": _started,
    "deploy": _deploy,
    "end": _end,
    "open": _open,
    "source": _source,
    "check": _check,
}
