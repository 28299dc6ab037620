"""Points at which a target stands still, so that a test can act in the middle of a deploy."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug.serving import make_server
from werkzeug.wrappers import Request

from tests.recipes.target import ARRIVED, LANDED
from tests.waiting import until

Wsgi = Callable[..., Iterable[bytes]]


class Held:
    """Requests stand still at one point of one target: `wait` for the first, then `release` all."""

    def __init__(self) -> None:
        self.point = ""
        self._busy, self._lock = 0, threading.Lock()
        self._there, self._go = threading.Event(), threading.Event()

    def hold(self, point: str) -> None:
        self._there.clear()
        self._go.clear()
        self.point = point

    def wait(self) -> None:
        until(self._there.is_set, 300, f"a deploy at the point {self.point}")

    def release(self) -> None:
        self.point = ""
        self._go.set()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While a request is answered."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def quiet(self) -> None:
        """Until no request is answered any more, also none whose client was killed."""
        until(lambda: self._busy == 0, 300, "the target is quiet")

    def pause(self, point: str) -> None:
        """Where a target may stand still."""
        if self.point == point:
            self._there.set()
            assert self._go.wait(300), "nobody released it"


class Gate:
    """
    A WSGI application with two points: before a request that *arrives*, after one that *lands*.

    The answer is whole before it is held: what the request does is done.
    """

    def __init__(
        self,
        app: Wsgi,
        held: Held,
        arrives: Callable[[Request], bool],
        lands: Callable[[Request], bool],
    ) -> None:
        self._app, self._held, self._arrives, self._lands = app, held, arrives, lands

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self._held.busy():
            return self._answer(environ, start)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        # The body can be read once: the points look at it, and the application gets it again.
        request = Request(environ)
        environ["wsgi.input"] = io.BytesIO(request.get_data())
        arrives, lands = self._arrives(request), self._lands(request)
        if arrives:
            self._held.pause(ARRIVED)
        answer = self._app(environ, start)
        if not lands:
            return answer
        whole = [b"".join(answer)]
        self._held.pause(LANDED)
        return whole


class Web:
    """A WSGI application on a free port."""

    def __init__(self, app: Wsgi) -> None:
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
