"""The words that are stored, sent and shown: of builds, steps, histories and tokens."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a build is.  The word is the same in the database, the API, the log and the docs."""

    queued = "queued"
    building = "building"
    passed = "passed"
    deploy_pending = "deploy_pending"
    deploying = "deploying"
    done = "done"
    failed = "failed"
    deploy_failed = "deploy_failed"
    cancelled = "cancelled"
    superseded = "superseded"
    interrupted = "interrupted"

    @property
    def over(self) -> bool:
        """Whether no move leads out of this state."""
        return self in OVER


OVER = frozenset({State.done, State.failed, State.deploy_failed, State.cancelled, State.superseded})
"""The states no build ever leaves."""


HOLDING = frozenset({State.deploying, State.interrupted})
"""The states in which a build holds its environment."""


class Move(StrEnum):
    """What can happen to a build; `accept` is how every history starts."""

    accept = "accept"
    start = "start"
    requeue = "requeue"
    pass_ = "pass"
    fail = "fail"
    announce = "announce"
    hold = "hold"
    deploy = "deploy"
    withdraw = "withdraw"
    finish = "finish"
    lose = "lose"
    resolve_done = "resolve_done"
    resolve_failed = "resolve_failed"
    resolve_again = "resolve_again"
    cancel = "cancel"
    supersede = "supersede"


class Stage(StrEnum):
    """The kinds of step, in the order in which they run."""

    checkout = "checkout"
    test = "test"
    build = "build"
    deploy = "deploy"
    verify = "verify"
    status = "status"


class StepState(StrEnum):
    """Where a step is.  `interrupted`: it ran and nobody saw its end."""

    waiting = "waiting"
    running = "running"
    passed = "passed"
    failed = "failed"
    cancelled = "cancelled"
    interrupted = "interrupted"


class Role(StrEnum):
    """What a token may do; each role may also do what the ones before it may."""

    viewer = "viewer"
    operator = "operator"
    admin = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what *needed* may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Kind(StrEnum):
    """
    What the chronicle of a build holds besides its moves.

    accepted: `who` has the notice of event `number`.  gate: gate `who` is why
    its deploy waits, `said` is its sentence; for "open" `number` is the grace
    period as it was watched, in microseconds.  approved: by `who`.  started:
    the server of host `who` started, `said` is how the one before it ended.
    """

    accepted = "accepted"
    gate = "gate"
    approved = "approved"
    started = "started"


class Turn(StrEnum):
    """
    What became of a pull request.

    `changed` is anything after which its commit may be one that was not
    tested yet: opened, new commits, another base, ready for review.
    """

    changed = "changed"
    reopened = "reopened"
    closed = "closed"
