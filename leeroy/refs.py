"""What names mean: patterns of branches and tags, and addresses of repositories."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

FORGES = ("github", "gitlab", "bitbucket", "gitea")
"""The forges by the last part of `/hooks/{forge}`."""

_HOSTS = {
    "github.com": "github",
    "ssh.github.com": "github",
    "gitlab.com": "gitlab",
    "altssh.gitlab.com": "gitlab",
    "bitbucket.org": "bitbucket",
    "altssh.bitbucket.org": "bitbucket",
    "codeberg.org": "gitea",
    "gitea.com": "gitea",
}
_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>[^/]*)(?P<path>.*)\Z", re.I | re.S)
_SCP = re.compile(r"(?:[^@/:]*@)?(?P<host>\[[^\]/]*\]|[^/:\[\]@]+):(?P<path>.*)\Z", re.S)
_PORT = re.compile(r":[0-9]*\Z")


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # `*` also crosses `/`: "release/*" is meant for release/2.1/hotfix, too.
    parts = (re.escape(part) for part in re.split(r"\*+", pattern))
    return re.compile(".*".join(parts), re.DOTALL)


def matches(patterns: Sequence[str], ref: str) -> bool:
    """
    Whether *ref* is meant by patterns such as "main", "release/*", "!release/old".

    The last pattern that fits decides.  A list of nothing but negations
    starts from everything; an empty list means nothing.
    """
    meant = bool(patterns) and all(pattern.startswith("!") for pattern in patterns)
    for pattern in patterns:
        if _compiled(pattern.removeprefix("!")).fullmatch(ref):
            meant = not pattern.startswith("!")
    return meant


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


def is_path(repository: str) -> bool:
    """Whether the address is a folder of this host, on which no forge tells of pushes."""
    return address(repository).startswith(("/", "./", "../"))


def forge(repository: str) -> str | None:
    """The forge that the repository's host is known for; None for any other host."""
    host = address(repository).partition("/")[0]
    return "github" if host.endswith(".ghe.com") else _HOSTS.get(host)
