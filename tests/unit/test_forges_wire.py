"""The wire: no token to another host, no endless waiting, no secret in an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from leeroy.clock import utc_now
from leeroy.errors import Invalid
from leeroy.forges.talk import Later, Request
from leeroy.forges.wire import Wire
from tests.gitservers import free_port, silent_server

TOKEN = "canary-wire-token"


@contextmanager
def moving(to: str, status: int = 307) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """A server that sends /old on to *to* and answers everything else; what it was asked."""
    asked: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(status if self.path == "/old" else 201)
            if self.path == "/old":
                self.send_header("Location", to)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def a_request(url: str) -> Request:
    return Request(method="POST", url=url, body={"a": 1}, who="GitHub (x)", what="the status")


def a_wire(token: str = TOKEN) -> Wire:
    return Wire({"Authorization": f"Bearer {token}"}, utc_now, timeout_s=1.0)


def test_a_renamed_repository_is_followed() -> None:
    """On the same host, with the same method and body."""
    with moving("/new") as (url, asked):
        answer = a_wire()(a_request(f"{url}/old"))
        assert 201 == answer.status
        assert {"a": 1} == answer.json()
        assert ["/old", "/new"] == [path for path, _ in asked]


def test_the_token_goes_to_no_other_host() -> None:
    """Another port is another host."""
    with moving("/x") as (other, asked), moving(f"{other}/new") as (url, _):
        with pytest.raises(Invalid, match="does not get the token"):
            a_wire()(a_request(f"{url}/old"))
        assert [] == asked


def test_a_circle_ends() -> None:
    """After three redirects."""
    with moving("/old") as (url, asked):
        with pytest.raises(Invalid, match="circle"):
            a_wire()(a_request(f"{url}/old"))
        assert 4 == len(asked)


def test_silence_and_refusal_are_later() -> None:
    """A forge that hangs, or is not there, is asked again."""
    with silent_server() as port, pytest.raises(Later):
        a_wire()(a_request(f"http://127.0.0.1:{port}/x"))
    with pytest.raises(Later):
        a_wire()(a_request(f"http://127.0.0.1:{free_port()}/x"))


def test_a_token_that_is_none_is_not_shown() -> None:
    """Not even in the error about it."""
    with moving("/x") as (url, asked):
        with pytest.raises(Invalid) as caught:
            a_wire(f"{TOKEN}\r\nX: y")(a_request(f"{url}/new"))
        assert TOKEN not in str(caught.value)
        assert [] == asked
