"""
Reading a TOML file so that every mistake is named with its line, key and remedy.

`tomllib` tells no positions, so `lines` finds them; `Section` reads one table,
collects what is wrong instead of stopping at the first, and at its end names
the keys nobody asked for.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from leeroy.errors import Invalid, Mistake

T = TypeVar("T")
Path = tuple[str | int, ...]

_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*'))*)\s*"""
)
_PIECE = re.compile(r"""[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*'""")
_AT = re.compile(r"\(at line (\d+), column \d+\)")
_WORDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
    dict: "a table",
}


def _names(dotted: str) -> list[str]:
    return [piece.strip("\"'") for piece in _PIECE.findall(dotted)]


def lines(text: str) -> dict[Path, int]:
    """The line (from 1) of every table and key of a TOML text that is valid."""
    found: dict[Path, int] = {}
    counts: dict[tuple[str, ...], int] = {}
    here: Path = ()
    rows = text.split("\n")
    number = 0
    while number < len(rows):
        row, start = rows[number], number + 1
        number += 1
        bare = row.strip()
        if not bare or bare.startswith("#"):
            continue
        if bare.startswith("["):
            key = _KEY.match(bare.lstrip("["))
            names = _names(key[1]) if key else []
            here = tuple(names)
            if bare.startswith("[["):
                index = counts.get(tuple(names), 0)
                counts[tuple(names)] = index + 1
                here = (*names, index)
            found[here] = start
            continue
        key = _KEY.match(row)
        if key is None:
            continue
        found[(*here, *_names(key[1]))] = start
        number = _end_of_value(rows, number - 1, key.end() + 1) + 1
    return found


def _end_of_value(rows: Sequence[str], number: int, column: int) -> int:
    """The row on which the value that starts there ends."""
    depth, quote = 0, ""
    while number < len(rows):
        row = rows[number]
        while column < len(row):
            if quote:
                if quote[0] == '"' and row[column] == "\\":
                    column += 2
                elif row.startswith(quote, column):
                    column += len(quote)
                    # a multi-line string may end in up to five quotes
                    while len(quote) == 3 and row.startswith(quote[0], column):
                        column += 1
                    quote = ""
                else:
                    column += 1
                continue
            letter = row[column]
            if letter == "#":
                break
            if letter in "\"'":
                quote = letter * 3 if row.startswith(letter * 3, column) else letter
                column += len(quote)
                continue
            depth += (letter in "[{") - (letter in "]}")
            column += 1
        if depth <= 0 and len(quote) != 3:
            return number
        number, column = number + 1, 0
        if len(quote) == 1:
            quote = ""
    return len(rows)


class File:
    """A TOML text, what it says, and the mistakes found in it so far."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.mistakes: list[Mistake] = []
        self.data: dict[str, Any] = {}
        self._lines: dict[Path, int] = {}
        try:
            self.data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as exc:
            at = _AT.search(str(exc))
            line = int(at[1]) if at else len(text.splitlines())
            what = _AT.sub("", str(exc)).replace("(at end of document)", "").strip()
            self.mistakes.append(Mistake(file, line, "", f"this is no TOML: {what}"))
        except RecursionError:
            self.mistakes.append(Mistake(file, 0, "", "its values are nested too deeply"))
        else:
            self._lines = lines(text)

    def wrong(self, path: Path, text: str, *, warning: bool = False) -> None:
        """Note a mistake at *path*."""
        at = path
        while at and at not in self._lines:
            if (*at, 0) in self._lines:  # the first of several tables of that name
                at = (*at, 0)
                break
            at = at[:-1]
        key = ".".join(str(part) for part in path if isinstance(part, str))
        self.mistakes.append(Mistake(self.file, self._lines.get(at, 0), key, text, warning))

    @property
    def root(self) -> Section:
        """The file as one table."""
        return Section(self, (), self.data)


class Section:
    """One table of a file; whoever reads it calls `finish` at the end."""

    def __init__(self, file: File, path: Path, data: Mapping[str, Any]) -> None:
        self.file = file
        self.path = path
        self.data = data
        self._known: list[str] = []

    def wrong(self, key: str, text: str, *, warning: bool = False) -> None:
        """Note a mistake at a key of this table."""
        path = (*self.path, key) if key else self.path
        self.file.wrong(path, text, warning=warning)

    def get(self, key: str, kind: type[T], default: T) -> T:
        """The value of a key, or *default* where it is missing or of the wrong type."""
        self._known.append(key)
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            got = _WORDS.get(type(value), f"{type(value).__name__}")
            self.wrong(key, f"must be {_WORDS[kind]}, and is {got}")
            return default
        return value

    def text(self, key: str, default: str | None = None) -> str | None:
        """A text without NUL, or *default*."""
        value: str = self.get(key, str, "")
        if key not in self.data or not isinstance(self.data[key], str):
            return default
        if "\0" in value:
            self.wrong(key, "contains a NUL character; remove it")
            return default
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts, or None where there is none."""
        found: list[Any] = self.get(key, list, [])
        if key not in self.data or not isinstance(self.data[key], list):
            return None
        if not all(isinstance(item, str) and item and "\0" not in item for item in found):
            self.wrong(key, "must be a list of texts, none of them empty")
            return None
        return tuple(found)

    def choice(self, key: str, words: Sequence[str], default: str) -> str:
        """One of *words*."""
        value = self.text(key)
        if value is None:
            return default
        if value not in words:
            hint = f"; did you mean {near[0]!r}?" if (near := close(value, words)) else ""
            allowed = ", ".join(repr(word) for word in words)
            self.wrong(key, f"{value!r} is none of {allowed}{hint}")
            return default
        return value

    def measured(self, key: str, measure: Callable[[str], T], default: T) -> T:
        """A length of time or a size, by *measure*."""
        value = self.data.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._known.append(key)
            value = str(value)  # without a unit: the sentence below says how to write one
        else:
            value = self.text(key)
        if value is None:
            return default
        try:
            return measure(value)
        except Invalid as exc:
            self.wrong(key, str(exc))
            return default

    def strings(self, key: str) -> dict[str, str]:
        """A table of texts."""
        found: dict[str, Any] = self.get(key, dict, {})
        kept: dict[str, str] = {}
        for name, value in found.items():
            if isinstance(value, str) and "\0" not in value:
                kept[name] = value
            else:
                self.file.wrong((*self.path, key, name), "must be a text; put it into quotes")
        return kept

    def sections(self, key: str) -> list[Section]:
        """Every `[[key]]`."""
        found: list[Any] = self.get(key, list, [])
        if not isinstance(self.data.get(key, []), list):
            return []
        if not all(isinstance(item, dict) for item in found):
            self.wrong(key, f"must be written as [[{key}]]")
            return []
        return [Section(self.file, (*self.path, key, i), item) for i, item in enumerate(found)]

    def finish(self) -> None:
        """Name every key that nobody asked for."""
        for key in self.data:
            if key not in self._known:
                near = close(key, self._known)
                hint = f"did you mean {near[0]!r}?" if near else "remove it"
                self.wrong(key, f"there is no such key here; {hint}")


def close(word: str, words: Sequence[str]) -> list[str]:
    """The one of *words* that was probably meant, if any."""
    return difflib.get_close_matches(word, words, n=1, cutoff=0.6)
