"""
The frozen values that travel between Leeroy's rooms.

A value here is a picture of a row (or of a delivery) at one moment: it is
never changed, only replaced by a newer picture.  This module knows no
database, no process and no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from leeroy.terms import Kind, Move, Stage, State, StepState, Turn


@dataclass(frozen=True, kw_only=True)
class Build:
    """
    A build's row.

    `version` is the seq of its last event and the value every move compares
    and swaps.  `place` orders builds of a pipeline; `environment` is the one
    whose deploy is announced or running.  `due_at` is when the loop must look
    at the row again; None: only after something else has happened.
    `stop_at` is when somebody asked to stop it while it ran.  `approved_by`
    let the tests of a fork's pull request start.

    `forge` is the forge whose delivery made it ("github", "gitlab",
    "bitbucket", "gitea"), None when none did.  A pull request's build is of
    its source branch: `branch` is that one's name, `base_branch` the one it
    is to be merged into, `pull_request_ref` the ref under which `repository`
    shows its commits (None: there is none; `branch` has them), and
    `head_repository` the address of the repository the branch is in, where
    the forge told one.
    """

    id: int
    place: int
    pipeline: str
    pipeline_text: str
    repository: str | None
    branch: str | None
    tag: str | None
    commit: str | None
    default_branch: str | None
    pull_request: int | None
    fork: bool
    message: str | None
    author: str | None
    author_email: str | None
    trigger: str
    source: int | None
    deploys: bool
    deploy_to: str | None
    without_grace: bool
    approved_by: str | None
    state: State
    version: int
    host: str | None
    environment: str | None
    slot: int | None
    requeues: int
    due_at: datetime | None
    stop_at: datetime | None
    stop_actor: str | None
    stop_reason: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    forge: str | None = None
    base_branch: str | None = None
    head_repository: str | None = None
    pull_request_ref: str | None = None

    def deploy_key(self, environment: str) -> str:
        """LEEROY_DEPLOY of its deploy there: the same in every attempt, and no other's."""
        return f"{self.pipeline}-{environment}-{self.id}"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One move a build made; `from_state` is None only for the first, `accept`."""

    build_id: int
    seq: int
    move: Move
    from_state: State | None
    to_state: State
    environment: str | None
    actor: str
    reason: str | None
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Step:
    """
    One execution of one script (or checkout) of a build.

    `attempt` counts from 1 per (stage, name, environment).  `run_id` names
    the run directory on `host`.  Exactly one of `exit_code` and `signal` is
    set once the end was seen; `reason` says what else ended it.  `raw_bytes`
    is what the script wrote, `dropped_bytes` what of it the log does not hold.
    `begun_seq` and `ended_seq` are the build's version when it began and when
    its end was recorded; `given` is what the script was (JSON: sha256, names
    of variables and secrets, executor, timeout).
    """

    id: int
    build_id: int
    stage: Stage
    name: str
    environment: str | None
    attempt: int
    state: StepState
    run_id: str | None
    host: str | None
    exit_code: int | None
    signal: int | None
    reason: str | None
    raw_bytes: int | None
    dropped_bytes: int | None
    sha256: str | None
    started_at: datetime | None
    finished_at: datetime | None
    begun_seq: int | None = None
    ended_seq: int | None = None
    given: str | None = None


@dataclass(frozen=True, kw_only=True)
class Note:
    """One line of a build's chronicle; `seq` is the build's version when it was written."""

    build_id: int
    seq: int
    kind: Kind
    environment: str | None
    who: str
    said: str | None
    number: int | None
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Deploy:
    """
    One build's deploy to one environment, from its announcement to its outcome.

    `key` is `Build.deploy_key`, for the record.  `announced_at` is None
    while the build waits for its turn, before its grace period can start;
    `watcher` is the host whose process measures that period.
    `heard_at` is when the first listening target accepted the announcement,
    `deploy_at` the earliest start by the wall clock (for people; the decision
    uses a monotonic clock).  `approved_by` and `held_by` are bound to this
    one deploy.
    """

    build_id: int
    environment: str
    key: str
    announced_seq: int | None
    announced_at: datetime | None
    watcher: str | None
    heard_at: datetime | None
    heard_by: str | None
    deploy_at: datetime | None
    approved_at: datetime | None
    approved_by: str | None
    held_at: datetime | None
    held_by: str | None
    held_reason: str | None
    withdrawals: int
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """
    A place that is deployed to, known by (pipeline, name).

    `runs_*` tell what runs there, `holder` the one build that is deploying to
    it or was interrupted there.  `frozen_*` stop its automatic deploys.  The
    row (pipeline "", name "*") is no environment: its freeze holds all.
    """

    pipeline: str
    name: str
    lock: str
    runs_build: int | None
    runs_place: int | None
    runs_commit: str | None
    runs_at: datetime | None
    holder: int | None
    frozen_at: datetime | None
    frozen_by: str | None
    frozen_reason: str | None
    frozen_until: datetime | None


@dataclass(frozen=True, kw_only=True)
class Push:
    """
    One ref that moved, as a forge told it.

    Exactly one of `branch` and `tag` is set, without `refs/…/`.  `commit` is
    the commit to build (never an annotated tag's own object), None when
    `deleted`.  `message` is the head commit's whole message.
    """

    branch: str | None
    tag: str | None
    commit: str | None
    deleted: bool = False
    message: str | None = None
    author: str | None = None
    author_email: str | None = None
    default_branch: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pull:
    """
    One pull (or merge) request, as a forge told it.

    `commit` is the head's: whole, or its first 12 digits (Bitbucket Cloud),
    or None (Gogs).  `branch` is the source branch, `base_branch` the one it
    is to be merged into.  `fork` is true unless the forge proves that both
    are in one repository.  `ref` is where the repository shows its commits,
    None when it has no such ref: then `branch` of `head_repository` (an
    address) has them.
    """

    number: int
    turn: Turn
    commit: str | None
    branch: str | None
    base_branch: str
    fork: bool
    ref: str | None
    head_repository: str | None = None
    title: str | None = None
    author: str | None = None
    author_email: str | None = None
    default_branch: str | None = None


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """
    One webhook delivery, verified and understood.

    `id` is the forge's delivery id (stable over redeliveries).  `addresses`
    are every address of the repository the payload names (web, clone, ssh);
    `pushes` the refs that moved, `pulls` the pull requests that changed;
    `ignored` says why a valid delivery starts nothing (then both are empty).
    `about` names what moved where the forge tells of it twice, by deliveries
    of two events: the same in both.
    """

    forge: str
    id: str
    event: str
    addresses: tuple[str, ...]
    pushes: tuple[Push, ...] = ()
    pulls: tuple[Pull, ...] = ()
    ignored: str | None = None
    about: str | None = None


@dataclass(frozen=True, kw_only=True)
class Notice:
    """
    One row of the outbox: one event for one target; `urgent` is an announcement.

    `target` is the `to` of the `[[notify]]` block, as written (a name such as
    `env:OPS_MAIL` or an Apprise URL).  `accepted` lists recipients of the
    target that already have it.  `state` is waiting, sent, dead or obsolete.
    """

    id: int
    build_id: int
    seq: int
    target: str
    urgent: bool
    state: str
    attempts: int
    accepted: tuple[str, ...]
    next_try_at: datetime
    last_error: str | None
    created_at: datetime
    sent_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """What one target is told that is no move of a build; as a `Notice`, with its words."""

    id: int
    title: str
    body: str
    target: str
    attempts: int
    accepted: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Report:
    """
    What one thing on a forge is to show, and whether it does.

    `kind` is status, comment, deployment or close; `subject` the commit, the
    pull request's number, or (a deployment) the build's; `context` the
    status's name or the environment.  It shows build `build_id` as of its
    move `seq`.  `remote_id` is the forge's own id of it, `marker` what it is
    known by where that id is not; `look`: somebody may have made it already
    and died.  `state` is waiting, sent, dead or obsolete.
    """

    id: int
    pipeline: str
    kind: str
    subject: str
    context: str
    build_id: int
    seq: int
    marker: str
    remote_id: str | None
    look: bool
    state: str
    attempts: int
    wanted_at: datetime
    next_try_at: datetime
    last_error: str | None
    sent_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class DeadToken:
    """A token that a forge does not know (any more): whose, under which name, and what was said."""

    fingerprint: str
    pipeline: str
    reference: str
    said: str
    at: datetime
