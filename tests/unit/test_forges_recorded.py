"""GitHub's own recorded answers, over real HTTP: what Leeroy sends is what GitHub took."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from leeroy.clock import utc_now
from leeroy.errors import Invalid, NotFound
from leeroy.forges import github
from leeroy.forges.place import Place
from leeroy.forges.steady import following, paged
from leeroy.forges.talk import Answer, Request, Talk, ask, converse, retry_at
from leeroy.forges.values import Status, Word
from leeroy.forges.wire import Wire

RECORDED = Path(__file__).parents[1] / "recorded" / "github"
TOKEN = "0" * 39 + "1"
SHA = "0" * 39 + "1"
API = "https://api.github.com"


@contextmanager
def playing(scenario: str) -> Iterator[tuple[Place, Wire, list[str]]]:
    """
    The recorded answers on a server of their own; what was asked that is not recorded.

    Each recorded answer is given once, to the very request it was recorded of.
    """
    left = json.loads((RECORDED / f"{scenario}.json").read_text())
    strange: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def _play(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else ""
            asked = (self.command.lower(), self.path, body)
            found = next((r for r in left if (r["method"], r["path"], r["body"]) == asked), None)
            well = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if found is None or not well or not self.headers.get("User-Agent"):
                strange.append(f"{asked}")
                found = {"status": 404, "headers": {}, "response": {"message": "Not Found"}}
            else:
                left.remove(found)
            text = json.dumps(found["response"]).encode()
            self.send_response(found["status"])
            for name, value in found["headers"].items():
                if name.lower() not in (
                    "content-length",
                    "transfer-encoding",
                    "connection",
                    "date",
                ):
                    self.send_header(name, str(value).replace(API, here))
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = _play

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        place = Place("github", here, f"octokit-fixture-org/{scenario}")
        yield place, Wire(github.headers(TOKEN), utc_now), strange
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def told(word: Word, number: int) -> Status:
    return Status(
        commit=SHA,
        context=f"example/{number}",
        word=word,
        description=f"create-status {'failure' if number == 1 else 'success'} test",
        url="https://example.com",
        ref="main",
    )


def test_statuses_as_github_took_them() -> None:
    """The path and the whole body are those that GitHub answered with 201; others are not known."""
    with playing("create-status") as (place, wire, strange):
        converse(github.status(place, told(Word.failed, 1)), wire)
        converse(github.status(place, told(Word.passed, 2)), wire)
        assert [] == strange
        with pytest.raises(NotFound, match="Commit statuses: write"):
            converse(github.status(place, told(Word.error, 2)), wire)
        assert 1 == len(strange)


def test_a_renamed_repository_as_github_moves_it() -> None:
    """301 for what reads and 307 for what writes, which is sent on with its body."""
    with playing("rename-repository") as (place, wire, strange):
        path, new = "/repos/octokit-fixture-org/rename-repository", "rename-repository-newname"
        for request in (
            place.request("PATCH", path, {"name": new}, what="its name"),
            place.request("GET", path, what="the repository"),
            place.request(
                "PATCH", path, {"name": new, "description": "test description"}, what="x"
            ),
        ):
            assert new == converse(_answer(request), wire).json()["name"]
        assert [] == strange


def test_a_refusal_in_githubs_words() -> None:
    """422 with its errors is one sentence, and not tried again."""
    with playing("errors") as (place, wire, _):
        body = {"name": "foo", "color": "invalid"}
        path = "/repos/octokit-fixture-org/errors/labels"
        with pytest.raises(
            Invalid, match=r"answers 422 \(Validation Failed; invalid\) to the label"
        ):
            converse(_answer(place.request("POST", path, body, what="the label")), wire)


def test_pages_as_github_links_them() -> None:
    """The next one is read from `Link`, and the last has none; no limit was near."""
    with playing("paginate-issues") as (place, wire, strange):
        path = "/repos/octokit-fixture-org/paginate-issues/issues?per_page=3"
        sizes, pages = [], []
        while True:
            page = converse(_answer(place.request("GET", path, what="the issues")), wire)
            assert retry_at(page) is None
            sizes.append(len(paged(page)))
            number = following(page, "page")
            if number is None:
                break
            pages.append(number)
            path = f"/repositories/1000/issues?per_page=3&page={number}"
        assert (["2", "3", "4", "5"], [3, 3, 3, 3, 1]) == (pages, sizes)
        assert [] == strange


def _answer(request: Request) -> Talk[Answer]:
    return (yield from ask(request))
