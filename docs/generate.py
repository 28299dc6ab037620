"""Writes the pages that are drawn from the code: `python -m docs.generate`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from leeroy import machine
from leeroy.cli import upkeep
from leeroy.cli.app import app
from leeroy.terms import OVER, State

FOLDER = Path(__file__).resolve().parent
MADE = "<!-- made by `python -m docs.generate`; change the code instead -->\n\n"


def _words(states: Iterable[State]) -> str:
    return ", ".join(f"`{state}`" for state in states)


def states() -> str:
    """docs/states.md."""
    rows = [
        f"| `{edge.move}` | {_words(edge.sources)} → `{edge.dest}` | {edge.when} |"
        for edge in machine.TABLE
    ]
    over = _words(state for state in State if state in OVER)
    return (
        f"# The states and moves of a build\n\n{MADE}"
        f"```mermaid\n{machine.mermaid()}\n```\n\n"
        "| move | from → to | when |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        f"No move leads out of {over}.\n"
        "`leeroy events ID` shows the moves a build made, who caused each, and why.\n"
    )


def commands() -> str:
    """docs/commands.md."""
    upkeep.add(app)
    parts = [f"# Every command\n\n{MADE}"]
    group = typer.main.get_command(app)
    parts += _of(group, "leeroy")
    return "".join(parts).rstrip() + "\n"


def _of(group: object, name: str) -> list[str]:
    parts: list[str] = []
    for word, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        full = f"{name} {word}"
        if hasattr(command, "commands"):
            parts += _of(command, full)
            continue
        arguments = [
            p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"
        ]
        parts.append(f"## {' '.join([full, *arguments])}\n\n{command.help.strip()}\n\n")
        for option in command.params:
            if option.param_type_name == "argument" or option.name == "help":
                continue
            names = ", ".join(f"`{one}`" for one in option.opts)
            parts.append(f"- {names} {option.help or option.metavar or ''}".rstrip() + "\n")
        parts.append("\n")
    return parts


PAGES = {"states.md": states, "commands.md": commands}


if __name__ == "__main__":
    for page, make in PAGES.items():
        (FOLDER / page).write_text(make(), encoding="utf-8")
