"""The rows of `builds` and `events`: what every build is, and every move it made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, bindparam, func, select, update

from leeroy.db.engine import touch
from leeroy.db.tables import builds, events, steps
from leeroy.machine import AFTER_STOP
from leeroy.model import Build, Event
from leeroy.terms import OVER, Move, State

_FIELDS = tuple(column.name for column in builds.columns)
_ALL = select(builds)
_GET = _ALL.where(builds.c.id == bindparam("id"))
_LOCK = _GET.with_for_update()
_OF_RUN = _ALL.where(
    builds.c.id
    == select(steps.c.build_id).where(steps.c.run_id == bindparam("run")).scalar_subquery()
).with_for_update()
_INSERT = builds.insert()
_SLOTS = select(builds.c.slot).where(
    builds.c.state == State.building, builds.c.host == bindparam("host")
)
_NEXT_DUE = select(func.min(builds.c.due_at))
_QUEUED = (
    _ALL.where(
        builds.c.state == State.queued,
        builds.c.id > bindparam("after"),
        # Strangers open pull requests by the hundred: they are not in anybody's way.
        sa.not_(sa.and_(builds.c.fork, builds.c.approved_by.is_(None))),
    )
    .order_by(builds.c.id)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
_BUILDING = (
    select(builds.c.id)
    .where(builds.c.state == State.building)
    .order_by(builds.c.id)
    .limit(bindparam("limit"))
)
_EVENT = events.insert()


def build_of(row: Row[Any]) -> Build:
    """The frozen picture of a row."""
    values = dict(zip(_FIELDS, row, strict=True))
    values["state"] = State(values["state"])
    return Build(**values)


def next_id(conn: Connection) -> int:
    """The number the next build gets; nobody else gets it."""
    if conn.dialect.name == "sqlite":
        # AUTOINCREMENT is not to be had for a column that is part of a foreign key.
        sql = (
            "INSERT INTO settings (key, value) VALUES ('last_build', '1') ON CONFLICT (key)"
            " DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING CAST(value AS INTEGER)"
        )
    else:
        sql = "SELECT nextval(pg_get_serial_sequence('builds', 'id'))"
    return int(conn.exec_driver_sql(sql).scalar_one())


def add(conn: Connection, **values: Any) -> Build:
    """A new queued build with its first event still to be added; *values* are its columns."""
    conn.execute(_INSERT, values)
    touch(conn, "builds")
    row: dict[str, Any] = dict.fromkeys(_FIELDS) | values
    return Build(**row)


def get(conn: Connection, build_id: int, *, lock: bool = False) -> Build | None:
    """The build; with *lock* nobody else may write it before this transaction ends."""
    row = conn.execute(_LOCK if lock else _GET, {"id": build_id}).first()
    return None if row is None else build_of(row)


def of_run(conn: Connection, run_id: str) -> Build | None:
    """The build that is executed in that run directory; nobody else writes it meanwhile."""
    row = conn.execute(_OF_RUN, {"run": run_id}).first()
    return None if row is None else build_of(row)


def move(conn: Connection, build: Build, to: State, changes: dict[str, Any], how: Move) -> bool:
    """
    Compare and swap a build's state and version.

    False means that somebody moved it first, or asked it to stop and *how* is
    none of the moves possible after that: nothing was written.
    """
    running = build.state in (State.building, State.deploying)
    values = {"state": str(to), "version": build.version + 1, **changes}
    statement = _swap(tuple(values), running and how not in AFTER_STOP)
    parameters = {f"v_{name}": value for name, value in values.items()}
    parameters |= {"b_id": build.id, "b_version": build.version}
    return conn.execute(statement, parameters).rowcount == 1


@cache
def _swap(names: tuple[str, ...], unless_stopped: bool) -> sa.Update:
    """The UPDATE of a move; to put one together takes as long as to execute it."""
    statement = update(builds).where(
        builds.c.id == bindparam("b_id"), builds.c.version == bindparam("b_version")
    )
    if unless_stopped:
        statement = statement.where(builds.c.stop_at.is_(None))
    return statement.values({name: bindparam(f"v_{name}") for name in names})


def add_event(conn: Connection, event: Event) -> None:
    """Write down one move; the schema refuses it where the history forbids it."""
    conn.execute(
        _EVENT,
        {
            "build_id": event.build_id,
            "seq": event.seq,
            "prev_seq": event.seq - 1 if event.seq > 1 else None,
            "move": str(event.move),
            "from_state": None if event.from_state is None else str(event.from_state),
            "to_state": str(event.to_state),
            "environment": event.environment,
            "actor": event.actor,
            "reason": event.reason,
            "at": event.at,
        },
    )


def change(conn: Connection, build_id: int, **values: Any) -> None:
    """Set columns that belong to no move (what the checkout resolved, when it is due)."""
    parameters = {f"v_{name}": value for name, value in values.items()}
    conn.execute(_set(tuple(values)), parameters | {"b_id": build_id})


@cache
def _set(names: tuple[str, ...]) -> sa.Update:
    statement = update(builds).where(builds.c.id == bindparam("b_id"))
    return statement.values({name: bindparam(f"v_{name}") for name in names})


def ask_to_stop(
    conn: Connection, build: Build, at: datetime, actor: str, reason: str | None
) -> bool:
    """Write down that a running build is to stop; False means that it was moved meanwhile."""
    columns = builds.c
    statement = update(builds).where(columns.id == build.id, columns.version == build.version)
    values = {"stop_at": at, "stop_actor": actor, "stop_reason": reason, "due_at": at}
    touch(conn, "builds")
    return conn.execute(statement.values(values)).rowcount == 1


def queued(
    conn: Connection, limit: int, *, after: int = 0, but: Collection[str] = ()
) -> list[Build]:
    """
    The builds that wait for nothing but a slot, in the order in which they will get one.

    From the number *after* on, and none of the pipelines *but*.
    """
    statement = _QUEUED if not but else _QUEUED.where(builds.c.pipeline.not_in(sorted(but)))
    return [build_of(row) for row in conn.execute(statement, {"limit": limit, "after": after})]


def due(conn: Connection, now: datetime, states: Sequence[State]) -> list[Build]:
    """The builds the loop must look at by now, oldest place first."""
    statement = _ALL.where(builds.c.due_at <= now, builds.c.state.in_(states))
    return [build_of(row) for row in conn.execute(statement.order_by(builds.c.place))]


def next_due(conn: Connection) -> datetime | None:
    """When the loop must look again, unless something happens before."""
    return conn.execute(_NEXT_DUE).scalar()


def in_state(conn: Connection, *states: State) -> list[Build]:
    """Every build in one of *states*, oldest place first."""
    statement = _ALL.where(builds.c.state.in_(states)).order_by(builds.c.place, builds.c.id)
    return [build_of(row) for row in conn.execute(statement)]


def at_environment(
    conn: Connection, pipeline: str, environment: str, *states: State
) -> list[Build]:
    """The builds in one of *states* at that environment, oldest place first."""
    statement = _ALL.where(
        builds.c.pipeline == pipeline,
        builds.c.environment == environment,
        builds.c.state.in_(states),
    )
    return [build_of(row) for row in conn.execute(statement.order_by(builds.c.place))]


def still(conn: Connection, pipeline: str, environment: str) -> None:
    """
    Nobody else moves the builds that wait there before this transaction ends.

    Whoever moves one has its row first and the environment's after it; so has whoever
    arrives and makes the older ones give way, and none of them waits for the other.
    """
    if conn.dialect.name == "sqlite":
        return  # it has one writer
    waiting = select(builds.c.id).where(
        builds.c.pipeline == pipeline,
        builds.c.environment == environment,
        builds.c.state == State.deploy_pending,
    )
    conn.execute(waiting.order_by(builds.c.place).with_for_update())


def older_tags(conn: Connection, build: Build) -> list[int]:
    """The unfinished tag builds of the same pipeline with a smaller place."""
    statement = select(builds.c.id).where(
        builds.c.pipeline == build.pipeline,
        builds.c.tag.is_not(None),
        builds.c.place < build.place,
        builds.c.id != build.id,
        builds.c.deploys,
        builds.c.state.not_in(sorted(OVER)),
    )
    return list(conn.execute(statement.order_by(builds.c.place)).scalars())


def queued_on_branch(conn: Connection, build: Build) -> list[Build]:
    """The queued builds of the same branch (or pull request) with a smaller place."""
    statement = _ALL.where(
        builds.c.state == State.queued,
        builds.c.pipeline == build.pipeline,
        builds.c.branch == build.branch,
        # A fork may call its branch main: its pull request is no push to ours.
        builds.c.pull_request.is_not_distinct_from(build.pull_request),
        builds.c.place < build.place,
    )
    return [build_of(row) for row in conn.execute(statement)]


def unfinished_of(
    conn: Connection,
    pipeline: str,
    *,
    branch: str | None = None,
    tag: str | None = None,
    pull_request: int | None = None,
) -> list[Build]:
    """
    The builds of a branch, a tag or a pull request that wait or are being tested.

    Nobody else moves them before this transaction ends.  Those of pull
    requests are not of their branch.
    """
    c = builds.c
    states = (State.queued, State.building, State.passed, State.deploy_pending)
    statement = _ALL.where(
        c.state.in_(states),
        c.pipeline == pipeline,
        c.pull_request.is_not_distinct_from(pull_request),
    )
    if pull_request is None:
        statement = statement.where(
            c.branch.is_not_distinct_from(branch), c.tag.is_not_distinct_from(tag)
        )
    found = conn.execute(statement.order_by(c.id).with_for_update())
    return [build_of(row) for row in found]


def of_pull_request(conn: Connection, pipeline: str, number: int) -> list[Build]:
    """Every build of a pull request, newest first; nobody else moves them meanwhile."""
    statement = _ALL.where(builds.c.pipeline == pipeline, builds.c.pull_request == number)
    found = conn.execute(statement.order_by(builds.c.id.desc()).with_for_update())
    return [build_of(row) for row in found]


def slots_taken(conn: Connection, host: str) -> set[int]:
    """The slots in which this host's builds run."""
    found = conn.execute(_SLOTS, {"host": host}).scalars()
    return {int(slot) for slot in found if slot is not None}


