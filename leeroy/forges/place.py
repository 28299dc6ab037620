"""
Where a repository's API is: which forge, its base address, and the repository's name there.

Pure.  The forge is known by its host, by the pipeline's `api` key, or by the
webhook that told of the build.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from leeroy.forges.talk import Request

LABELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "github": "GitHub",
        "gitlab": "GitLab",
        "bitbucket": "Bitbucket",
        "datacenter": "Bitbucket Data Center",
        "gitea": "Gitea",
    }
)
"""What people call each forge; Forgejo's API is Gitea's."""

_HOSTS: Final = MappingProxyType(
    {
        "github.com": ("github", "https://api.github.com"),
        "ssh.github.com": ("github", "https://api.github.com"),
        "gitlab.com": ("gitlab", "https://gitlab.com/api/v4"),
        "altssh.gitlab.com": ("gitlab", "https://gitlab.com/api/v4"),
        "bitbucket.org": ("bitbucket", "https://api.bitbucket.org/2.0"),
        "altssh.bitbucket.org": ("bitbucket", "https://api.bitbucket.org/2.0"),
        "codeberg.org": ("gitea", "https://codeberg.org/api/v1"),
        "gitea.com": ("gitea", "https://gitea.com/api/v1"),
    }
)
_BASES: Final = MappingProxyType(
    {
        "github": "/api/v3",
        "gitlab": "/api/v4",
        "datacenter": "/rest",
        "gitea": "/api/v1",
    }
)
"""What follows the host (and a root of its own) in the API's address of a server of one's own."""

_SCP = re.compile(r"(?:[^@/:]*@)?(?P<host>\[[^\]/]*\]|[^/:\[\]@]+):(?P<path>.*)\Z", re.S)
_URL = re.compile(r"(https?|ssh|git)://", re.I)
_NAME = re.compile(r"[^\x00-\x20\x7f?#\\]+\Z")


@dataclass(frozen=True)
class Place:
    """
    A repository on a forge.

    `forge` is a key of `LABELS`, `api` the base address of its REST API
    without a slash at the end, `path` the repository's full name there
    (owner/name; GitLab: with every group).
    """

    forge: str
    api: str
    path: str

    @property
    def owner(self) -> str:
        """Whose it is, percent-encoded for a path."""
        return quote(self.path.rpartition("/")[0], safe="~")

    @property
    def name(self) -> str:
        """Its own name, percent-encoded for a path."""
        return quote(self.path.rpartition("/")[2], safe="~")

    @property
    def who(self) -> str:
        """The forge and its host, for people."""
        return f"{LABELS[self.forge]} ({urlsplit(self.api).netloc})"

    def beside(self, path: str) -> Place:
        """Another repository on the same forge."""
        return Place(self.forge, self.api, path)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        what: str,
        needs: str = "",
    ) -> Request:
        """A request to *path* below the API's base."""
        return Request(
            method=method,
            url=f"{self.api}{path}",
            body=body,
            who=self.who,
            what=f"{what} of {self.path}",
            needs=needs,
        )


def find(repository: str | None, api: str | None, told: str | None) -> Place | None:
    """
    Where *repository* is asked about; None when that is nowhere, or not known.

    *api* is the pipeline's key; *told* the forge (as in `/hooks/{forge}`)
    whose webhook told of the build.
    """
    parts = None if repository is None else _parts(repository)
    if parts is None:
        return None
    scheme, netloc, path = parts
    host = netloc.rpartition("@")[2].partition(":")[0].lower()
    forge: str | None
    if api is not None:
        forge, base = forge_of(api), api.rstrip("/")
    elif host in _HOSTS:
        forge, base = _HOSTS[host]
    elif host.endswith(".ghe.com"):
        forge, base = "github", f"https://api.{host}"
    else:
        forge = "datacenter" if told == "bitbucket" else told
        if forge is None or forge not in _BASES:
            return None
        # Over ssh neither the port nor a root of the web's own can be seen.
        where = netloc.rpartition("@")[2].lower() if scheme in ("http", "https") else host
        base = f"{scheme if scheme == 'http' else 'https'}://{where}{_BASES[forge]}"
    if forge is None:
        return None
    root = urlsplit(base).path.strip("/").removesuffix(_BASES.get(forge, "").strip("/")).strip("/")
    if root and scheme in ("http", "https") and path.startswith(f"{root}/"):
        path = path.removeprefix(f"{root}/")
    if forge == "datacenter":
        path = path.removeprefix("scm/")
    if path.count("/") < 1 or (path.count("/") > 1 and forge != "gitlab"):
        return None
    return Place(forge, base, path)


def forge_of(api: str) -> str | None:
    """The forge whose API has an address like *api*; None when none has."""
    parts = urlsplit(api.rstrip("/"))
    host = (parts.hostname or "").lower()
    if host == "api.github.com" or (host.startswith("api.") and host.endswith(".ghe.com")):
        return "github"
    if parts.path.endswith("/2.0"):
        return "bitbucket"
    return next((forge for forge, end in _BASES.items() if parts.path.endswith(end)), None)


def api_mistake(api: str) -> str | None:
    """Why *api* cannot be a forge's API, as a sentence after the key's name; None when it can."""
    try:
        parts = urlsplit(api)
        _ = parts.port
    except ValueError:
        return f"{api!r} is no address"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f'{api!r} is no address; write it like "https://git.example.com/api/v4"'
    if "@" in parts.netloc:
        return "has a user or password in it; set token instead"
    if parts.query or parts.fragment or re.search(r"\s", api):
        return f"{api!r} has more than an address in it; leave out what follows the path"
    if forge_of(api) is None:
        return (
            f"{api!r} is no forge's API; its path ends in /api/v3 (GitHub Enterprise), /api/v4 "
            "(GitLab), /api/v1 (Gitea, Forgejo), /2.0 (Bitbucket) or /rest (Bitbucket Data Center)"
        )
    return None


def _parts(repository: str) -> tuple[str, str, str] | None:
    """Scheme, host (with user and port) and path of a repository's address; None for local ones."""
    text = repository.strip()
    if _URL.match(text):
        try:
            split = urlsplit(text)
            _ = split.port
        except ValueError:
            return None
        scheme, netloc, path = split.scheme.lower(), split.netloc, unquote(split.path)
    else:
        found = _SCP.match(text)
        if text.startswith(("/", ".", "file:")) or "://" in text or not found:
            return None
        scheme, netloc, path = "ssh", found["host"], found["path"]
    path = path.strip("/").removesuffix(".git").rstrip("/")
    if not netloc or not _NAME.match(path) or ".." in path.split("/"):
        return None
    return scheme, netloc, path
