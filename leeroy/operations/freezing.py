"""Freezing and thawing environments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from leeroy import durations, guard, views
from leeroy.context import Context
from leeroy.db import builds, chronicle, deploys
from leeroy.errors import Invalid, NotFound, NotPossible
from leeroy.model import Build, Environment
from leeroy.operations import common
from leeroy.operations.common import Json
from leeroy.terms import Kind, State


def freeze(
    conn: Connection,
    context: Context,
    actor: str,
    *,
    which: str,
    reason: str | None = None,
    until: str | None = None,
) -> Json:
    """Let no automatic deploy start in an environment (`pipeline/name`, `name`, or `*` for all)."""
    now = context.clock.now()
    ends = None if until is None else moment(until, now)
    if ends is not None and ends <= now:
        raise Invalid(f"{until} is over already")
    for pipeline, name in _which(conn, which):
        doubt = guard.frozen(conn) if (pipeline, name) == deploys.EVERY else None
        if doubt is not None:
            raise NotPossible(f"everything is frozen by Leeroy already: {doubt}")
        deploys.change(
            conn,
            pipeline,
            name,
            frozen_at=now,
            frozen_by=actor,
            frozen_reason=reason,
            frozen_until=ends,
        )
        common.note(conn, context, actor, "freeze", f"{pipeline}/{name}", reason)
    builds.nudge(conn, now, but_locked=True)
    return {"environments": views.environments_json(conn, now)}


def thaw(conn: Connection, context: Context, actor: str, *, which: str) -> Json:
    """
    Let deploys go on: each that waits is announced again, with its full grace period.

    `*` is every freeze there is: the one of everything, and each environment's own.
    Where the restore guard had frozen everything, what people said before that (an
    approval, `--now`) was said of another moment, and counts no more.

    Raises:
        NotPossible: None of them is frozen; the sentence says if everything still is.
    """
    now = context.clock.now()
    named = _which(conn, which)
    every = deploys.environment(conn, *deploys.EVERY)
    if named == [deploys.EVERY]:
        named += [(place.pipeline, place.name) for place in deploys.all_environments(conn)]
    back = 0
    if named[0] == deploys.EVERY and every is not None and guard.frozen(conn) is not None:
        assert every.frozen_at is not None
        back = _take_back(conn, every.frozen_at, now)
    thawed = [place for place in named if _thaw(conn, context, actor, *place)]
    still = ""
    if named[0] != deploys.EVERY and every is not None and _is_frozen(every, now):
        still = f"; everything is still frozen, by {every.frozen_by}: `leeroy thaw --all` ends that"
    if not thawed:
        nothing = "nothing is frozen" if named[0] == deploys.EVERY else ""
        raise NotPossible(nothing or f"{_listed(named)}: not frozen by itself{still}")
    builds.nudge(conn, now, but_locked=True)
    answer = f"{_listed(thawed)}: thawed{still}"
    if back:
        answer += (
            f"; {back} that had been approved before, or asked for with --now, "
            f"{'waits' if back == 1 else 'wait'} like any other"
        )
    return {"environments": views.environments_json(conn, now), "answer": answer}


def _thaw(conn: Connection, context: Context, actor: str, pipeline: str, name: str) -> bool:
    """Lift one freeze; False where there is none, or it is over by itself."""
    found = deploys.environment(conn, pipeline, name)
    if found is None or not _is_frozen(found, context.clock.now()):
        return False
    every = (pipeline, name) == deploys.EVERY
    if every and found.frozen_by == guard.WHO:
        guard.thawed(conn)
    deploys.change(
        conn,
        pipeline,
        name,
        frozen_at=None,
        frozen_by=None,
        frozen_reason=None,
        frozen_until=None,
    )
    deploys.unannounce(
        conn, pipeline=None if every else pipeline, environment=None if every else name
    )
    common.note(conn, context, actor, "thaw", f"{pipeline}/{name}")
    return True


def _take_back(conn: Connection, before: datetime, now: datetime) -> int:
    """What was approved, or asked for with `--now`, *before* has no start of its own any more."""
    back = set()
    for number in deploys.approved_before(conn, before):
        build = builds.get(conn, number, lock=True)
        if build is None or build.state is not State.deploy_pending or not build.environment:
            continue
        deploy = deploys.get(conn, number, build.environment)
        assert deploy is not None
        said = (
            f"{deploy.approved_by} approved it before the database was put back: "
            "that counts no more"
        )
        deploys.put(conn, build, build.environment, approved_at=None, approved_by=None)
        _say(conn, build, "approval", said, now)
        back.add(number)
    for number in deploys.hurried_before(conn, before):
        build = builds.get(conn, number, lock=True)
        if build is not None and not build.state.over:
            builds.change(conn, number, without_grace=False)
            said = "--now was said before the database was put back: that counts no more"
            _say(conn, build, "grace", said, now)
            back.add(number)
    return len(back)


def _say(conn: Connection, build: Build, gate: str, said: str, now: datetime) -> None:
    where = build.environment or build.deploy_to
    chronicle.add(conn, build.id, build.version, Kind.gate, gate, now, said=said, environment=where)


def _is_frozen(place: Environment, now: datetime) -> bool:
    return place.frozen_at is not None and (place.frozen_until is None or place.frozen_until > now)


def _listed(places: Sequence[tuple[str, str]]) -> str:
    return ", ".join("everything" if p == deploys.EVERY else "/".join(p) for p in places)


def moment(text: str, now: datetime) -> datetime:
    """A moment as people write it: "2h" from *now*, "18:30" today or tomorrow, or ISO 8601."""
    if re.fullmatch(r"([0-9.]+(ms|s|m|h|d))+", text):
        try:
            return now + timedelta(seconds=durations.seconds(text))
        except OverflowError as exc:
            raise Invalid(f"{text!r} is longer than any calendar") from exc
    clock = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text)
    if clock is not None:
        local = now.astimezone()
        at = local.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return (at if at > local else at + timedelta(days=1)).astimezone(UTC)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        example = 'write "2h", "18:30" or "2026-01-31T18:30"'
        raise Invalid(f"{text!r} is no moment; {example}") from exc


def _which(conn: Connection, which: str) -> list[tuple[str, str]]:
    deploys.ensure_every(conn)
    if which in ("*", "--all"):
        deploys.lock_all(conn)
        return [deploys.EVERY]
    pipeline, slash, name = which.rpartition("/")
    known = deploys.all_environments(conn)
    found = [e for e in known if e.name == name and (not slash or e.pipeline == pipeline)]
    if not found:
        listed = ", ".join(f"{e.pipeline}/{e.name}" for e in known) or "none"
        raise NotFound(f"there is no environment {which!r}; there are: {listed}")
    for lock in sorted({e.lock for e in found}):
        deploys.locked(conn, lock)
    return [(e.pipeline, e.name) for e in found]