def building_ids(conn: Connection, limit: int) -> list[int]:
    """Some of the builds that are building, the oldest first."""
    return list(conn.execute(_BUILDING, {"limit": limit}).scalars())


def running_of(conn: Connection, pipeline: str) -> int:
    """How many builds of a pipeline are building, on all hosts."""
    statement = select(func.count()).where(
        builds.c.state == State.building, builds.c.pipeline == pipeline
    )
    return int(conn.execute(statement).scalar_one())


def wake(conn: Connection) -> None:
    """Wake the loop after this commit."""
    touch(conn, "builds")


def nudge(
    conn: Connection, now: datetime, *, pipeline: str | None = None, but_locked: bool = False
) -> None:
    """
    Make the loop look at every deploy that waits (of one pipeline) at once.

    `but_locked` is for whoever holds the rows of the environments: who has a build's row then
    is on the way to those, and will see what was changed; to wait for each other helps nobody.
    """
    waiting = select(builds.c.id).where(builds.c.state == State.deploy_pending)
    if pipeline is not None:
        waiting = waiting.where(builds.c.pipeline == pipeline)
    if but_locked:
        waiting = waiting.order_by(builds.c.id).with_for_update(skip_locked=True)
    conn.execute(update(builds).where(builds.c.id.in_(waiting)).values(due_at=now))
    touch(conn, "builds")


