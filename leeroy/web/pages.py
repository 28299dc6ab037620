"""The pages: the list, a build, environments, and the login."""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlencode

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from leeroy import guard, operations, pushes, shelf, views
from leeroy.db import artifacts, builds, deploys, house, logs, outbox, reports, steps
from leeroy.errors import Invalid, LeeroyError, NotAllowed
from leeroy.model import Build
from leeroy.notify.words import plain
from leeroy.terms import Role, State
from leeroy.verdict import gather, words
from leeroy.web import access
from leeroy.web.access import Visitor
from leeroy.web.html import page
from leeroy.web.state import Site

ON_A_PAGE = 40
_ARTIFACTS_SHOWN = 50
_LOG_SHOWN = 64 << 10
_LARGEST = 16 << 10


async def list_(site: Site, request: Request, visitor: Visitor) -> Response:
    """The newest builds, with filters."""
    query = request.query_params
    chosen = {key: query.get(key) or None for key in ("pipeline", "branch", "state")}
    if chosen["state"] and chosen["state"] not in {str(s) for s in State}:
        raise Invalid(f"{chosen['state']!r} is no state of a build")
    before = query.get("before", "")

    def work(conn: Connection) -> dict[str, Any]:
        found = builds.latest(
            conn,
            pipeline=chosen["pipeline"],
            branch=chosen["branch"],
            state=None if chosen["state"] is None else State(chosen["state"]),
            before=int(before) if re.fullmatch(r"[0-9]{1,18}", before) else None,
            limit=ON_A_PAGE + 1,
        )
        shelved = house.shelf(conn)
        warnings = [s.mistakes for s in shelved.values() if s.mistakes and s.present]
        in_force = shelf.current(conn)
        warnings += pushes.silent(conn, in_force)
        room = site.context.short_of_room()
        doubt = guard.frozen(conn)
        if doubt is not None:
            warnings.insert(0, f"everything is frozen: {doubt}")
        dead = outbox.counts(conn).get("dead", 0)
        if dead:
            warnings.append(f"{dead} notices were given up; `leeroy doctor` says which and why")
        dead = reports.counts(conn).get("dead", 0)
        if dead:
            warnings.append(
                f"{dead} reports to forges were given up; `leeroy doctor` says which and why"
            )
        warnings += [
            f"the token {token.reference} of pipeline {token.pipeline} is dead: {token.said}"
            for token in reports.buried(conn)
        ]
        return {
            "builds": found[:ON_A_PAGE],
            "names": sorted(in_force),
            "warnings": warnings if room is None else [room, *warnings],
            "more": _older(chosen, found),
        }

    facts = await site.read(work)
    return page("list.html", facts | {"chosen": chosen, "states": [str(s) for s in State]})


def _older(chosen: dict[str, str | None], found: list[Build]) -> str | None:
    if len(found) <= ON_A_PAGE:
        return None
    kept = {key: value for key, value in chosen.items() if value}
    return urlencode(kept | {"before": found[ON_A_PAGE - 1].id})


async def build(
    site: Site, request: Request, visitor: Visitor, answer: str = "", wrong: bool = False
) -> Response:
    """One build: where it is, its steps, log, history and notices."""
    build_id = int(request.path_params["id"])
    facts = await site.read(partial(_build, site=site, build_id=build_id))
    may_act = visitor.role is not None and visitor.role.covers(Role.operator)
    facts |= {
        "answer": answer,
        "wrong": wrong,
        "may_act": may_act and bool(visitor.form_code),
        "code": visitor.form_code,
    }
    return page("build.html", facts, status=409 if wrong else 200)


