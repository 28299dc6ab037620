"""
What Leeroy tells forges: requests as values, answers understood; and the wire that carries them.

    place         which forge has a repository, and where its API is
    talk          a conversation without a socket; what a refusal means
    values        a status, a comment, a deployment, a webhook, in no forge's words
    github gitlab bitbucket datacenter gitea     each forge's own words, limits and keys; pure
    alike         what GitHub's API and Gitea's have in common
    steady        one comment that stays one; lists read calmly
    wire          HTTP: deadlines, no token to another host

No database here, and no decision about what is told when.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, Protocol

from leeroy.forges import bitbucket, datacenter, gitea, github, gitlab
from leeroy.forges.place import Place
from leeroy.forges.talk import Talk
from leeroy.forges.values import Comment, Failed, Hook, Registered, Status

__all__ = ["FORGES", "KEEPERS", "Forge", "Keeper"]


class Forge(Protocol):
    """What a forge's module offers."""

    @property
    def EVENTS(self) -> tuple[str, ...]:
        """What a webhook of Leeroy's subscribes to."""

    @property
    def DEPLOYS(self) -> bool:
        """Whether it shows deployments."""

    def headers(self, token: str) -> Mapping[str, str]:
        """What every request carries, the token among it."""

    def status(self, place: Place, told: Status) -> Talk[None]:
        """Say how a commit stands."""

    def comment(self, place: Place, told: Comment) -> Talk[str]:
        """Make or edit the one comment on a pull request; its id."""

    def close(self, place: Place, number: int, commit: str) -> Talk[str | None]:
        """Close a pull request whose head is still *commit*; else why it was left as it is."""

    def register(self, place: Place, hook: Hook) -> Talk[Registered]:
        """Make the webhook, or bring the one with the same address up to date."""


class Keeper(Protocol):
    """What the module of a forge offers that keeps its deliveries, and sends them again."""

    @property
    def RESENDS(self) -> tuple[int, float]:
        """How many it sends again in how many seconds."""

    def headers(self, token: str) -> Mapping[str, str]:
        """What every request carries, the token among it."""

    def failed(self, place: Place, url: str, since: datetime) -> Talk[list[Failed]]:
        """The deliveries of pull requests to *url* since then that never got through."""

    def holds(self, place: Place, one: Failed) -> Talk[int | None]:
        """The number of the pull request it tells of, if that is still as told; else None."""

    def again(self, place: Place, one: Failed) -> Talk[None]:
        """Have it sent once more, with the id it had."""


FORGES: Final[Mapping[str, Forge]] = MappingProxyType(
    {
        "github": github,
        "gitlab": gitlab,
        "bitbucket": bitbucket,
        "datacenter": datacenter,
        "gitea": gitea,
    }
)
"""The forges by `Place.forge`."""
KEEPERS: Final[Mapping[str, Keeper]] = MappingProxyType({"github": github, "gitlab": gitlab})
"""Those that keep their deliveries, by `Place.forge`."""