def rouse(conn: Connection, now: datetime) -> None:
    """Make the loop look at every build that waits for it to decide, as at a start."""
    states = [State.passed, State.deploy_pending, State.interrupted]
    conn.execute(update(builds).where(builds.c.state.in_(states)).values(due_at=now))
    stopping = builds.c.stop_at.is_not(None) & builds.c.state.in_([State.building, State.deploying])
    conn.execute(update(builds).where(stopping).values(due_at=now))
    touch(conn, "builds")


def latest(
    conn: Connection,
    *,
    pipeline: str | None = None,
    branch: str | None = None,
    state: State | None = None,
    before: int | None = None,
    limit: int = 30,
) -> list[Build]:
    """The newest builds first; *before* is the id that ended the page before."""
    statement = _ALL.order_by(builds.c.id.desc()).limit(limit)
    if pipeline is not None:
        statement = statement.where(builds.c.pipeline == pipeline)
    if branch is not None:
        statement = statement.where(builds.c.branch == branch)
    if state is not None:
        statement = statement.where(builds.c.state == state)
    if before is not None:
        statement = statement.where(builds.c.id < before)
    return [build_of(row) for row in conn.execute(statement)]


def after(conn: Connection, build_id: int, limit: int) -> list[Build]:
    """The builds with a larger number, the smallest first."""
    statement = _ALL.where(builds.c.id > build_id).order_by(builds.c.id).limit(limit)
    return [build_of(row) for row in conn.execute(statement)]


