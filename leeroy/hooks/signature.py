"""
What a signature is worth: HMAC-SHA256 under one of the secrets, compared in constant time.

An empty secret verifies nothing, nor does a signature that is missing, empty
(Gitea sends such a one when its hook has no secret) or of another length.
"""

from __future__ import annotations

import hmac
import re

_DIGEST = re.compile(r"[0-9a-f]{64}\Z", re.I)
_NAMED = re.compile(r"sha256=([0-9a-f]{64})\Z", re.I)


def named(value: str | None) -> str | None:
    """The digest in a header such as `sha256=757107ea…`."""
    found = _NAMED.match((value or "").strip())
    return found[1] if found else None


def bare(value: str | None) -> str | None:
    """The digest in a header that holds nothing else."""
    stripped = (value or "").strip()
    return stripped if _DIGEST.match(stripped) else None


def signed(secrets: tuple[str, ...], digest: str | None, body: bytes) -> bool:
    """Whether *digest* (64 hexadecimal digits) was made of *body* with one of *secrets*."""
    if digest is None:
        return False
    claimed = bytes.fromhex(digest)
    found = [
        hmac.compare_digest(hmac.digest(octets(secret), body, "sha256"), claimed)
        for secret in secrets
        if secret
    ]
    return any(found)


def octets(secret: str) -> bytes:
    """A secret as the bytes it was read from."""
    return secret.encode(errors="surrogateescape")
