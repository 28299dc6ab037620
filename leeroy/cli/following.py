"""Waiting for a build, with its countdown; following a log."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from typing import Any

from leeroy import showing
from leeroy.cli.asking import Leeroy
from leeroy.errors import Unavailable
from leeroy.notify.words import one_line
from leeroy.terms import OVER

LOOK_S = 0.3
PATIENCE = 100
"""So many looks in a row may fail (a restart of the server) before we give up."""
_OVER = {str(state) for state in OVER}


def until_over(leeroy: Leeroy, build: dict[str, Any], *, confirm: bool) -> dict[str, Any]:
    """
    The build when it is over, or interrupted: nobody knows when a person will say.

    With *confirm* each announcement shown here counts as heard: whoever waits
    was told.
    """
    line = _Line()
    seen, failures = -1, 0
    waits: tuple[int, str | None] | None = None
    pause = threading.Event()
    while True:
        try:
            build = leeroy.call("show", id=build["id"])
            failures = 0
        except Unavailable:
            failures += 1
            if failures > PATIENCE:
                raise
            pause.wait(LOOK_S)
            continue
        if build["version"] != seen:
            seen = build["version"]
            line.end()
            showing.say(f"build {build['id']}: {build['state']}{_where(build)}")
            if confirm and build["state"] == "deploy_pending":
                _confirm(leeroy, build)
        elif build["state"] == "deploy_pending" and waits != (seen, build["deploy_at"]):
            # A look later, so that the announcement just confirmed has its time.
            waits = (seen, build["deploy_at"])
            line.end()
            showing.say(f"build {build['id']}: {_until(build)}")
        if build["state"] in _OVER or build["state"] == "interrupted":
            line.end()
            return build
        line.show(_progress(build))
        pause.wait(LOOK_S)


def _confirm(leeroy: Leeroy, build: dict[str, Any]) -> None:
    events = leeroy.call("events", id=build["id"])
    told = [e["seq"] for e in events if e["to"] == "deploy_pending" and e["move"] != "hold"]
    if told:
        showing.say(f"stop it: leeroy cancel {build['id']}")
        leeroy.call("confirm", id=build["id"], seq=told[-1])


def _where(build: dict[str, Any]) -> str:
    return f" ({build['environment']})" if build["environment"] else ""


def _until(build: dict[str, Any]) -> str:
    if build["deploy_at"]:
        at = datetime.fromisoformat(build["deploy_at"])
        left = max((at - datetime.now(UTC)).total_seconds(), 0.0)
        when = showing.when(build["deploy_at"])
        return f"{build['environment']} not before {when}, in {int(left) + 1} s"
    return f"waits: {one_line(build['waiting_for'] or 'to be decided', 200)}"


def _progress(build: dict[str, Any]) -> str:
    if build["deploy_at"]:
        at = datetime.fromisoformat(build["deploy_at"])
        left = (at - datetime.now(UTC)).total_seconds()
        if left > 0:
            return f"{build['environment']} in {int(left) + 1} s; stop: leeroy cancel {build['id']}"
    if build["waiting_for"]:
        return f"waits: {one_line(build['waiting_for'], 100)}"
    running = [s for s in build["steps"] if s["state"] == "running"]
    return f"{running[-1]['stage']} {running[-1]['name']} runs" if running else build["state"]


class _Line:
    """A line that is written over, on a terminal; elsewhere nothing."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._shown = True

    def end(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            self._shown = False


def log(leeroy: Leeroy, build_id: int, step: str | None, *, follow: bool) -> None:
    """Print a log as it is, or until its build is over."""
    cursor, failures = "", 0
    pause = threading.Event()
    while True:
        try:
            data, cursor_now, over = leeroy.log(build_id, step, cursor)
            failures = 0
        except Unavailable:
            failures += 1
            if not follow or failures > PATIENCE:
                raise
            pause.wait(LOOK_S)
            continue
        showing.log_bytes(data)
        still = not data or cursor_now == cursor
        cursor = cursor_now
        if still and (over or not follow):
            return
        if still:
            pause.wait(LOOK_S)
