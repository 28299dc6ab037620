"""The rows of `steps`: every execution of every script of a build."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, func, select, update

from leeroy.db.tables import steps
from leeroy.model import Step
from leeroy.terms import Stage, StepState

_INSERT = steps.insert()
_OF = select(steps).where(steps.c.build_id == sa.bindparam("build")).order_by(steps.c.id)
_OF_RUN = select(steps).where(steps.c.run_id == sa.bindparam("run"))


@cache
def _update(names: tuple[str, ...]) -> sa.Update:
    statement = update(steps).where(steps.c.id == sa.bindparam("b_id"))
    return statement.values({name: sa.bindparam(f"v_{name}") for name in names})


def step_of(row: Row[Any]) -> Step:
    """The frozen picture of a row."""
    values = dict(row._mapping)
    values["stage"] = Stage(values["stage"])
    values["state"] = StepState(values["state"])
    values["environment"] = values["environment"] or None
    return Step(**values)


def add(
    conn: Connection,
    build_id: int,
    stage: Stage,
    name: str,
    *,
    environment: str | None = None,
    attempt: int = 1,
    **values: Any,
) -> int:
    """A new step; it waits unless *values* say more.  Returns its id."""
    row = {
        "build_id": build_id,
        "stage": str(stage),
        "name": name,
        "environment": environment or "",
        "attempt": attempt,
        "state": StepState.waiting,
        **values,
    }
    key = conn.execute(_INSERT, row).inserted_primary_key
    assert key is not None
    return int(key[0])


def change(conn: Connection, step_id: int, **values: Any) -> None:
    """Set columns of a step."""
    parameters = {f"v_{name}": value for name, value in values.items()}
    conn.execute(_update(tuple(values)), parameters | {"b_id": step_id})


def of(conn: Connection, build_id: int) -> list[Step]:
    """Every step of a build, in the order in which they were planned."""
    return [step_of(row) for row in conn.execute(_OF, {"build": build_id})]


def get(conn: Connection, step_id: int) -> Step | None:
    """One step."""
    row = conn.execute(select(steps).where(steps.c.id == step_id)).first()
    return None if row is None else step_of(row)


def of_run(conn: Connection, run_id: str) -> Step | None:
    """The step that is executed in that run directory."""
    row = conn.execute(_OF_RUN, {"run": run_id}).first()
    return None if row is None else step_of(row)


def running(conn: Connection, host: str) -> list[Step]:
    """The steps that run on *host*, as far as the rows know."""
    statement = select(steps).where(steps.c.state == StepState.running, steps.c.host == host)
    return [step_of(row) for row in conn.execute(statement.order_by(steps.c.id))]


def last_attempt(conn: Connection, build_id: int, stage: Stage, name: str, env: str | None) -> int:
    """The highest attempt of a step so far; 0 when it was never planned."""
    statement = select(func.max(steps.c.attempt)).where(
        steps.c.build_id == build_id,
        steps.c.stage == stage,
        steps.c.name == name,
        steps.c.environment == (env or ""),
    )
    return int(conn.execute(statement).scalar() or 0)


def give_up_waiting(conn: Connection, build_id: int) -> None:
    """The steps that had not started never will."""
    conn.execute(
        update(steps)
        .where(steps.c.build_id == build_id, steps.c.state == StepState.waiting)
        .values(state=StepState.cancelled)
    )