def counts(conn: Connection) -> dict[State, int]:
    """How many builds are in each state."""
    statement = select(builds.c.state, func.count()).group_by(builds.c.state)
    return {State(state): count for state, count in conn.execute(statement)}


def last_on_branch(conn: Connection, pipeline: str, branch: str | None) -> Build | None:
    """The newest build of a pipeline (and branch) whose tests have ended, for its badge."""
    ended = [s for s in State if s not in (State.queued, State.building, State.superseded)]
    statement = _ALL.where(
        builds.c.pipeline == pipeline,
        builds.c.state.in_(ended),
        builds.c.pull_request.is_(None),
    )
    if branch is not None:
        statement = statement.where(builds.c.branch == branch)
    row = conn.execute(statement.order_by(builds.c.id.desc()).limit(1)).first()
    return None if row is None else build_of(row)


def newest_of_pull(conn: Connection, pipeline: str, number: int) -> int | None:
    """The newest build of a pull request."""
    statement = select(func.max(builds.c.id)).where(
        builds.c.pipeline == pipeline, builds.c.pull_request == number
    )
    return conn.execute(statement).scalar()


def history(conn: Connection, build_id: int) -> list[Event]:
    """Every move a build made, first to last."""
    statement = select(events).where(events.c.build_id == build_id).order_by(events.c.seq)
    return [event_of(row) for row in conn.execute(statement)]


def event(conn: Connection, build_id: int, seq: int) -> Event | None:
    """One move of a build."""
    statement = select(events).where(events.c.build_id == build_id, events.c.seq == seq)
    row = conn.execute(statement).first()
    return None if row is None else event_of(row)


def event_of(row: Row[Any]) -> Event:
    """The frozen picture of an event's row."""
    return Event(
        build_id=row.build_id,
        seq=row.seq,
        move=Move(row.move),
        from_state=None if row.from_state is None else State(row.from_state),
        to_state=State(row.to_state),
        environment=row.environment,
        actor=row.actor,
        reason=row.reason,
        at=row.at,
    )


def delete(conn: Connection, build_id: int) -> None:
    """Forget a build with its events, steps, logs and notices (retention)."""
    conn.execute(sa.delete(builds).where(builds.c.id == build_id))


def finished_before(conn: Connection, before: datetime, kept: set[int], limit: int) -> list[int]:
    """
    The oldest builds that were over before then, but those to be *kept*.

    Nor those that were deployed again by a build that is still there: it has
    their artifacts, and none of its own.
    """
    again = builds.alias("again")
    needed = sa.exists().where(again.c.source == builds.c.id, again.c.deploy_to.is_not(None))
    statement = (
        select(builds.c.id)
        .where(builds.c.finished_at < before, builds.c.id.not_in(sorted(kept)), ~needed)
        .order_by(builds.c.id)
        .limit(limit)
    )
    return list(conn.execute(statement).scalars())


def needs_run(conn: Connection, run_id: str) -> bool:
    """Whether a run's directory is still needed: it runs, or nobody knows how it ended."""
    statement = (
        select(builds.c.state, steps.c.state)
        .join(steps, steps.c.build_id == builds.c.id)
        .where(steps.c.run_id == run_id)
    )
    row = conn.execute(statement).first()
    if row is None:
        return False
    return bool(row[1] == "running" or row[0] == State.interrupted)
