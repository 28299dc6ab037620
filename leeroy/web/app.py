"""
The application: one table of routes, each with the role it needs.

What is not in the table is 404; what a visitor may not do is 401 or 403; an
error is a sentence, as JSON for programs and as a page for people.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leeroy.calls import BASE, CALLS
from leeroy.errors import LeeroyError, NotAllowed
from leeroy.terms import Role
from leeroy.web import access, api, downloads, health, hooks, pages, stop
from leeroy.web.access import Unknown, Visitor
from leeroy.web.html import FOLDER, page
from leeroy.web.state import AGAIN, Site

log = logging.getLogger(__name__)

Answer = Callable[[Site, Request, Visitor], Awaitable[Response]]


@dataclass(frozen=True)
class Door:
    """One line of the table: a method and path, the role it needs (None: none), who answers."""

    method: str
    path: str
    role: Role | None
    answer: Answer


async def _static(site: Site, request: Request, visitor: Visitor) -> Response:
    name = request.path_params["name"]
    kinds = {
        "leeroy.css": "text/css",
        "leeroy.js": "text/javascript",
        "leeroy.svg": "image/svg+xml",
    }
    if name not in kinds:
        raise HTTPException(404)
    text = (FOLDER / "static" / name).read_bytes()
    return Response(text, media_type=f"{kinds[name]}; charset=utf-8")


def _calls() -> list[Door]:
    found = []
    for call in CALLS.values():
        path = call.path.replace("{id}", "{id:int}")

        async def answer(
            site: Site, request: Request, visitor: Visitor, call: Any = call
        ) -> Response:
            return await api.answer(site, request, visitor, call)

        found.append(Door(call.method, BASE + path, call.role, answer))
    return found


DOORS = (
    Door("POST", "/hooks/{forge}", None, hooks.deliver),
    Door("GET", "/stop/{token}", None, stop.show),
    Door("POST", "/stop/{token}", None, stop.act),
    Door("GET", "/healthz", None, health.healthz),
    Door("GET", "/readyz", None, health.readyz),
    Door("GET", "/static/{name}", None, _static),
    Door("GET", "/login", None, pages.login_form),
    Door("POST", "/login", None, pages.login),
    Door("GET", "/", Role.viewer, pages.list_),
    Door("GET", "/builds/{id:int}", Role.viewer, pages.build),
    Door("POST", "/builds/{id:int}", Role.operator, pages.act),
    Door("GET", "/builds/{id:int}/artifacts/{path:path}", Role.viewer, downloads.artifact),
    Door("GET", "/environments", Role.viewer, pages.environments),
    Door("GET", "/metrics", Role.viewer, health.metrics),
    Door("GET", "/badge/{pipeline}.svg", Role.viewer, health.badge),
    Door("GET", BASE + "/builds/{id:int}/log", Role.viewer, api.log),
    *_calls(),
)
"""Every route there is."""

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        b"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"x-robots-tag", b"noindex"),
]


def application(site: Site) -> ASGIApp:
    """The ASGI application of a server."""
    by_path: dict[str, dict[str, Door]] = {}
    for door in DOORS:
        by_path.setdefault(door.path, {})[door.method] = door
    routes = [
        Route(path, partial(_enter, site, doors), methods=list(doors))
        for path, doors in by_path.items()
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
    app.router.redirect_slashes = False
    return _Armoured(app)


class _Armoured:
    """Adds the headers that keep a browser from being turned against us."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def armoured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await self._app(scope, receive, armoured)


async def _enter(site: Site, doors: dict[str, Door], request: Request) -> Response:
    method = "GET" if request.method == "HEAD" else request.method
    door = doors[method]
    try:
        if door.role is None:
            visitor = Visitor("somebody", None)
        else:
            await site.see_tokens()
            visitor = access.allow(site, request, door.role)
            if method != "GET" and visitor.form_code and not access.same_origin(request):
                raise NotAllowed("this request comes from another site")
        return await door.answer(site, request, visitor)
    except LeeroyError as exc:
        if exc.status >= 500:
            log.warning("%s %s: %s", request.method, door.path, exc)
        return _error(request, exc.status, str(exc), exc.code, isinstance(exc, Unknown))
    except HTTPException:
        raise
    except ClientDisconnect:
        log.info("%s %s: whoever asked has gone", request.method, door.path)
        return Response(status_code=400)
    except Exception:
        log.exception("%s %s failed", request.method, door.path)
        return _error(request, 500, "something went wrong here; the log says what", "failed", False)


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    words = {404: "there is nothing at this address", 405: "this cannot be done at this address"}
    code = "not_found" if exc.status_code == 404 else "invalid"
    answer = _error(request, exc.status_code, words.get(exc.status_code, exc.detail), code, False)
    for name, value in (exc.headers or {}).items():
        answer.headers[name] = value
    return answer


def _for_programs(request: Request) -> bool:
    """Whether an error is to be JSON: what both read is a page only where one is asked for."""
    path = request.url.path
    if path.startswith(("/api/", "/hooks/")):
        return True
    both = path == "/metrics" or path.startswith("/badge/") or "/artifacts/" in path
    return both and "text/html" not in request.headers.get("accept", "")


def _error(request: Request, status: int, sentence: str, code: str, unknown: bool) -> Response:
    path = request.url.path
    again = AGAIN if status == 503 else {}
    if _for_programs(request):
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        headers |= again
        return JSONResponse({"error": sentence, "code": code}, status_code=status, headers=headers)
    if unknown and request.method in ("GET", "HEAD") and path != "/login":
        return RedirectResponse("/login", status_code=303)
    answer = page("error.html", {"status": status, "sentence": sentence}, status=status)
    answer.headers.update(again)
    return answer
