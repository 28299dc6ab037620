"""JSON for programs: each call of `leeroy.calls` at its address, and the log as text."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from leeroy import calls, operations, views
from leeroy.calls import Call
from leeroy.errors import Invalid
from leeroy.web.access import Visitor
from leeroy.web.state import Site

_LARGEST = 1 << 20


async def answer(site: Site, request: Request, visitor: Visitor, call: Call) -> Response:
    """Do what a call asks for; what changes something is answered after its commit."""
    given: dict[str, Any] = dict(request.query_params) | dict(request.path_params)
    if call.method != "GET":
        given |= await _body(request)
    arguments = calls.read(call, given)
    _required(call, arguments)
    work = partial(operations.DO[call.name], context=site.context, actor=visitor.name, **arguments)
    if call.method == "GET":
        found = await site.read(work)
    else:
        found = await site.ask(work)
        if call.name.startswith("token_"):
            site.forget_tokens()
    return JSONResponse(found, status_code=call.status)


async def log(site: Site, request: Request, visitor: Visitor) -> Response:
    """A build's log as text, or a piece of it from `cursor` on."""
    build_id, step = int(request.path_params["id"]), request.query_params.get("step")
    cursor = request.query_params.get("cursor")

    def whole(conn: Connection) -> bytes:
        return b"".join(views.whole_log(conn, views.find(conn, build_id), step))

    def piece(conn: Connection) -> views.LogPiece:
        return views.log_piece(conn, views.find(conn, build_id), step, cursor or "")

    kind = "text/plain; charset=utf-8"
    if cursor is None:
        return Response(await site.read(whole), media_type=kind)
    found = await site.read(piece)
    headers = {"X-Leeroy-Cursor": found.cursor, "X-Leeroy-Over": str(found.over).lower()}
    return Response(found.text, media_type=kind, headers=headers)


async def _body(request: Request) -> dict[str, Any]:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > _LARGEST:
        raise Invalid("the body is too large")
    text = await request.body()
    if not text.strip():
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Invalid("the body must be JSON, with Content-Type: application/json")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Invalid("the body is no JSON") from exc
    if not isinstance(found, dict):
        raise Invalid("the body must be a JSON object")
    return found


_NEEDED = {
    "resolve": ("outcome",),
    "deploy": ("to",),
    "freeze": ("which",),
    "thaw": ("which",),
    "token_add": ("name", "role"),
    "confirm": ("seq",),
}


def _required(call: Call, arguments: dict[str, Any]) -> None:
    for name in _NEEDED.get(call.name, ()):
        if name not in arguments:
            raise Invalid(f"{name!r} is missing")