def _build(conn: Connection, site: Site, build_id: int) -> dict[str, Any]:
    found = views.find(conn, build_id)
    deploy = None
    if found.state is State.deploy_pending and found.environment is not None:
        deploy = deploys.get(conn, build_id, found.environment)
    left = None
    if deploy is not None and deploy.deploy_at is not None:
        left = max((deploy.deploy_at - site.context.clock.now()).total_seconds(), 0.0)
    every = steps.of(conn, build_id)
    parts: list[str] = []
    size = 0
    cursor = "0:0"
    for step in every:
        if not views.has_log(step):
            continue
        tail = logs.tail(conn, step.id, _LOG_SHOWN)
        whole = views.heading(step) + tail + views.footer(conn, found, step)
        parts.append(whole.decode("utf-8", "replace"))
        size += len(tail)
        cursor = views.log_end(conn, found, step)
    text = "".join(parts)
    kept = artifacts.of(conn, artifacts.owner(conn, found))
    return {
        "build": found,
        "host": house.host_name(conn, found.host),
        "waiting": views.waiting_for(conn, site.context, found),
        "left_s": left,
        "steps": every,
        "events": builds.history(conn, build_id),
        "notices": [views.notice_json(n, state) for n, state in outbox.of(conn, build_id)],
        "artifacts": kept[:_ARTIFACTS_SHOWN],
        "more_artifacts": len(kept) - _ARTIFACTS_SHOWN,
        "log": plain(text[-_LOG_SHOWN:]),
        "cut": size >= _LOG_SHOWN,
        "cursor": cursor,
        "verdict": gather.verdict(conn, found) if found.state.over else None,
        "sentence": words.sentence,
        "actions": _actions(found, held=deploy is not None and deploy.held_at is not None),
    }


def _actions(found: Build, *, held: bool) -> list[tuple[str, str]]:
    actions: list[tuple[str, str]] = []
    if found.state is State.deploy_pending:
        actions.append(("cancel", "Stop this deploy"))
        if not held:
            actions.append(("hold", "Hold it"))
        actions.append(("approve", "Let it go on now"))
    elif found.state in (State.queued, State.building, State.passed):
        actions.append(("cancel", "Stop this build"))
        if found.fork and found.approved_by is None and found.state is State.queued:
            actions.append(("approve", "Let this fork's code run"))
    elif found.state.over:
        actions.append(("retry", "Run it again"))
    return actions


async def act(site: Site, request: Request, visitor: Visitor) -> Response:
    """What a button of a build's page asks for."""
    fields = await _form(request)
    code = fields.get("code", "")
    if not visitor.form_code or code != visitor.form_code or not access.same_origin(request):
        raise NotAllowed("this form is not from this page; log in and try again")
    action, build_id = fields.get("action", ""), int(request.path_params["id"])
    if action not in ("cancel", "hold", "approve", "retry"):
        raise Invalid(f"{action!r} is nothing that can be done with a build")
    arguments: dict[str, Any] = {"id": build_id}
    if action == "approve":
        arguments["environment"] = await site.read(
            lambda conn: views.find(conn, build_id).environment
        )
    work = partial(operations.DO[action], context=site.context, actor=visitor.name, **arguments)
    try:
        found = await site.ask(work)
    except LeeroyError as exc:
        if exc.status >= 500:
            raise
        return await build(site, request, visitor, str(exc), wrong=True)
    if action == "retry":
        return RedirectResponse(f"/builds/{found['id']}", status_code=303)
    return RedirectResponse(f"/builds/{build_id}", status_code=303)


async def environments(site: Site, request: Request, visitor: Visitor) -> Response:
    """What runs where."""
    work = partial(views.environments_json, now=site.context.clock.now())
    return page("environments.html", {"places": await site.read(work)})


async def login_form(site: Site, request: Request, visitor: Visitor) -> Response:
    """Where a token is asked for."""
    return page("login.html", {"wrong": False})


async def login(site: Site, request: Request, visitor: Visitor) -> Response:
    """A token made a cookie."""
    if not access.same_origin(request):
        raise NotAllowed("this form is not from this page")
    fields = await _form(request)
    await site.see_tokens()
    cookie = access.login(site, fields.get("token", ""))
    if cookie is None:
        return page("login.html", {"wrong": True}, status=401)
    answer = RedirectResponse("/", status_code=303)
    answer.set_cookie(
        access.COOKIE,
        cookie,
        max_age=access.LASTS_S,
        httponly=True,
        samesite="lax",
        secure=site.context.config.url.startswith("https://"),
    )
    return answer


async def _form(request: Request) -> dict[str, str]:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > _LARGEST:
        raise Invalid("the form is too large")
    fields = parse_qs((await request.body()).decode("utf-8", "replace"))
    return {key: values[-1] for key, values in fields.items()}
