"""
The token in a stop link: whoever holds it may stop or hold one deploy, and nothing else.

`<build>-<environment's number>-<target>-<code>`: the code is an HMAC of the
rest with a key that only the database knows, so a crash between making and
sending a link makes the same link again, and nobody can guess one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

_TOKEN = re.compile(r"([0-9]{1,18})-([0-9]{1,3})-([0-9a-f]{6})-([a-z2-7]{26})")


@dataclass(frozen=True)
class Right:
    """What a token gives the right to; `target` is the code of who was sent it."""

    build_id: int
    environment: int
    target: str


def target_code(to: str) -> str:
    """A few letters that tell the targets of a build apart and show nothing of them."""
    return hashlib.sha256(to.encode()).hexdigest()[:6]


def token(key: bytes, build_id: int, environment: int, to: str) -> str:
    """The token for the target *to*; *environment* counts the pipeline's deploys from 0."""
    rest = f"{build_id}-{environment}-{target_code(to)}"
    return f"{rest}-{_code(key, rest)}"


def right(key: bytes, text: str) -> Right | None:
    """What the token gives the right to; None when it is none of ours."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        return None
    rest = text.rpartition("-")[0]
    if not hmac.compare_digest(_code(key, rest), found[4]):
        return None
    return Right(int(found[1]), int(found[2]), found[3])


def _code(key: bytes, rest: str) -> str:
    digest = hmac.new(key, f"stop {rest}".encode(), hashlib.sha256).digest()[:16]
    return base64.b32encode(digest).decode().rstrip("=").lower()
