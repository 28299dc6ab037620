"""
Who asks, and what they may do.

A token comes in the Authorization header (programs) or, after a login by
token, in a signed cookie (pages).  Everything a route needs is in the table
of routes; what is not said there is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from dataclasses import dataclass

from starlette.requests import Request

from leeroy.errors import NotAllowed
from leeroy.operations.tokens import token_hash
from leeroy.terms import Role
from leeroy.web.state import Site

COOKIE = "leeroy"
LASTS_S = 30 * 86_400


@dataclass(frozen=True)
class Visitor:
    """Who asks: a name for the records, and a role; None may only read what is free."""

    name: str
    role: Role | None
    form_code: str = ""


class Unknown(NotAllowed):
    """There is no token, or it is not known."""

    status = 401


def visitor(site: Site, request: Request) -> Visitor:
    """Who a request comes from.  Raises Unknown for a token that is none of ours."""
    header = request.headers.get("authorization", "")
    if header:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise Unknown("the Authorization header must be: Bearer TOKEN")
        found = _by_hash(site, token_hash(token.strip()))
        if found is None:
            raise Unknown("this token is not known; `leeroy token add` makes one")
        return Visitor(f"{found[0]} (token)", found[1])
    cookie = request.cookies.get(COOKIE)
    if cookie:
        opened = _opened(site, cookie)
        if opened is not None:
            return opened
    return Visitor("somebody", _free(site, request))


def allow(site: Site, request: Request, needed: Role | None) -> Visitor:
    """The visitor, by the tokens last seen, if they may; raises Unknown or NotAllowed."""
    if needed is None:
        return Visitor("somebody", None)
    found = visitor(site, request)
    if found.role is None:
        raise Unknown("a token is needed; `leeroy token add NAME --role viewer` makes one")
    if not found.role.covers(needed):
        if found.name == "somebody":
            raise Unknown("what changes something needs a token, or the page's login")
        raise NotAllowed(f"{found.name} is {found.role}; this needs the role {needed}")
    return found


def _free(site: Site, request: Request) -> Role | None:
    """Reading is free on a loopback listener while no token exists."""
    if site.tokens or not _is_loopback(site.context.config.host):
        return None
    # Behind a proxy on the same host everybody comes from loopback.
    if any(name in request.headers for name in ("x-forwarded-for", "forwarded", "x-real-ip")):
        return None
    return Role.viewer


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _by_hash(site: Site, sha256: str) -> tuple[str, Role] | None:
    for token in site.tokens:
        if hmac.compare_digest(token.sha256, sha256):
            return token.name, token.role
    return None


# --- the page's login: a cookie that names the token, signed with the server's key


def login(site: Site, token: str) -> str | None:
    """The cookie for a token; None when the token is not known."""
    sha256 = token_hash(token.strip())
    if _by_hash(site, sha256) is None:
        return None
    until = int(time.time()) + LASTS_S
    body = f"{sha256}.{until}"
    return f"{body}.{_signed(site, 'login', body)}"


def _opened(site: Site, cookie: str) -> Visitor | None:
    body, _, code = cookie.rpartition(".")
    if not cookie.isascii() or len(cookie) > 500:
        return None
    if not hmac.compare_digest(_signed(site, "login", body), code):
        return None
    sha256, _, until = body.partition(".")
    if not until.isdigit() or int(until) < time.time():
        return None
    found = _by_hash(site, sha256)
    if found is None:
        return None
    return Visitor(f"{found[0]} (page)", found[1], form_code(site, cookie))


def form_code(site: Site, cookie: str) -> str:
    """What a form of a page must carry, so that no other site can send it."""
    return _signed(site, "form", cookie)


def _signed(site: Site, purpose: str, text: str) -> str:
    return hmac.new(site.key, f"{purpose} {text}".encode(), hashlib.sha256).hexdigest()


def same_origin(request: Request) -> bool:
    """Whether a form comes from one of our own pages (browsers say where a POST comes from)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        return True
    return origin.partition("://")[2] == request.headers.get("host", "")
