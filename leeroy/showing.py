"""How answers look: JSON for programs, lines for people, colours only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from typing import Any, TextIO

from leeroy.notify.words import one_line, plain

_COLOURS = {
    "done": "32",
    "passed": "32",
    "failed": "31",
    "deploy_failed": "31",
    "interrupted": "31",
    "building": "33",
    "deploying": "33",
    "deploy_pending": "33",
    "cancelled": "90",
    "superseded": "90",
}


def colourful(stream: TextIO) -> bool:
    """Whether a stream is a terminal that wants colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def state(word: str, width: int = 0) -> str:
    """A state, coloured on a terminal."""
    padded = word.ljust(width)
    code = _COLOURS.get(word)
    return f"\x1b[{code}m{padded}\x1b[0m" if code and colourful(sys.stdout) else padded


def out(text: str) -> None:
    """A line on stdout."""
    sys.stdout.write(text + "\n")


def say(text: str) -> None:
    """A line on stderr: for people, whatever goes to stdout."""
    sys.stderr.write(text + "\n")


def as_json(value: Any) -> None:
    """One object or array on stdout."""
    out(json.dumps(value, indent=2, ensure_ascii=False))


def log_bytes(data: bytes) -> None:
    """A piece of a log; on a terminal without what could move the cursor or steal clicks."""
    if sys.stdout.isatty():
        sys.stdout.write(plain(data.decode("utf-8", "replace")))
        sys.stdout.flush()
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def when(text: str | None) -> str:
    """A moment of the API, in local time."""
    if text is None:
        return ""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def short(build: dict[str, Any]) -> str:
    """A build in one line."""
    ref = build["tag"] or build["branch"] or ""
    commit = (build["commit"] or "")[:8]
    message = one_line((build["message"] or "").partition("\n")[0], 60)
    where = f" → {build['environment']}" if build["environment"] else ""
    parts = [f"{build['id']:>5}", state(build["state"], 14), f"{build['pipeline']}{where}"]
    if (number := build["pull_request"]) is not None:
        ref = f"{one_line(ref, 40)} (pull request {number})"
    line = "  ".join([*parts, one_line(ref, 70), commit, message]).rstrip()
    if number is not None and build["state"] == "queued" and build["waiting_for"]:
        # A fork's waits for a person: whoever looks at the list is the one to know.
        line += f"\n{'':>7}waits: {one_line(build['waiting_for'], 300)}"
    return line


def whole(build: dict[str, Any]) -> str:
    """A build with its steps."""
    lines = [f"build {build['id']} of {build['pipeline']}: {state(build['state'])}"]
    if build["waiting_for"]:
        lines.append(f"  waits: {plain(build['waiting_for'])}")
    if build["stop_requested"] and not build["finished_at"]:
        lines.append("  somebody asked to stop it")
    for label, key in (("commit", "commit"), ("branch", "branch"), ("tag", "tag"),
                       ("pull request", "pull_request"),
                       ("author", "author"), ("repository", "repository"), ("host", "host"),
                       ("environment", "environment")):  # fmt: skip
        if build[key]:
            lines.append(f"  {label:<13}{one_line(str(build[key]), 200)}")
    if build["message"]:
        lines.append(f"  {'message':<13}{one_line(build['message'].partition(chr(10))[0], 100)}")
    if build["source"]:
        lines.append(f"  {build['trigger']} of build {build['source']}")
    for label, key in (("accepted", "created_at"), ("started", "started_at"),
                       ("finished", "finished_at"), ("deploys at", "deploy_at")):  # fmt: skip
        if build[key]:
            lines.append(f"  {label:<13}{when(build[key])}")
    for step in build["steps"]:
        name = step["stage"] if step["name"] == step["stage"] else f"{step['stage']} {step['name']}"
        end = ""
        if step["reason"]:
            end = plain(step["reason"])
        elif step["signal"]:
            end = f"signal {step['signal']}"
        elif step["exit_code"]:
            end = f"exit {step['exit_code']}"
        again = f" (attempt {step['attempt']})" if step["attempt"] > 1 else ""
        lines.append(f"    {name + again:<30} {state(step['state'], 12)} {end}".rstrip())
    return "\n".join(lines)


def event(line: dict[str, Any]) -> str:
    """One move of a build."""
    where = f" ({line['environment']})" if line["environment"] else ""
    reason = f": {one_line(line['reason'], 500)}" if line["reason"] else ""
    moved = f"{line['move']} → {state(line['to'])}{where}"
    return f"{line['seq']:>3}  {when(line['at'])}  {moved}, {one_line(line['actor'], 100)}{reason}"


def environment(line: dict[str, Any]) -> str:
    """An environment in one line."""
    name = f"{line['pipeline']}/{line['environment']}" if line["pipeline"] else "all environments"
    runs = f"build {line['runs']} {(line['commit'] or '')[:8]}" if line["runs"] else "nothing yet"
    held = f"; build {line['held_by']} is there" if line["held_by"] else ""
    frozen = ""
    if line["frozen"]:
        why = f": {one_line(line['frozen']['reason'], 200)}" if line["frozen"]["reason"] else ""
        until = line["frozen"]["until"]
        until = f" until {when(until)}" if until else ""
        frozen = f"; frozen by {line['frozen']['by']}{until}{why}"
    if not line["pipeline"]:
        return f"{name}{frozen}"
    return f"{name:<30}{runs.rstrip()}{held}{frozen}"
