"""
Every error Leeroy raises on purpose: what is, why, and what to do about it.

    LeeroyError                     the root; `code` (API), `exit_code` (CLI), `status` (HTTP)
    ├── NotPossible                 the build's state does not allow it (too late)
    │   └── IllegalMove             the table of moves has no such move
    ├── Overtaken                   somebody moved the build first; read it again
    ├── NotFound                    no such build, pipeline or environment
    ├── Invalid                     what was asked makes no sense
    │   └── ConfigError             a mistake in a file: file, line, key and remedy
    ├── NotAllowed                  a token is missing, unknown, or its role is too small
    └── Unavailable                 no answer from the server or the database
"""

from __future__ import annotations

from dataclasses import dataclass


class LeeroyError(Exception):
    """The root of every error raised on purpose; its text is a sentence for a person."""

    code = "failed"
    exit_code = 1
    status = 500


class NotPossible(LeeroyError):
    """The build's state does not allow it, for example because it is too late."""

    code = "not_possible"
    exit_code = 3
    status = 409


class IllegalMove(NotPossible):
    """The table of moves has no such move from the build's state."""


class Overtaken(LeeroyError):
    """Somebody else moved the build first: read it again and decide anew."""

    code = "overtaken"
    exit_code = 3
    status = 409

    def __init__(self, build_id: int, version: int) -> None:
        super().__init__(
            f"build {build_id} was moved by somebody else after version {version}; "
            "look at it again and decide anew"
        )
        self.build_id = build_id
        self.version = version


class NotFound(LeeroyError):
    """There is no such build, pipeline or environment."""

    code = "not_found"
    exit_code = 4
    status = 404


class Invalid(LeeroyError):
    """What was asked makes no sense, whatever the state of things."""

    code = "invalid"
    exit_code = 2
    status = 422


@dataclass(frozen=True)
class Mistake:
    """
    One mistake in a file: where it is, what is wrong, and the remedy.

    `line` counts from 1; 0 means the mistake has no line of its own.
    `warning` marks what is doubtful but does not stop the file from being used.
    """

    file: str
    line: int
    key: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.text}" if self.key else f"{where}: {self.text}"


class ConfigError(Invalid):
    """One or more mistakes in a file; `mistakes` names file, line, key and remedy of each."""

    code = "bad_config"
    exit_code = 1

    def __init__(self, *mistakes: Mistake) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = mistakes


class NotAllowed(LeeroyError):
    """A token is missing or unknown (`status` 401), or its role is too small (403)."""

    code = "not_allowed"
    exit_code = 6
    status = 403


class Unavailable(LeeroyError):
    """No answer from the server or the database; nothing is known to have changed."""

    code = "unavailable"
    exit_code = 5
    status = 503
