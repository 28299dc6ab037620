"""
What a repository's address and a ref's name may look like.

Everything git could read as an option, a command or another transport is
refused here, before git sees it.  Nothing here touches disk or network.
"""

from __future__ import annotations

import re

PROTOCOLS = ("https", "http", "ssh", "git", "file")

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_HOST = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])\Z")
_SSH_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z")
_SCP = re.compile(r"(?:(?P<user>[^@/:]*)@)?(?P<host>\[[^\]/]*\]|[^/:\[\]@]*):(?P<path>.*)\Z", re.S)
_SHA = re.compile(r"[0-9a-f]{7,64}\Z")
_BAD_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


class Refused(Exception):
    """The request itself is wrong; its text is a sentence for a person, without any credential."""


class Address:
    """
    A repository's address, taken apart.

    `url` is what git gets: it never holds a password, and for http neither a
    user.  `host` is empty for local paths.
    """

    def __init__(
        self,
        url: str,
        protocol: str,
        host: str = "",
        port: str = "",
        user: str = "",
        path: str = "",
    ) -> None:
        self.url = url
        self.protocol = protocol
        self.host = host
        self.port = port
        self.user = user
        self.path = path

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine."""
        return self.host in ("localhost", "[::1]") or self.host.startswith("127.")

    @property
    def place(self) -> str:
        """Who is asked, in words: the host, or this machine."""
        return self.host or "this machine"


def parse(text: str) -> Address:
    """
    The address in *text*.

    Raises:
        Refused: It is no address, names a transport Leeroy does not speak, or holds a password.
    """
    text = text.strip()
    if not text:
        raise Refused(
            "the pipeline names no repository, so there is nothing to check out; set repository"
        )
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise Refused("the repository's address has a control character inside; write it without")
    if text.startswith("-"):
        raise Refused(
            f"{text!r} begins with a dash, so git would read it as an option; "
            "write a URL, user@host:path or an absolute path"
        )
    if _HELPER.match(text):
        raise Refused(
            f"{text.partition('::')[0]}:: is a transport that runs commands; "
            f"use {', '.join(PROTOCOLS[:-1])} or an absolute path"
        )
    if text.startswith("/"):
        return Address(text, "file", path=text)
    if " " in text:
        raise Refused("the repository's address has a space inside; write it as %20")
    if "://" in text:
        return _url(text)
    return _scp(text)


def _url(text: str) -> Address:
    scheme, _, rest = text.partition("://")
    protocol = scheme.lower()
    if protocol not in PROTOCOLS:
        # not the whole text: what stands behind an unknown scheme may hold a password
        raise Refused(
            f"{scheme}:// is not a transport Leeroy clones over; "
            f"use {', '.join(PROTOCOLS[:-1])} or an absolute path"
        )
    authority, slash, path = rest.partition("/")
    path = slash + path
    if protocol == "file":
        if authority not in ("", "localhost") or path in ("", "/"):
            raise Refused("a file:// address needs an absolute path: file:///srv/git/shop.git")
        return Address("file://" + path, "file", path=path)
    user, at, hostport = authority.rpartition("@")
    if ":" in user:
        raise Refused(
            "the repository's address holds a password, which would show in process lists and in "
            "every workspace; remove it there and set token"
        )
    host, port = _host(hostport)
    if path.strip("/") == "":
        raise Refused(f"{protocol}://{hostport} names a host but no repository; add its path")
    if "?" in path or "#" in path:
        raise Refused(
            "the repository's address has a ? or # in it; give the plain clone address, "
            "and a token as token"
        )
    if protocol == "ssh":
        if at and not _SSH_USER.match(user):
            raise Refused(f"{user!r} is no user for ssh; write ssh://git@{host}{path}")
        return Address(f"ssh://{authority}{path}", "ssh", host, port, user, path)
    return Address(f"{protocol}://{hostport}{path}", protocol, host, port, _unquote(user), path)


def _scp(text: str) -> Address:
    found = _SCP.match(text)
    if not found:
        raise Refused(
            f"{text!r} is neither a URL nor user@host:path nor an absolute path; write one of these"
        )
    user, path = found["user"] or "", found["path"]
    host, _ = _host(found["host"])
    if not path or path.startswith("-"):
        raise Refused(f"{text!r} names no repository on {host}; write user@host:path")
    if found["user"] is not None and not _SSH_USER.match(user):
        raise Refused(f"{user!r} is no user for ssh; write git@{host}:{path}")
    return Address(text, "ssh", host, user=user, path=path)


def _host(hostport: str) -> tuple[str, str]:
    host, colon, port = hostport, "", ""
    if not hostport.endswith("]"):
        before, colon, after = hostport.rpartition(":")
        if colon:
            host, port = before, after
    if not _HOST.match(host) or (colon and not re.match(r"[0-9]{1,5}\Z", port)):
        raise Refused(
            f"{hostport!r} is no host's name; write one like git.example.com or host:8443"
        )
    return host.lower(), port


def _unquote(text: str) -> str:
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), text)


def is_ref(name: str) -> bool:
    """Whether *name* (with its refs/…) is one `git check-ref-format` accepts."""
    return not (
        "/" not in name
        or _BAD_IN_REF.search(name)
        or name.endswith((".", "/"))
        or any(
            not part or part.startswith(".") or part.endswith(".lock") for part in name.split("/")
        )
    )


def ref(kind: str, name: str) -> str:
    """
    The full name of a branch (`kind` "heads") or tag ("tags").

    Raises:
        Refused: git knows no such name, or it begins with a dash.
    """
    full = f"refs/{kind}/{name}"
    if name.startswith("-") or not is_ref(full):
        what = "branch" if kind == "heads" else "tag"
        raise Refused(f"{name!r} cannot be the name of a {what}, so it is not asked for")
    return full


def pull_request_ref(name: str) -> str:
    """*name* itself, when it is a full ref that no branch or tag can have; else Refused."""
    if (
        not name.startswith("refs/")
        or name.startswith(("refs/heads/", "refs/tags/"))
        or not is_ref(name)
    ):
        raise Refused(f"{name!r} is no pull request's ref; it looks like refs/pull/7/head")
    return name


def sha(text: str) -> str:
    """A commit's name, full or at least 7 digits of it, in lower case; else Refused."""
    if not _SHA.match(text.lower()):
        raise Refused(f"{text!r} is no commit; give at least 7 digits of its hexadecimal name")
    return text.lower()
