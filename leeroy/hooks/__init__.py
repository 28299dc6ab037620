"""
The doors for forges: headers and bytes in, a Delivery or an error out.

Pure: no socket, no database.  The HTTP edge finds the forge by the last part
of `/hooks/{forge}`, finds pipelines by `address`, asks `verify` with each of
their secrets on the raw body, and only then `parse`.

    github      GitHub and GitHub Enterprise Server
    payload     what every forge's body goes through: JSON, forms, checked values
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from leeroy.hooks import github
from leeroy.hooks.payload import BadPayload
from leeroy.model import Delivery

__all__ = ["FORGES", "BadPayload", "Forge", "address"]


class Forge(Protocol):
    """What a forge's module offers.  Header names come in lower case."""

    def verify(self, secret: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether *body* was signed with *secret*; False for an empty secret or signature."""

    def parse(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        """What the delivery says; BadPayload when it is none."""


FORGES: Final[Mapping[str, Forge]] = MappingProxyType({"github": github})
"""The forges by the last part of `/hooks/{forge}`."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>[^/]*)(?P<path>.*)\Z", re.I | re.S)
_SCP = re.compile(r"(?:[^@/:]*@)?(?P<host>\[[^\]/]*\]|[^/:\[\]@]+):(?P<path>.*)\Z", re.S)
_PORT = re.compile(r":[0-9]*\Z")


def address(url: str) -> str:
    """
    The normal form of a repository's address, by which two of them are compared.

    Host and path without case, `.git`, user, port and scheme; a local path
    (also as file://) as it stands.  Empty for an empty address, which must
    match nothing.
    """
    text = url.strip()
    if text.startswith(("/", "./", "../")) or not text:
        return text
    found = _URL.match(text)
    if found:
        if text[:7].lower() == "file://":
            return found["path"]
        host = _PORT.sub("", found["authority"].rpartition("@")[2])
    else:
        found = _SCP.match(text)
        if not found:
            return text
        host = found["host"]
    path = found["path"].strip("/").lower().removesuffix(".git").rstrip("/")
    return f"{host.lower()}/{path}"
