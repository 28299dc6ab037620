"""
The doors for forges: headers and bytes in, a Delivery or an error out.

Pure: no socket, no database.  The HTTP edge finds the forge by the last part
of `/hooks/{forge}`, finds pipelines by `address`, asks `verify` with each of
their secrets on the raw body, and only then `parse`.

    github      GitHub and GitHub Enterprise Server
    payload     what every forge's body goes through: JSON, forms, checked values
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from leeroy.hooks import github
from leeroy.hooks.payload import BadPayload
from leeroy.model import Delivery
from leeroy.refs import address

__all__ = ["FORGES", "BadPayload", "Forge", "address"]


class Forge(Protocol):
    """What a forge's module offers.  Header names come in lower case."""

    def verify(self, secret: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether *body* was signed with *secret*; False for an empty secret or signature."""

    def parse(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        """What the delivery says; BadPayload when it is none."""


FORGES: Final[Mapping[str, Forge]] = MappingProxyType({"github": github})
"""The forges by the last part of `/hooks/{forge}`."""
