"""How the help is laid out, and how a build is named on the command line."""

from __future__ import annotations

import re
from typing import Any, Final

import typer
from typer.core import TyperGroup

MAINTENANCE: Final = frozenset({"migrate", "states", "backup", "crashtest", "replay"})
"""The commands that are seldom needed; the help shows them last."""

_PAGE = re.compile(r"(?:#|https?://\S+/builds/)?([0-9]{1,18})/?")


def build_id(text: str) -> int:
    """The number in `12`, `#12` or the address of a build's page."""
    found = _PAGE.fullmatch(str(text))
    if found is None or int(found[1]) < 1:
        raise typer.BadParameter(f"{text!r} is no build; write its number, such as 12")
    return int(found[1])


class Everyday(TyperGroup):
    """A group whose help shows what is used every day first, and maintenance under its own name."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, in two lists."""
        every = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        listed = [(name, command) for name, command in every if command and not command.hidden]
        room = formatter.width - 6 - max((len(name) for name, _ in listed), default=0)
        for heading, seldom in (("Commands", False), ("Maintenance", True)):
            rows = [
                (name, command.get_short_help_str(room))
                for name, command in listed
                if (name in MAINTENANCE) is seldom
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
