"""
What stands at the door while the disk takes nothing: it waits, says why, and answers 503.

Without it a full, read-only or broken disk would have the service manager
start and lose the server every few seconds, and forges find nobody.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

AGAIN_S = 1.0
_ROOM = 256 << 10
"""What SQLite needs to open a database (its index of the WAL), and some frames."""


def wait(
    folders: Sequence[Path], host: str, port: int, also: Callable[[], str | None] = lambda: None
) -> None:
    """
    Return once every folder can be written, durably, and *also* names no other trouble.

    Until then whoever asks at *host* and *port* is answered 503 with the
    reason.  Nothing is changed by it but a file that is removed again.
    """
    why = trouble(folders) or also()
    if why is None:
        return
    reason = [why]
    log.error("waiting: %s", why)
    pause = threading.Event()
    with _answering(host, port, reason):
        while (why := trouble(folders) or also()) is not None:
            if why != reason[0]:
                log.error("waiting: %s", why)
            reason[0] = why
            pause.wait(AGAIN_S)
    log.info("the disk takes something again")


def trouble(folders: Sequence[Path]) -> str | None:
    """Why a folder cannot be written; None when all can."""
    for folder in dict.fromkeys(folders):
        file = folder / f".writable-{os.getpid()}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file.open("wb") as probe:
                probe.write(bytes(_ROOM))
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as exc:
            return f"{folder} cannot be written: {exc.strerror}; see to its disk"
        finally:
            with contextlib.suppress(OSError):
                file.unlink()
    return None


@contextlib.contextmanager
def _answering(host: str, port: int, reason: list[str]) -> Iterator[None]:
    """Answer 503 to everybody; where the address is not to be had, only wait."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.settimeout(0.2)
        door.bind((host, port))
        door.listen(64)
    except OSError:
        door.close()
        yield
        return
    closing = threading.Event()
    thread = threading.Thread(target=_answer, args=(door, reason, closing), daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join()
        door.close()


def _answer(door: socket.socket, reason: list[str], closing: threading.Event) -> None:
    while not closing.is_set():
        try:
            guest, _ = door.accept()
        except OSError:
            continue
        body = f"{reason[0]}\n".encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with guest, contextlib.suppress(OSError):
            guest.settimeout(1.0)
            guest.recv(1 << 16)
            guest.sendall(head.encode() + body)
            guest.shutdown(socket.SHUT_WR)
            while guest.recv(1 << 16):  # else what it still sends would reset our answer
                continue
