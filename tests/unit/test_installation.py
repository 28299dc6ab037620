"""What `leeroy crashtest` makes of a server that dies while it answers."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from leeroy.proof.installation import Installation

HEAD = b"HTTP/1.1 202 Accepted\r\nContent-Length: 15\r\n\r\n"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 202 Acc", HEAD, HEAD + b'{"builds"'])
def test_an_answer_that_is_cut_is_none(tmp_path: Path, said: bytes) -> None:
    """As a forge sees it: not delivered, so it is delivered again."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def dies() -> None:
            visitor = door.accept()[0]
            visitor.recv(65536)
            visitor.sendall(said)
            visitor.close()

        server = threading.Thread(target=dies)
        server.start()
        there = Installation(tmp_path, "json://127.0.0.1:1/")
        there.url = f"http://127.0.0.1:{door.getsockname()[1]}"
        assert None is there.push("delivery-1")
        server.join()
