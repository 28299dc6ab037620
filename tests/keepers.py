"""
Stand-ins of GitHub and GitLab that deliver webhooks themselves, keep what became of it, and try again.

A delivery goes to the webhook that was registered, signed as the forge signs
it; who asks for another attempt must name one that is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tests.standins import GitHub, GitLab, Reply

Kept = dict[str, Any]
_PAGE = 100


def post(url: str, body: bytes, headers: dict[str, str]) -> int | None:
    """The answer's status; None when there was none."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request(
            "POST", parts.path, body, {"Content-Type": "application/json", **headers}
        )
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


class KeepingGitHub(GitHub):
    """`.send` delivers; `.attempts` are the deliveries for which another attempt was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Kept] = []
        self.attempts: list[Kept] = []

    def send(self, event: str, told: dict[str, Any], guid: str | None = None) -> Kept:
        """Deliver it to the one webhook; what is kept of it, the newest first in the list."""
        [hook] = self.hooks.values()
        body = json.dumps(told).encode()
        digest = hmac.new(hook["config"]["secret"].encode(), body, hashlib.sha256).hexdigest()
        again = guid is not None
        guid = guid or str(uuid.uuid4())
        headers = {
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": guid,
            "X-Hub-Signature-256": f"sha256={digest}",
        }
        status = post(hook["config"]["url"], body, headers)
        made = {
            "id": 1000 + len(self.kept),
            "guid": guid,
            "delivered_at": datetime.now(UTC).isoformat(timespec="milliseconds")[:23] + "Z",
            "redelivery": again,
            "status": "failed to connect to host" if status is None else "OK",
            "status_code": 502 if status is None else status,
            "event": event,
            "action": told.get("action"),
            "told": told,
        }
        self.kept.insert(0, made)
        return made

    def doubtful(self) -> None:
        """The newest delivery timed out, as far as the forge knows."""
        self.kept[0]["status_code"] = 504

    def listings(self) -> int:
        return sum(path.partition("?")[0].endswith("/deliveries") for _, path in self.asked)

    def route(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        start = rf"/repos/{re.escape(self.project)}/hooks/([0-9]+)/deliveries"
        found = re.fullmatch(start + r"(?:/([0-9]+)(/attempts)?)?", path)
        if found is None:
            return super().route(method, path, query, body)
        if found[1] not in self.hooks:
            return 404, {"message": "Not Found"}
        if found[2] is None:
            return self._page(query)
        one = next((one for one in self.kept if str(one["id"]) == found[2]), None)
        if one is None or (method == "POST") != bool(found[3]):
            return 404, {"message": "Not Found"}
        if method == "GET":
            return 200, {**_listed(one), "request": {"headers": {}, "payload": one["told"]}}
        self.attempts.append(one)
        again = (one["event"], one["told"], one["guid"])
        threading.Thread(target=self.send, args=again, daemon=True).start()
        return 202, {}

    def _page(self, query: dict[str, str]) -> Reply:
        size = int(query.get("per_page", 30))
        if not 1 <= size <= _PAGE:
            return 422, {"message": "Validation Failed"}
        start = int(query.get("cursor", "v1_0").removeprefix("v1_"))
        page = [_listed(one) for one in self.kept[start : start + size]]
        more = {}
        if start + size < len(self.kept):
            url = f"{self.api}/repositories/7/hooks/1/deliveries?cursor=v1_{start + size}"
            more["Link"] = f'<{url}&per_page={size}>; rel="next"'
        return 200, page, more


def _listed(one: Kept) -> Kept:
    return {key: value for key, value in one.items() if key != "told"}


class KeepingGitLab(GitLab):
    """Resends five a minute, as GitLab does."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Kept] = []
        self.attempts: list[Kept] = []
        self._resent: list[float] = []

    def send(self, event: str, told: dict[str, Any], key: str | None = None) -> Kept:
        """Deliver it to the one webhook; what is kept of it."""
        [hook] = self.hooks.values()
        headers = {
            "X-Gitlab-Event": event,
            "Idempotency-Key": key or str(uuid.uuid4()),
            "X-Gitlab-Event-UUID": str(uuid.uuid4()),
        }
        secret = {"X-Gitlab-Token": hook["token"]}
        status = post(hook["url"], json.dumps(told).encode(), headers | secret)
        made = {
            "id": 1000 + len(self.kept),
            "url": hook["url"],
            "trigger": f"{told['object_kind']}_hooks",
            "request_headers": headers | {"X-Gitlab-Token": "[REDACTED]"},
            "request_data": told,
            "response_status": "internal error" if status is None else str(status),
        }
        self.kept.insert(0, made)
        return made

    def doubtful(self) -> None:
        """The newest delivery timed out, as far as the forge knows."""
        self.kept[0]["response_status"] = "internal error"

    def listings(self) -> int:
        return sum(path.partition("?")[0].endswith("/events") for _, path in self.asked)

    def route(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        found = re.fullmatch(r"/projects/[^/]+/hooks/([0-9]+)/events(?:/([0-9]+)/resend)?", path)
        if found is None or found[1] not in self.hooks:
            return super().route(method, path, query, body)
        if found[2] is None:
            size, page = int(query.get("per_page", 20)), int(query.get("page", 1))
            assert 1 <= size <= _PAGE
            start = (page - 1) * size
            following = str(page + 1) if start + size < len(self.kept) else ""
            return 200, self.kept[start : start + size], {"X-Next-Page": following}
        one = next((one for one in self.kept if str(one["id"]) == found[2]), None)
        if one is None or method != "POST":
            return 404, {"message": "404 Not Found"}
        now = time.monotonic()
        self._resent = [at for at in self._resent if at > now - 60]
        if len(self._resent) >= 5:
            return 429, {"message": "This endpoint has been requested too many times."}
        self._resent.append(now)
        self.attempts.append(one)
        sent = one["request_headers"]
        again = self.send(sent["X-Gitlab-Event"], one["request_data"], sent["Idempotency-Key"])
        return 201, {"response_status": again["response_status"]}
