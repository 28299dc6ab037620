"""
Foreign text made harmless: what a stranger writes into a commit stays data.

A commit's title, an author, a branch or a log can hold anything: terminal
sequences, line ends that would start a new mail header, characters that turn
the direction of the text around.  Nothing here knows what a notice says.
"""

from __future__ import annotations

import re
import unicodedata

_SEQUENCES = re.compile(
    # An unfinished string ends with its line, so that it cannot swallow the rest of a log.
    r"\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC: titles, links, the clipboard
    r"|\x1b[PX^_][^\x1b\n]*(?:\x1b\\)?"  # strings for the terminal itself
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, the cursor
    r"|\x1b[ -/]*[0-~]?"
)
_BLANKS = re.compile(r"\s+")
_KEPT = "\u200d"
"""The joiner inside emoji; like every other invisible character of the kind, but of use."""

_GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_TWO = "^{}\\[~]|€"
"""These take two places in an SMS."""

_SPOKEN = str.maketrans(
    {
        letter: spoken
        for letters, spoken in (
            ("\u201c\u201d\u201e\u00ab\u00bb", '"'),  # quotation marks
            ("\u2018\u2019\u201a\u0060\u00b4", "'"),  # single ones, accents, the apostrophe
            ("\u2010\u2011\u2013\u2014\u2212", "-"),  # hyphens, dashes, minus
            ("\u2026", "..."),
            ("\u2192", "->"),
            ("\u2190", "<-"),
            ("\u2022\u00b7", "*"),
            ("\u00d7", "x"),
            ("\u0153", "oe"),
            ("\u0152", "OE"),
            ("\u0142", "l"),  # letters that do not decompose into a bare one and its mark
            ("\u0141", "L"),
            ("\u0111\u00f0", "d"),
            ("\u0110\u00d0", "D"),
            ("\u00fe", "th"),
            ("\u00de", "Th"),
            ("\u0131", "i"),
            ("\u1e9e", "SS"),
        )
        for letter in letters
    }
)


def _harmless(character: str) -> bool:
    if character in "\n\t" or character == _KEPT:
        return True
    # Cc, Cf: controls and direction; Cs: half a character; Zl, Zp: line ends nobody sees.
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def plain(text: str) -> str:
    """The text without terminal sequences, controls and direction marks; line ends are `\\n`."""
    text = _SEQUENCES.sub("", text.replace("\r\n", "\n"))
    text = text.replace("\u2028", "\n").replace("\u2029", "\n")
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    return "".join(filter(_harmless, "\n".join(lines)))


def one_line(text: str, limit: int = 200) -> str:
    """The text, harmless, on one line, and cut to *limit* characters."""
    text = text[: limit * 20].replace("\r", " ")
    return cut(_BLANKS.sub(" ", plain(text)).strip(), limit)


def cut(text: str, limit: int) -> str:
    """At most *limit* characters of the text; an ellipsis says that it was cut."""
    if len(text) <= limit:
        return text
    return text[: max(limit - 1, 0)].rstrip() + "…" if limit > 0 else ""


def tail(log: str, lines: int = 30, characters: int = 2500, width: int = 300) -> str:
    """The last lines of a log, harmless; each is cut, and the newest win."""
    kept: list[str] = []
    for line in reversed(plain(log[-(lines * width * 8) :]).rstrip().split("\n")[-lines:]):
        line = cut(line.replace("\t", "    ").rstrip(), width)
        characters -= len(line) + 1
        if characters < 0:
            break
        kept.append(line)
    return "\n".join(reversed(kept))


def gsm(text: str) -> str:
    """The text in the letters an SMS of 160 has; what has no likeness becomes `?`."""
    found: list[str] = []
    for character in text.translate(_SPOKEN):
        if character in _GSM or character in _GSM_TWO:
            found.append(character)
            continue
        bare = "".join(
            part
            for part in unicodedata.normalize("NFKD", character)
            if not unicodedata.combining(part)
        )
        known = bare and all(part in _GSM or part in _GSM_TWO for part in bare)
        found.append(bare if known else " " if character.isspace() else "?")
    return "".join(found)


def gsm_length(text: str) -> int:
    """How many of an SMS's 160 places the text takes."""
    return sum(2 if character in _GSM_TWO else 1 for character in text)


def gsm_cut(text: str, places: int) -> str:
    """As much of the text as fits into so many places; two dots say that it was cut."""
    if gsm_length(text) <= places:
        return text
    while text and gsm_length(text) > places - 2:
        text = text[:-1]
    return text.rstrip() + ".." if places >= 2 else ""
