"""
Real receivers for notices, on loopback and free ports: mail, JSON, Telegram and Twilio.

Each is a context manager; `.url` is its Apprise address, `.received` what it
took, oldest first.  `.down()` closes its door (connections are refused),
`.up()` opens it again on the same port, and `.hang()` makes it accept
connections and then say nothing.
"""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


class _Door(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    sink: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Switched:
    """A server that can be switched off and on again at the same port."""

    handler: type[socketserver.BaseRequestHandler]

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.asked = 0
        self.status = 200
        self.port = 0
        self._released = threading.Event()
        self._released.set()
        self._door: _Door | None = None
        self.up()

    def up(self) -> None:
        """Take connections, and answer them."""
        self._released.set()
        if self._door is not None:
            return
        door = _Door(("127.0.0.1", self.port), self.handler)
        door.sink = self
        self.port = door.server_address[1]
        threading.Thread(target=door.serve_forever, args=(0.02,), daemon=True).start()
        self._door = door

    def down(self) -> None:
        """Refuse connections."""
        self._released.set()
        door, self._door = self._door, None
        if door is not None:
            door.shutdown()
            door.server_close()

    def hang(self) -> None:
        """Take connections, and say nothing until `up` or `down`."""
        self._released.clear()

    def enter(self) -> None:
        """Where a request waits while the sink hangs."""
        self.asked += 1
        self._released.wait(120)


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _JsonHandler(_Answering):
    def do_POST(self) -> None:
        sink: JsonSink = self.server.sink  # type: ignore[attr-defined]  # our own server
        told = json.loads(self.body())
        sink.enter()
        if sink.status == 200:
            sink.received.append(told)
        if sink.status in (301, 302, 307, 308):
            self.send_response(sink.status)
            self.send_header("Location", sink.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.answer(sink.status, {})


class JsonSink(_Switched):
    """
    What `json://` speaks to; `received` holds Apprise's objects (`title`, `message`, …).

    `status` is what it answers; anything but 200 means that it did not take the notice.
    """

    handler = _JsonHandler
    elsewhere = ""

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/leeroy"


@contextmanager
def json_sink() -> Iterator[JsonSink]:
    """A JSON sink over plain HTTP."""
    sink = JsonSink()
    try:
        yield sink
    finally:
        sink.down()


@dataclass(frozen=True)
class Mail:
    """One mail as it arrived: who it was for (the envelope) and what it says."""

    to: tuple[str, ...]
    message: EmailMessage

    @property
    def text(self) -> str:
        part = self.message.get_body(("plain",))
        return "" if part is None else part.get_content()

    @property
    def html(self) -> str:
        part = self.message.get_body(("html",))
        return "" if part is None else part.get_content()


class MailSink:
    """
    A mail server; `received` holds `Mail`.  Addresses in `refused` are answered with 550.

    It cannot `hang`.
    """

    def __init__(self) -> None:
        self.received: list[Mail] = []
        self.refused: set[str] = set()
        self.asked = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._controller: Controller | None = None
        self.up()

    @property
    def url(self) -> str:
        return self.address("ops@example.com")

    def address(self, *recipients: str) -> str:
        """The Apprise address that sends to these."""
        to = ",".join(recipients)
        return f"mailto://127.0.0.1:{self.port}?from=leeroy@example.com&to={to}&mode=insecure"

    def up(self) -> None:
        """Take mail."""
        if self._controller is None:
            self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
            self._controller.start()

    def down(self) -> None:
        """Refuse connections."""
        controller, self._controller = self._controller, None
        if controller is not None:
            controller.stop()

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.asked += 1
        if address in self.refused:
            return "550 nobody of that name lives here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.received.append(Mail(tuple(envelope.rcpt_tos), message))
        return "250 taken"


@contextmanager
def smtp_sink() -> Iterator[MailSink]:
    """A mail server."""
    sink = MailSink()
    try:
        yield sink
    finally:
        sink.down()


@dataclass(frozen=True)
class Sent:
    """One message that Telegram or Twilio took: the service, for whom, and its words."""

    service: str
    to: str
    text: str
    raw: dict[str, Any]


class _CloudHandler(_Answering):
    """A CONNECT proxy that ends TLS itself, and answers as Telegram and Twilio do."""

    host = ""

    def do_CONNECT(self) -> None:
        sink: CloudSink = self.server.sink  # type: ignore[attr-defined]  # our own server
        self.host = self.path.partition(":")[0]
        self.send_response(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        self.connection = sink.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def do_POST(self) -> None:
        sink: CloudSink = self.server.sink  # type: ignore[attr-defined]  # our own server
        body = self.body()
        sink.enter()
        if self.host == "api.telegram.org":
            told = json.loads(body)
            sent = Sent("telegram", str(told.get("chat_id")), told.get("text", ""), told)
            right = f"/bot{CloudSink.BOT}/sendMessage" == self.path
            good: Any = {"ok": True, "result": {"message_id": 1}}
            status = 200
        else:
            told = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            sent = Sent("twilio", told.get("To", ""), told.get("Body", ""), told)
            right = f"/2010-04-01/Accounts/{CloudSink.ACCOUNT}/Messages.json" == self.path
            good, status = {"sid": "SM1", "status": "queued"}, 201
        if not right:
            self.answer(404, {"ok": False, "description": "Not Found", "message": "Not Found"})
        elif sink.status != 200 or sent.to in sink.refused:
            code = 400 if sent.to in sink.refused else sink.status
            self.answer(code, {"ok": False, "description": "no", "message": "no"})
        else:
            sink.received.append(sent)
            self.answer(status, good)


class CloudSink(_Switched):
    """
    Telegram and Twilio as far as their Apprise plugins know; `received` holds `Sent`.

    `environment` is what a process needs so that their names lead here.
    Recipients in `refused` are answered with 400; `status` is for all of them.
    """

    handler = _CloudHandler
    BOT = "123456789:abcdefg_hijklmnop-secretsecretsecre"
    ACCOUNT = "AC" + "0a" * 16
    TOKEN = "5e" * 16

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("api.telegram.org", "api.twilio.com").configure_cert(self.tls)
        self._bundle = folder / "ca.pem"
        authority.cert_pem.write_to_path(self._bundle)
        self.refused: set[str] = set()
        super().__init__()

    @property
    def environment(self) -> dict[str, str]:
        proxy = f"http://127.0.0.1:{self.port}"
        return {"HTTPS_PROXY": proxy, "REQUESTS_CA_BUNDLE": str(self._bundle)}

    def telegram(self, *chats: str) -> str:
        """The Apprise address of these chats."""
        return f"tgram://{self.BOT}/{'/'.join(chats)}/"

    def twilio(self, *numbers: str) -> str:
        """The Apprise address of these telephones."""
        return f"twilio://{self.ACCOUNT}:{self.TOKEN}@15005550006/{'/'.join(numbers)}/"


@contextmanager
def cloud_sink(folder: Path) -> Iterator[CloudSink]:
    """Telegram and Twilio; the authority's certificate is written into *folder*."""
    sink = CloudSink(folder)
    try:
        yield sink
    finally:
        sink.down()
