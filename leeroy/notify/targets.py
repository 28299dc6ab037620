"""
An Apprise address: its recipients, and a name for each that shows no secret.

Pure, and without Apprise.  An address with several recipients is several
addresses here, for one of them may accept a message that another refuses, and
nobody is to get it twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import getaddresses
from urllib.parse import quote, unquote

from leeroy.errors import Invalid

MAIL = frozenset({"mailto", "mailtos"})
_PLAIN = frozenset({"json", "jsons", "form", "forms", "xml", "xmls"})
"""Services whose host is a host, and not half of a token."""
_PATHS = frozenset({"tgram", "twilio", "sinch", "vonage", "nexmo"})
"""Services whose path is the list of recipients."""
_HERE = frozenset(
    [
        "file",
        "dbus",
        "kde",
        "qt",
        "glib",
        "gio",
        "gnome",
        "macosx",
        "windows",
        "syslog",
        "blink1",
        "growl",
        "memory",
    ]
)
"""Services that act on the machine Leeroy runs on."""
_SCHEME = re.compile(r"^([a-z0-9]{1,20})://", re.IGNORECASE)
_SECOND = re.compile(r"[\s,;]+[a-z0-9]{1,20}://", re.IGNORECASE)


@dataclass(frozen=True)
class Recipient:
    """One recipient: `name` (never a secret, unique within its address) and its own address."""

    name: str
    url: str


def scheme(url: str) -> str:
    """The service an address belongs to, in lower case; empty when it is no address."""
    match = _SCHEME.match(url.strip())
    return match[1].lower() if match else ""


def mistake(url: str) -> str | None:
    """Why the address cannot be used, without the address itself; None when it looks fine."""
    url = url.strip()
    service = scheme(url)
    if not service:
        return "that is no Apprise address; it starts like mailto:// or tgram://"
    if service in _HERE:
        return f"{service}:// acts on the server itself and reaches nobody; take another service"
    if _SECOND.search(url):
        return "that is more than one address; write a [[notify]] block for each"
    return None


def split(url: str) -> tuple[Recipient, ...]:
    """
    The recipients of an address, each with an address of its own; a doubled one counts once.

    Raises:
        Invalid: `mistake` says why; the text does not show the address.
    """
    url = url.strip()
    wrong = mistake(url)
    if wrong is not None:
        raise Invalid(wrong)
    service = scheme(url)
    base, _, query = url.partition("?")
    authority, _, path = base.partition("://")[2].partition("/")
    keep, lists = _lists(query)
    if service in MAIL:
        found = _mail(path, lists)
    elif service in _PATHS and not lists.get("cc"):
        listed = re.split(r"[\s,]+", ",".join(lists.get("to", ())))
        found = [unquote(part) for part in path.split("/")] + listed
    else:
        return (Recipient(label(url), url),)
    found = list(dict.fromkeys(filter(None, (one.strip() for one in found))))
    if not found:
        return (Recipient(label(url), url),)
    if service in MAIL:
        ends = ["/?" + "&".join([*keep, "to=" + quote(one, safe="")]) for one in found]
    else:
        more = f"/?{'&'.join(keep)}" if keep else "/"
        ends = [f"/{quote(one, safe='')}{more}" for one in found]
    return tuple(
        Recipient(f"{service} {one}", f"{service}://{authority}{end}")
        for one, end in zip(found, ends, strict=True)
    )


def author(url: str, address: str | None) -> str | None:
    """
    The mail address *url*, but to the author of a commit; None when no mail reaches them.

    Forges write commits of their own, and of people who hide their address,
    under addresses that take no mail.
    """
    host = (address or "").rpartition("@")[2].lower()
    if not host or host.startswith("users.noreply.") or (address or "").startswith("noreply@"):
        return None
    base, _, query = url.strip().partition("?")
    service, _, rest = base.partition("://")
    keep, _ = _lists(query)
    query = "&".join([*keep, "to=" + quote(address or "", safe="")])
    return f"{service}://{rest.partition('/')[0]}/?{query}"


def label(url: str) -> str:
    """The service, and its host where that is no part of a secret."""
    service = scheme(url) or "unknown"
    if service not in _PLAIN | MAIL:
        return service
    authority = re.split(r"[/?#]", url.strip().partition("://")[2], maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    return f"{service}://{host}" if re.fullmatch(r"[\w.:\[\]-]+", host) else service


def secrets(url: str) -> tuple[str, ...]:
    """The parts of an address that must not be seen in a log, the longest first."""
    base, _, query = url.partition("?")
    authority, _, path = base.partition("://")[2].partition("/")
    user = authority.rpartition("@")[0]
    parts = [url, base, user, *user.split(":"), *path.split("/")]
    if scheme(url) not in _PLAIN | MAIL:
        parts += [authority, *authority.split(":")]
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key not in ("to", "cc", "bcc", "from", "mode", "smtp", "cto", "rto"):
            parts += [value, *unquote(value).split()]
    every = {form for part in parts for form in (part, unquote(part), quote(part, safe=""))}
    return tuple(sorted((one for one in every if len(one) >= 4), key=len, reverse=True))


def _lists(query: str) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The query without its recipients, and these."""
    keep: list[str] = []
    lists: dict[str, tuple[str, ...]] = {}
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        if key.lower() in ("to", "cc", "bcc"):
            lists[key.lower()] = (*lists.get(key.lower(), ()), unquote(value.replace("+", "%20")))
        else:
            keep.append(pair)
    return keep, lists


def _mail(path: str, lists: dict[str, tuple[str, ...]]) -> list[str]:
    """The bare mail addresses of a path and of to, cc and bcc: each gets a mail of its own."""
    listed = [unquote(part) for part in path.split("/")]
    listed += [value for name in ("to", "cc", "bcc") for value in lists.get(name, ())]
    return [address for _, address in getaddresses(listed) if address]
