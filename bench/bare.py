"""The limit for hooks: an ASGI app that checks an HMAC and commits a row, gathered; no more."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import queue
import sqlite3
import sys
import threading
from typing import Any

import uvicorn

SECRET = b"a hook's secret"
waiting: queue.SimpleQueue[tuple[str, Any, Any]] = queue.SimpleQueue()


def writer(path: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE hooks (body)")
    while True:
        jobs = [waiting.get()]
        while not waiting.empty() and len(jobs) < 64:
            jobs.append(waiting.get())
        db.execute("BEGIN IMMEDIATE")
        for text, _, _ in jobs:
            db.execute("INSERT INTO hooks VALUES (?)", (text,))
        db.execute("COMMIT")
        for _, loop, future in jobs:
            loop.call_soon_threadsafe(future.set_result, None)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    code = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    given = dict(scope["headers"]).get(b"x-hub-signature-256", b"").decode()
    status = 202 if hmac.compare_digest(code, given) else 401
    if status == 202:
        json.loads(body)
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        waiting.put((body.decode(), loop, future))
        await future
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
        }
    )
    await send({"type": "http.response.body", "body": b"{}"})


class Server(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print("ready", flush=True)


threading.Thread(target=writer, args=(sys.argv[2],), daemon=True).start()
config = uvicorn.Config(
    app, port=int(sys.argv[1]), lifespan="off", log_config=None, access_log=False, http="httptools"
)
Server(config).run()
