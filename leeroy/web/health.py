"""Whether the server is well, for machines that ask: healthz, readyz, metrics, badges."""

from __future__ import annotations

import time
from html import escape

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from leeroy.db import builds, outbox
from leeroy.errors import NotFound, Unavailable
from leeroy.terms import State
from leeroy.web.access import Visitor
from leeroy.web.state import AGAIN, Site


async def healthz(site: Site, request: Request, visitor: Visitor) -> Response:
    """200: hooks are taken."""
    if site.database.broken is not None or site.database.trouble is not None:
        return _unwell("the database cannot be written")
    try:
        await site.read(builds.next_due)
    except Unavailable as exc:
        return _unwell(str(exc))
    return PlainTextResponse("well\n")


def _unwell(why: str) -> Response:
    return PlainTextResponse(f"{why}\n", status_code=503, headers=AGAIN)


async def readyz(site: Site, request: Request, visitor: Visitor) -> Response:
    """200: hooks are taken, and builds advance."""
    why = site.ready()
    if why is not None:
        return _unwell(why)
    return await healthz(site, request, visitor)


async def metrics(site: Site, request: Request, visitor: Visitor) -> Response:
    """Numbers in the text format of Prometheus."""

    def work(conn: Connection) -> list[str]:
        states, notices = builds.counts(conn), outbox.counts(conn)
        lines = ["# TYPE leeroy_builds gauge"]
        lines += [f'leeroy_builds{{state="{s}"}} {states.get(s, 0)}' for s in State]
        lines += ["# TYPE leeroy_notices gauge"]
        for word in ("waiting", "sent", "dead", "obsolete"):
            lines.append(f'leeroy_notices{{state="{word}"}} {notices.get(word, 0)}')
        up = time.monotonic() - site.started_at
        return [*lines, "# TYPE leeroy_up_seconds counter", f"leeroy_up_seconds {up:.1f}"]

    lines = await site.read(work)
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


_COLOURS = {State.done: "#20603d", State.passed: "#20603d", State.cancelled: "#777"}


async def badge(site: Site, request: Request, visitor: Visitor) -> Response:
    """How the newest build of a pipeline (and `?branch=`) ended, as a small picture."""
    name, branch = request.path_params["pipeline"], request.query_params.get("branch")
    if name not in site.pipelines():
        raise NotFound(f"there is no pipeline {name!r}")
    found = await site.read(lambda conn: builds.last_on_branch(conn, name, branch))
    word = "no build" if found is None else str(found.state)
    colour = "#777" if found is None else _COLOURS.get(found.state, "#b3261e")
    if found is not None and found.state in (State.deploy_pending, State.deploying):
        colour = "#8a5a00"
    left, right = 12 + 7 * len(name), 12 + 7 * len(word)
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{escape(name)}: {word}"><rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/>'
        '<g fill="#fff" font-family="monospace" font-size="11">'
        f'<text x="6" y="14">{escape(name)}</text>'
        f'<text x="{left + 6}" y="14">{word}</text></g></svg>'
    )
    return Response(text, media_type="image/svg+xml")
