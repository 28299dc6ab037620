"""
Stand-ins for the REST APIs of forges, as strict as the forges themselves.

Each checks what it is sent against its forge's rules (required fields, words,
limits, the way the token comes) and answers a breach as the forge does, so
that a test which sees 2xx has proof.  `.statuses` are those accepted, in
order; `.broken(status, **headers)`, `.hang()` and `.well()` say how it is.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]
_SHA = re.compile(r"[0-9a-f]{40}\Z")
TOKEN = "canary-f0rge-token"


class StandIn:
    """One forge with one repository, acme/shop, and the pull requests in `pulls`."""

    base = ""
    project = "acme/shop"

    def __init__(self) -> None:
        self.token = TOKEN
        self.asked: list[tuple[str, str]] = []
        self.asked_at: list[float] = []
        self.refused: list[tuple[str, str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.comments: dict[int, dict[str, Any]] = {}
        self.edits: list[str] = []
        self.pulls: dict[int, dict[str, Any]] = {}
        self.hooks: dict[str, dict[str, Any]] = {}
        self.deployments: dict[int, dict[str, Any]] = {}
        self.deployed: list[dict[str, Any]] = []
        self.lock = threading.RLock()
        self._broken: tuple[int, dict[str, str]] | None = None
        self._released = threading.Event()
        self._released.set()
        self.url = ""

    @property
    def api(self) -> str:
        return f"{self.url}{self.base}"

    def broken(self, status: int, **headers: str) -> None:
        """Answer everything with *status*."""
        self._broken = (status, {k.replace("_", "-"): v for k, v in headers.items()})

    def hang(self) -> None:
        """Take requests, and say nothing until `well`."""
        self._released.clear()

    def well(self) -> None:
        self._broken = None
        self._released.set()

    def states(self, context: str) -> list[str]:
        """The words that a context was given, one after the other."""
        return [s["state"] for s in self.statuses if s["context"] == context]

    # --- what each forge does in its own way

    def let_in(self, headers: Any) -> bool:
        raise NotImplementedError

    def route(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        raise NotImplementedError

    def serve(self, handler: _Handler, method: str) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        text = handler.rfile.read(length)
        self.asked_at.append(time.monotonic())
        self.asked.append((method, handler.path))
        self._released.wait(60)
        if self._broken is not None:
            status, headers = self._broken
            handler.reply(status, {"message": "broken"}, headers)
            return
        parts = urlsplit(handler.path)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        body = json.loads(text) if text else None
        more: dict[str, str] = {}
        if not self.let_in(handler.headers):
            status, answer = 401, {"message": "Bad credentials"}
        elif not parts.path.startswith(self.base + "/"):
            status, answer = 404, {"message": "Not Found"}
        else:
            with self.lock:
                path = parts.path.removeprefix(self.base)
                status, answer, *rest = self.route(method, path, query, body)
                more = rest[0] if rest else {}
        if status >= 400:
            self.refused.append((method, handler.path, answer))
        handler.reply(status, answer, more)

    def remember(self, context: str, state: str, **more: Any) -> dict[str, Any]:
        made = {"context": context, "state": state, "id": len(self.statuses) + 1, **more}
        self.statuses.append(made)
        return made

    def add_comment(self, number: int, text: str) -> dict[str, Any]:
        made = {"id": len(self.comments) + 1, "number": number, "text": text, "version": 0}
        self.comments[made["id"]] = made
        return made

    def edit_comment(self, known: str, text: str) -> dict[str, Any] | None:
        found = self.comments.get(int(known))
        if found is not None:
            found["text"], found["version"] = text, found["version"] + 1
            self.edits.append(text)
        return found


def lacks(body: Any, /, **kinds: type) -> str | None:
    """The first key that is missing or of another type."""
    for key, kind in kinds.items():
        if not isinstance(body, dict) or not isinstance(body.get(key), kind):
            return key
    return None


class GitHub(StandIn):
    """Also refuses a request without a User-Agent, as GitHub does (403)."""

    base = "/api/v3"

    def let_in(self, headers: Any) -> bool:
        assert headers.get("User-Agent"), "GitHub refuses a request without a User-Agent"
        assert headers.get("X-GitHub-Api-Version") == "2022-11-28"
        return bool(headers.get("Authorization") == f"Bearer {self.token}")

    def route(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        if not path.startswith(f"/repos/{self.project}/"):
            return 404, {"message": "Not Found"}
        path = path.removeprefix(f"/repos/{self.project}")
        if found := re.fullmatch(r"/statuses/([0-9a-f]+)", path):
            return self._status(found[1], body)
        if found := re.fullmatch(r"/issues/([0-9]+)/comments", path):
            number = int(found[1])
            if number not in self.pulls:
                return 404, {"message": "Not Found"}
            if method == "GET":
                of = [c for c in self.comments.values() if c["number"] == number]
                return 200, [{"id": c["id"], "body": c["text"]} for c in of]
            if lacks(body, body=str) or len(body["body"]) > 65536:
                return 422, {"message": "Validation Failed"}
            made = self.add_comment(number, body["body"])
            return 201, {"id": made["id"]}
        if found := re.fullmatch(r"/issues/comments/([0-9]+)", path):
            edited = self.edit_comment(found[1], body["body"])
            return (200, {"id": edited["id"]}) if edited else (404, {"message": "Not Found"})
        if found := re.fullmatch(r"/pulls/([0-9]+)", path):
            pull = self.pulls.get(int(found[1]))
            if pull is None:
                return 404, {"message": "Not Found"}
            if method == "PATCH":
                pull["state"] = body["state"]
            return 200, {"state": pull["state"], "head": {"sha": pull["sha"]}}
        return self._rest(method, path, body)

    def _status(self, sha: str, body: Any) -> Reply:
        if not _SHA.match(sha):
            return 422, {"message": f"No commit found for SHA: {sha}"}
        wrong = lacks(body, state=str, target_url=str, description=str, context=str)
        if wrong or body["state"] not in ("error", "failure", "pending", "success"):
            return 422, {"message": "Validation Failed", "errors": [{"code": "invalid"}]}
        if len(body["description"]) > 140:
            said = "description is too long (maximum is 140 characters)"
            return 422, {"message": "Validation Failed", "errors": [{"message": said}]}
        return 201, self.remember(sha=sha, **body)

    def _rest(self, method: str, path: str, body: Any) -> Reply:
        if path == "/deployments" and method == "GET":
            return 200, list(self.deployments.values())
        if path == "/deployments":
            if lacks(body, ref=str) or not _SHA.match(body["ref"]):
                return 422, {"message": "No ref found"}
            if body.get("auto_merge", True):
                return 202, {"message": "Auto-merged main into the ref"}
            if body.get("required_contexts") != []:
                return 409, {"message": "Conflict: Commit status checks failed"}
            made = {"id": 100 + len(self.deployments), **body}
            self.deployments[made["id"]] = made
            return 201, made
        if found := re.fullmatch(r"/deployments/([0-9]+)/statuses", path):
            words = ("queued", "in_progress", "pending", "success", "failure", "error", "inactive")
            if int(found[1]) not in self.deployments:
                return 404, {"message": "Not Found"}
            if lacks(body, state=str) or body["state"] not in words:
                return 422, {"message": "Validation Failed"}
            if len(body.get("description", "")) > 140:
                return 422, {"message": "Validation Failed"}
            self.deployed.append({"deployment": int(found[1]), **body})
            return 201, {"id": len(self.deployed)}
        if path == "/hooks" and method == "GET":
            return 200, list(self.hooks.values())
        if found := re.fullmatch(r"/hooks(?:/([0-9]+))?", path):
            config = body.get("config") or {}
            if not body.get("events") or not config.get("url"):
                return 422, {"message": "Validation Failed"}
            if found[1] is None and body.get("name") != "web":
                return 422, {"message": "Validation Failed"}
            taken = [h for h in self.hooks.values() if h["config"]["url"] == config["url"]]
            if found[1] is None and taken:
                said = "Hook already exists on this repository"
                return 422, {"message": "Validation Failed", "errors": [{"message": said}]}
            key = found[1] or str(len(self.hooks) + 1)
            self.hooks[key] = {**body, "id": int(key)}
            return (201 if found[1] is None else 200), self.hooks[key]
        return 404, {"message": "Not Found"}


class Gitea(GitHub):
    """Gitea's and Forgejo's: like GitHub's, with words and a way to come of its own."""

    base = "/git/api/v1"

    def let_in(self, headers: Any) -> bool:
        return bool(headers.get("Authorization") == f"token {self.token}")

    def _status(self, sha: str, body: Any) -> Reply:
        words = ("pending", "success", "error", "failure", "warning")
        if not _SHA.match(sha):
            return 404, {"message": "object does not exist"}
        if lacks(body, state=str, context=str) or body["state"] not in words:
            return 422, {"message": "[State]: Invalid"}
        return 201, self.remember(sha=sha, **body)

    def _rest(self, method: str, path: str, body: Any) -> Reply:
        if path.startswith("/deployments"):
            return 404, {"message": "Not Found"}
        if found := re.fullmatch(r"/hooks(?:/([0-9]+))?", path):
            if method == "GET":
                return 200, list(self.hooks.values())
            if found[1] is None and body.get("type") not in ("gitea", "forgejo"):
                return 422, {"message": "Invalid hook type"}
            if body["config"].get("content_type") not in ("json", "form"):
                return 422, {"message": "Invalid content type"}
            key = found[1] or str(len(self.hooks) + 1)
            self.hooks[key] = {**body, "id": int(key)}
            return (201 if found[1] is None else 200), self.hooks[key]
        return 404, {"message": "Not Found"}


