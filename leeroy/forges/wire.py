"""
HTTP to a forge's API: one request at a time, with deadlines, and the token to nobody else.

A redirect is followed only on the same scheme, host and port (a renamed
repository); to any other the token is not sent.  Neither a request nor an
error shows the token.  Standard library only.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from urllib.parse import urljoin, urlsplit

import leeroy
from leeroy.errors import Invalid
from leeroy.forges.talk import Answer, Later, Request

TIMEOUT_S = 15.0
"""How long a forge may be silent, at the connection and at each read."""
LARGEST = 8 << 20
"""More of an answer is not read: the longest list of a page is far below."""
MOST_REDIRECTS = 3
_MOVED = frozenset({301, 302, 307, 308})


class Wire:
    """
    Carries requests with a forge's `headers`; for `talk.converse`.

    Raises (from a call):
        Later: No answer came, whatever the reason.
        Invalid: It leads to another host, or the token cannot stand in a header.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        now: Callable[[], datetime],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._headers = {
            **headers,
            "User-Agent": f"Leeroy/{leeroy.__version__}",
            "Connection": "close",
        }
        self._now = now
        self._timeout_s = timeout_s

    def __call__(self, request: Request) -> Answer:
        url = request.url
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._once(request, url)
            if answer.status not in _MOVED:
                return answer
            to = urljoin(url, answer.headers.get("location", ""))
            if _origin(to) != _origin(url):
                raise Invalid(
                    f"{request.who} sends {request.what} on to {urlsplit(to).netloc!r}, which does "
                    "not get the token; set repository (or api) to the address it has now"
                )
            url = to
        raise Invalid(f"{request.who} sends {request.what} round in a circle")

    def _once(self, request: Request, url: str) -> Answer:
        parts = urlsplit(url)
        headers = dict(self._headers)
        body = None
        if request.body is not None:
            body = json.dumps(request.body).encode()
            headers["Content-Type"] = "application/json"
        elif request.method != "GET":
            headers["Content-Length"] = "0"
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=self._timeout_s, context=_trusted()
            )
        else:
            connection = http.client.HTTPConnection(
                parts.hostname or "", parts.port, timeout=self._timeout_s
            )
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(request.method, path, body, headers)
            found = connection.getresponse()
            text = found.read(LARGEST)
            named = {key.lower(): value for key, value in found.getheaders()}
            return Answer(status=found.status, headers=named, body=text, at=self._now())
        except (ValueError, UnicodeError) as exc:
            # the library's own words would show the header, and so the token
            raise Invalid("the token has characters inside that no token has; set it anew") from exc
        except (OSError, http.client.HTTPException) as exc:
            why = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            raise Later(f"{request.who} does not answer to {request.what}: {why}") from exc
        finally:
            connection.close()


@cache
def _trusted() -> ssl.SSLContext:
    """The machine's certificates (SSL_CERT_FILE names others); read once, for it takes time."""
    return ssl.create_default_context()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
