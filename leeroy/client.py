"""
HTTP for the command line: the same calls as on the database, over the network.

Standard library only, and no SQLAlchemy, so that `leeroy cancel` answers fast
on a host that has nothing but this program, an address and a token.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from leeroy import errors
from leeroy.calls import BASE, CALLS
from leeroy.errors import Invalid, LeeroyError, NotAllowed, Unavailable

TIMEOUT_S = 30.0
_BY_CODE = {
    kind.code: kind
    for kind in (
        errors.NotPossible,
        errors.NotFound,
        errors.Invalid,
        errors.NotAllowed,
        errors.Unavailable,
    )
}


class Server:
    """
    A Leeroy that is asked over HTTP; `label` is its address as messages name it.

    Raises (from every method):
        Unavailable: It does not answer; nothing is known to have changed.
        NotAllowed: It does not know the token, or the token may not do that.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(f"{url!r} is no address of a server; write https://leeroy.example.com")
        try:
            port = parts.port
        except ValueError as exc:
            raise Invalid(f"{url!r} has no valid port") from exc
        self.label = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._token = token
        self._prefix = parts.path.rstrip("/")
        self._host = parts.hostname
        self._port = port
        self._tls = parts.scheme == "https"

    def call(self, name: str, /, **arguments: Any) -> Any:
        """One call of `leeroy.calls`; the answer's JSON."""
        call = CALLS[name]
        given = {key: value for key, value in arguments.items() if value is not None}
        path = BASE + call.path
        for key in call.in_path:
            path = path.replace("{" + key + "}", quote(str(given.pop(key)), safe=""))
        body = None
        if call.method == "GET":
            path += f"?{urlencode(given)}" if given else ""
        else:
            body = json.dumps(given).encode()
        _, text = self._ask(call.method, path, body)
        try:
            return json.loads(text)
        except ValueError as exc:
            raise Unavailable(f"{self.label} does not answer like a Leeroy") from exc

    def log(self, build_id: int, step: str | None, cursor: str) -> tuple[bytes, str, bool]:
        """A piece of a log: its bytes, where the next one starts, and whether it was the last."""
        query = {"cursor": cursor} | ({} if step is None else {"step": step})
        headers, text = self._ask("GET", f"{BASE}/builds/{build_id}/log?{urlencode(query)}", None)
        return text, headers.get("X-Leeroy-Cursor", ""), headers.get("X-Leeroy-Over") == "true"

    def close(self) -> None:
        """Nothing is kept open."""

    def _ask(
        self, method: str, path: str, body: bytes | None
    ) -> tuple[http.client.HTTPMessage, bytes]:
        connection: http.client.HTTPConnection
        if self._tls:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        headers = {"Accept": "application/json", "User-Agent": "leeroy"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, self._prefix + path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as exc:
            why = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            raise Unavailable(f"{self.label} does not answer: {why}") from exc
        finally:
            connection.close()
        if answer.status >= 400:
            raise self._error(answer.status, text)
        return answer.headers, text

    def _error(self, status: int, text: bytes) -> LeeroyError:
        try:
            found = json.loads(text)
            sentence, code = str(found["error"]), str(found["code"])
        except (ValueError, KeyError, TypeError):
            if status in (401, 403):
                return NotAllowed(f"{self.label} refuses (HTTP {status})")
            return Unavailable(f"{self.label} answered HTTP {status}, which Leeroy would not")
        kind = _BY_CODE.get(code, LeeroyError)
        if kind in (NotAllowed, Unavailable):
            sentence = f"{self.label}: {sentence}"
        return kind(sentence)
