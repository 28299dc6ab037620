"""
The doors for forges: headers and bytes in, a Delivery or an error out.

Pure: no socket, no database.  The HTTP edge finds the forge by the last part
of `/hooks/{forge}`, asks `verify` with each pipeline's secrets on the raw body,
only then `parse`, and finds the pipelines that are `meant` by its repository.

    github      GitHub and GitHub Enterprise Server
    gitlab      GitLab: projects, groups, instances
    bitbucket   Bitbucket Cloud;  datacenter: Bitbucket Data Center and Server
    gitea       Gitea, Forgejo (Codeberg), Gogs
    request     pull requests as GitHub and Gitea tell them alike
    change      what moved, as all of them tell it in the end
    signature   what a signature is worth
    payload     what every forge's body goes through: JSON, forms, checked values
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, Protocol

from leeroy.errors import ConfigError
from leeroy.hooks import bitbucket, gitea, github, gitlab
from leeroy.hooks.payload import BadPayload
from leeroy.model import Delivery
from leeroy.refs import address

__all__ = ["FORGES", "BadPayload", "Chosen", "Forge", "address", "admits", "chosen", "meant"]


class Forge(Protocol):
    """What a forge's module offers.  Header names come in lower case."""

    def verify(
        self, secrets: tuple[str, ...], headers: Mapping[str, str], body: bytes, now: datetime
    ) -> bool:
        """
        Whether *body* was signed with one of a pipeline's *secrets*; never with an empty one.

        *now* is compared with the time of signing where the forge tells it.
        """

    def parse(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        """What the delivery says; BadPayload when it is none."""


FORGES: Final[Mapping[str, Forge]] = MappingProxyType(
    {"github": github, "gitlab": gitlab, "bitbucket": bitbucket, "gitea": gitea}
)
"""The forges by the last part of `/hooks/{forge}`."""


def admits(door: str, forge: str | None, secrets: tuple[str, ...]) -> bool:
    """
    Whether a pipeline takes deliveries at the door `/hooks/{door}`, however well they are signed.

    Where its *forge* is known, at that one's door only: what a secret proves
    there (GitLab's is shown, GitHub's signs) it does not prove elsewhere.  Where
    it is not, at any door, until one of its *secrets* is GitLab's signing token.
    """
    if forge is not None:
        return door == forge
    return door == "gitlab" or not any(gitlab.signing(secret) for secret in secrets)


@dataclass(frozen=True)
class Chosen:
    """The secret a webhook is to be given, by its reference; `signs`: it is GitLab's token."""

    reference: str
    signs: bool


def chosen(references: Sequence[str], forge: str | None, get: Callable[[str], str]) -> Chosen:
    """
    The first of a pipeline's secrets; on GitLab (or nobody knows where) the signing token.

    For as soon as one is among them, no delivery counts that is not signed with it.
    """
    for reference in references if forge in (None, "gitlab") else ():
        try:
            if gitlab.signing(get(reference)):
                return Chosen(reference, signs=True)
        except ConfigError:
            continue  # not needed to know what to enter; whoever needs it says so
    return Chosen(references[0], signs=False)


def meant(delivery: Delivery, repository: str | None) -> bool:
    """
    Whether the delivery is of the pipeline's *repository*.

    `//PRJ/shop` is that repository on any host, for a forge that tells no
    address of its own.
    """
    own = address(repository or "")
    if not own:
        return False
    path = own.partition("/")[2].removeprefix("scm/")
    return any(
        path == told[2:].lower() if told.startswith("//") else own == address(told)
        for told in delivery.addresses
    )
