"""
Secrets in a script's output, made unreadable wherever the output is cut into pieces.

A secret is found whole, line by line, in base64 at any alignment, and in URL
encoding.  What a script does to a secret beyond that (reversing it, printing
it letter by letter) is not found: masking is a net, not a wall.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = b"***"
SHORTEST = 4
"""A shorter secret is not masked: it would black out half the log, and tell what it is thereby."""


class Masker:
    """
    Masks one stream.  `held` bytes of what was fed are still kept back.

    Only what may be the beginning of a secret is kept back, so that a log is
    seen as it is written.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._forms = forms(secrets)
        self._kept = b""
        self._after_gap = False

    @property
    def held(self) -> int:
        """How many bytes were fed and not yet given back."""
        return len(self._kept)

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """*data*, with what was held before it, as far as it is certain; all of it when *final*."""
        if not self._forms:
            return data
        data = self._kept + data
        self._kept = b""
        spans = self._spans(data)
        if self._after_gap and data:
            spans += self._torn_front(data)
            self._after_gap = False
        cut = len(data) if final else self._cut(data, spans)
        self._kept = data[cut:]
        return _masked(data[:cut], spans)

    def gap(self) -> bytes:
        """
        What is still held, before a hole in the stream; then expect the hole.

        Half a secret on either side of the hole is masked, too.
        """
        kept, self._kept = self._kept, b""
        self._after_gap = True
        return MASK if kept else b""

    def _spans(self, data: bytes) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        for form in self._forms:
            at = data.find(form)
            while at >= 0:
                spans.append((at, at + len(form)))
                at = data.find(form, at + 1)
        return spans

    def _cut(self, data: bytes, spans: list[tuple[int, int]]) -> int:
        # From here on it may be the beginning of a secret that the next bytes complete.
        cut = len(data)
        for form in self._forms:
            for length in range(min(len(form) - 1, len(data)), 0, -1):
                if data.endswith(form[:length]):
                    cut = min(cut, len(data) - length)
                    break
        for start, stop in sorted(spans, reverse=True):
            if start < cut < stop:
                cut = start
        return cut

    def _torn_front(self, data: bytes) -> list[tuple[int, int]]:
        longest = 0
        for form in self._forms:
            for length in range(min(len(form) - 1, len(data)), longest, -1):
                if length >= SHORTEST and data.startswith(form[-length:]):
                    longest = length
                    break
        return [(0, longest)] if longest else []


def forms(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """Every spelling in which the secrets are looked for, the longest first."""
    found: set[bytes] = set()
    for secret in secrets:
        for text in {secret, secret.strip(), *(line.strip() for line in secret.splitlines())}:
            raw = text.encode("utf-8", "surrogateescape")
            if len(text) < SHORTEST:
                continue
            found |= {raw, raw.replace(b"\n", b"\r\n")}
            for coded in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
                found.add(coded.encode())
            found |= set(_base64(raw))
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


def _base64(raw: bytes) -> Iterable[bytes]:
    # What stands before a secret shifts its base64 by 0, 1 or 2 bytes; the letters at its ends
    # also depend on its neighbours, so they are left out.
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded = encode(b"\0" * shift + raw)
            first = (shift * 8 + 5) // 6
            last = (shift + len(raw)) * 8 // 6
            if last - first >= 2 * SHORTEST:
                yield coded[first:last]


def _masked(data: bytes, spans: list[tuple[int, int]]) -> bytes:
    if not spans:
        return data
    parts: list[bytes] = []
    at = 0
    for start, stop in sorted(spans):
        if start >= len(data):
            break
        if start >= at and (start > at or not parts):
            parts += [data[at:start], MASK]
        at = max(at, stop)
    parts.append(data[at:])
    return b"".join(parts)
