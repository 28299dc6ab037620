"""Requests over a number of connections that are kept open, as fast as they are answered."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

CONNECTIONS = 16


def hooks_per_second(port: int, request: Callable[[int], bytes], numbers: range) -> float:
    """How many requests per second are answered with 2xx; every one must be."""
    left = iter(numbers)
    lock = threading.Lock()
    wrong: list[bytes] = []

    def work() -> None:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                break
            connection.sendall(request(number))
            head = answer(connection)
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 202")):
                wrong.append(head)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(numbers)} were refused: {wrong[0]!r}")
    return len(numbers) / took


def answer(connection: socket.socket) -> bytes:
    """The head of one answer; its body is read too."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise SystemExit(f"the server closed the connection: {data!r}")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += connection.recv(65536)
    return head
