"""
The page behind a stop link: what would be stopped, and two buttons.

Looking changes nothing, for mail scanners and chat previews look at every
link.  The token is the right; nobody logs in.
"""

from __future__ import annotations

from functools import partial
from urllib.parse import parse_qs

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from leeroy import stoplink, views
from leeroy.db import deploys
from leeroy.errors import Invalid, LeeroyError, NotFound, NotPossible
from leeroy.operations import stopping
from leeroy.terms import State
from leeroy.web.access import Visitor
from leeroy.web.html import page
from leeroy.web.state import Site

_LARGEST = 4096


async def show(site: Site, request: Request, visitor: Visitor) -> Response:
    """What would be stopped, what runs there now, and the time left."""
    right = _right(site, request)
    facts = await site.read(partial(_facts, site=site, right=right))
    return page("stop.html", facts | {"wants_json": False})


async def act(site: Site, request: Request, visitor: Visitor) -> Response:
    """Stop or hold; 200 again for what is stopped already, 409 when it is too late."""
    right = _right(site, request)
    action = await _action(request)
    work = partial(stopping.by_link, context=site.context, right=right, action=action)
    status, answer, wrong = 200, "", False
    try:
        _, answer = await site.ask(work)
    except NotPossible as exc:
        status, answer, wrong = exc.status, str(exc), True
    facts = await site.read(partial(_facts, site=site, right=right))
    return page("stop.html", facts | {"answer": answer, "wrong": wrong}, status=status)


def _right(site: Site, request: Request) -> stoplink.Right:
    right = stoplink.right(site.key, request.path_params["token"])
    if right is None:
        raise NotFound("this stop link is not known here; was all of it copied?")
    return right


async def _action(request: Request) -> str:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > _LARGEST:
        raise Invalid("the body is too large")
    fields = parse_qs((await request.body()).decode("utf-8", "replace"))
    action = fields.get("action", ["cancel"])[-1]
    if action not in ("cancel", "hold"):
        raise Invalid(f"{action!r} is neither cancel nor hold")
    return action


def _facts(conn: Connection, site: Site, right: stoplink.Right) -> dict[str, object]:
    build, environment = stopping.linked(conn, right)
    found = deploys.get(conn, build.id, environment)
    place = deploys.environment(conn, build.pipeline, environment)
    pending = build.state is State.deploy_pending and build.environment == environment
    late = None
    if not pending and build.state is not State.cancelled:
        late = stopping.too_late(conn, build, environment)
    waiting = None
    if pending:
        try:
            waiting = views.waiting_for(conn, site.context, build)
        except LeeroyError as exc:
            waiting = str(exc)
    left = None
    if pending and found is not None and found.deploy_at is not None:
        left = max((found.deploy_at - site.context.clock.now()).total_seconds(), 0.0)
    return {
        "build": build,
        "environment": environment,
        "place": place,
        "pending": pending,
        "held": found is not None and found.held_at is not None,
        "late": late,
        "waiting": waiting,
        "deploy_at": found.deploy_at if found is not None and pending else None,
        "left_s": left,
    }