class GitLab(StandIn):
    """With its machine of statuses: to arrive where one is, is refused."""

    base = "/gitlab/api/v4"
    project = "acme/web/shop"

    def __init__(self) -> None:
        super().__init__()
        self._now: dict[tuple[str, str, str], str] = {}
        self.forks: dict[str, str] = {}
        """Commits that only a fork has, and which."""

    def let_in(self, headers: Any) -> bool:
        return bool(headers.get("PRIVATE-TOKEN") == self.token)

    def route(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        found = re.match(r"/projects/([^/]+)(/.*)", path)
        project = unquote(found[1]) if found else ""
        if not found or project not in {self.project, *self.forks.values()}:
            return 404, {"message": "404 Project Not Found"}
        path = found[2]
        if found := re.fullmatch(r"/statuses/([0-9a-f]+)", path):
            if self.forks.get(found[1], self.project) != project:
                return 404, {"message": "404 Commit Not Found"}
            return self._status(found[1], body)
        if project != self.project:
            return 403, {"message": "403 Forbidden"}
        if found := re.fullmatch(r"/merge_requests/([0-9]+)/notes(?:/([0-9]+))?", path):
            number = int(found[1])
            if number not in self.pulls:
                return 404, {"message": "404 Not found"}
            if method == "GET":
                of = [c for c in self.comments.values() if c["number"] == number]
                return 200, [{"id": c["id"], "body": c["text"]} for c in of]
            if lacks(body, body=str):
                return 400, {"error": "body is missing"}
            if method == "POST":
                return 201, {"id": self.add_comment(number, body["body"])["id"]}
            edited = self.edit_comment(found[2], body["body"])
            return (200, {"id": edited["id"]}) if edited else (404, {"message": "404 Not found"})
        if found := re.fullmatch(r"/merge_requests/([0-9]+)", path):
            pull = self.pulls[int(found[1])]
            if method == "PUT" and body == {"state_event": "close"}:
                pull["state"] = "closed"
            return 200, {"state": pull["state"], "sha": pull["sha"]}
        if found := re.fullmatch(r"/hooks(?:/([0-9]+))?", path):
            if method == "GET":
                return 200, list(self.hooks.values())
            if lacks(body, url=str):
                return 400, {"error": "url is missing"}
            key = found[1] or str(len(self.hooks) + 1)
            self.hooks[key] = {**body, "id": int(key)}
            return (201 if method == "POST" else 200), self.hooks[key]
        return 404, {"error": "404 Not Found"}

    def _status(self, sha: str, body: Any) -> Reply:
        words = ("pending", "running", "success", "failed", "canceled", "skipped")
        if lacks(body, state=str, name=str) or body["state"] not in words:
            return 400, {"error": "state does not have a valid value"}
        assert isinstance(body.get("ref"), str), "without ref GitLab guesses a branch"
        for key in ("target_url", "description"):
            if len(body.get(key, "")) > 255:
                return 400, {"message": {key: ["is too long (maximum is 255 characters)"]}}
        key = (sha, body["name"], body["ref"])
        now, to = self._now.get(key), body["state"]
        events = {"pending": "enqueue", "running": "run"}
        if now in ("pending", "running") and to in events and (now == to or now == "running"):
            said = f"Cannot transition status via :{events[to]} from :{now}"
            return 400, {"message": said}
        self._now[key] = to
        return 201, self.remember(body["name"], to, sha=sha, **_without(body, "state"))


class Bitbucket(StandIn):
    """Bitbucket Cloud."""

    base = "/2.0"

    def let_in(self, headers: Any) -> bool:
        return bool(headers.get("Authorization") == f"Bearer {self.token}")

    def route(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        if not path.startswith(f"/repositories/{self.project}/"):
            return 404, {"type": "error", "error": {"message": "Repository not found"}}
        path = unquote(path.removeprefix(f"/repositories/{self.project}"))
        if found := re.fullmatch(r"/commit/([0-9a-f]+)/statuses/build", path):
            return self._status(found[1], body)
        if found := re.fullmatch(r"/pullrequests/([0-9]+)/comments(?:/([0-9]+))?", path):
            number = int(found[1])
            if method == "GET":
                of = [c for c in self.comments.values() if c["number"] == number]
                return 200, {"values": [{"id": c["id"], "content": {"raw": c["text"]}} for c in of]}
            if lacks(body, content=dict) or lacks(body["content"], raw=str):
                return 400, {"type": "error", "error": {"message": "content is required"}}
            if method == "POST":
                return 201, {"id": self.add_comment(number, body["content"]["raw"])["id"]}
            edited = self.edit_comment(found[2], body["content"]["raw"])
            return (200, {"id": edited["id"]}) if edited else (404, {"type": "error"})
        if found := re.fullmatch(r"/pullrequests/([0-9]+)(/decline)?", path):
            pull = self.pulls[int(found[1])]
            if found[2] and method == "POST":
                pull["state"] = "DECLINED"
            head = {"commit": {"hash": pull["sha"][:12]}}
            return 200, {"state": pull["state"], "source": head}
        if found := re.fullmatch(r"/hooks(?:/(\{.*\}))?", path):
            if method == "GET":
                return 200, {"values": list(self.hooks.values())}
            if lacks(body, url=str, description=str, events=list):
                return 400, {"type": "error", "error": {"message": "Bad request"}}
            key = found[1] or f"{{{len(self.hooks) + 1}}}"
            self.hooks[key] = {**body, "uuid": key}
            return (201 if method == "POST" else 200), self.hooks[key]
        return 404, {"type": "error"}

    def _status(self, sha: str, body: Any) -> Reply:
        words = ("INPROGRESS", "SUCCESSFUL", "FAILED", "STOPPED")
        if lacks(body, key=str, state=str, url=str) or body["state"] not in words:
            return 400, {"type": "error", "error": {"message": "Bad request"}}
        if len(body["key"]) > 40:
            said = {"key": ["Ensure this value has at most 40 characters (it has more)."]}
            return 400, {"type": "error", "error": {"fields": said, "message": "Bad request"}}
        for key in ("name", "description"):
            if len(body.get(key, "")) > 255:
                return 400, {"type": "error", "error": {"message": f"{key} is too long"}}
        return 201, self.remember(body["name"], body["state"], sha=sha, **_without(body, "state"))


class DataCenter(StandIn):
    """Bitbucket Data Center; `old`: a server before 7.4, which knows statuses by commit only."""

    base = "/stash/rest"
    project = "ACME/shop"
    old = False

    def let_in(self, headers: Any) -> bool:
        return bool(headers.get("Authorization") == f"Bearer {self.token}")

    def route(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        missing = {"errors": [{"message": "does not exist"}]}
        if found := re.fullmatch(r"/build-status/1.0/commits/([0-9a-f]+)", path):
            return self._status(found[1], body, ("SUCCESSFUL", "FAILED", "INPROGRESS"))
        owner, _, name = self.project.partition("/")
        start = f"/api/latest/projects/{owner}/repos/{name}"
        if not path.startswith(start):
            return 404, missing
        path = path.removeprefix(start)
        if found := re.fullmatch(r"/commits/([0-9a-f]+)/builds", path):
            if self.old:
                return 404, missing
            words = ("SUCCESSFUL", "FAILED", "INPROGRESS", "CANCELLED", "UNKNOWN")
            return self._status(found[1], body, words)
        pull = re.match(r"/pull-requests/([0-9]+)", path)
        if pull and int(pull[1]) in self.pulls:
            return self._pull(method, int(pull[1]), path.removeprefix(pull[0]), query, body)
        if found := re.fullmatch(r"/webhooks(?:/([0-9]+))?", path):
            if method == "GET":
                return 200, {"values": list(self.hooks.values()), "isLastPage": True}
            if lacks(body, url=str, name=str, events=list, configuration=dict):
                return 400, {"errors": [{"message": "name is missing"}]}
            key = found[1] or str(len(self.hooks) + 1)
            self.hooks[key] = {**body, "id": int(key)}
            return (201 if method == "POST" else 200), self.hooks[key]
        return 404, missing

    def _pull(self, method: str, number: int, path: str, query: dict[str, str], body: Any) -> Reply:
        pull = self.pulls[number]
        if path == "/comments":
            made = self.add_comment(number, body["text"])
            return 201, {"id": made["id"], "version": 0}
        if path == "/activities":
            of = [c for c in self.comments.values() if c["number"] == number]
            values = [{"comment": {"id": c["id"], "text": c["text"]}} for c in of]
            return 200, {"values": values, "isLastPage": True}
        if found := re.fullmatch(r"/comments/([0-9]+)", path):
            comment = self.comments.get(int(found[1]))
            if comment is None:
                return 404, {"errors": [{"message": "no such comment"}]}
            if method == "PUT":
                if body.get("version") != comment["version"]:
                    return 409, {"errors": [{"message": "the comment has been changed"}]}
                self.edit_comment(found[1], body["text"])
            return 200, {"id": comment["id"], "version": comment["version"]}
        if path == "/decline":
            if query.get("version") != str(pull.get("version", 0)):
                return 409, {"errors": [{"message": "out of date"}]}
            pull["state"] = "DECLINED"
        head = {"latestCommit": pull["sha"]}
        return 200, {"state": pull["state"], "version": pull.get("version", 0), "fromRef": head}

    def _status(self, sha: str, body: Any, words: tuple[str, ...]) -> Reply:
        if lacks(body, key=str, state=str, url=str) or body["state"] not in words:
            return 400, {"errors": [{"message": "state is none"}]}
        self.remember(body["name"], body["state"], sha=sha, **_without(body, "state"))
        return 204, None


def _without(body: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in keys}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def reply(self, status: int, value: Any, headers: dict[str, str]) -> None:
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.server.forge.serve(self, "GET")

    def do_POST(self) -> None:
        self.server.forge.serve(self, "POST")

    def do_PUT(self) -> None:
        self.server.forge.serve(self, "PUT")

    def do_PATCH(self) -> None:
        self.server.forge.serve(self, "PATCH")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    forge: StandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; a breach shows as an answer that never came."""


@contextmanager
def standing_in(forge: StandIn) -> Iterator[StandIn]:
    """*forge* on a free port of the loopback."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.forge = forge
    forge.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield forge
    finally:
        forge.well()
        server.shutdown()
        server.server_close()
        thread.join(5)
