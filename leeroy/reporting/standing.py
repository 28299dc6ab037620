"""How a build's tests, or its deploy to an environment, stand: a word and a sentence.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from leeroy.forges.values import Word
from leeroy.model import Build, Deploy, Event, Step
from leeroy.notify.words import one_line
from leeroy.terms import Stage, State

_LONGEST = 200
_STOPPED = frozenset({State.cancelled, State.superseded})


@dataclass(frozen=True)
class Standing:
    """A word that every forge has one for, and a sentence for people."""

    word: Word
    sentence: str


def of_tests(build: Build, last: Event, step: Step | None, *, passed: bool) -> Standing:
    """
    How the tests and builds stand.

    *last* is the build's last event, *step* the one that failed; *passed*: they
    all exited 0 at some time, whatever became of the build after that.
    """
    if build.state is State.queued:
        if build.fork and build.approved_by is None:
            return Standing(Word.waiting, "a person must let this fork's code run")
        return Standing(Word.waiting, "waits for a free slot")
    if build.state is State.building:
        return Standing(Word.running, "the tests run")
    if build.state is State.failed:
        # What is no fault of the commit: no checkout, or a run that was lost again and again.
        own = step is not None and step.stage is not Stage.checkout
        return Standing(Word.failed if own else Word.error, _why(last, "failed"))
    if build.state in _STOPPED and not passed:
        return Standing(Word.stopped, _why(last, str(build.state)))
    return Standing(Word.passed, "the tests passed")


def of_deploy(build: Build, deploy: Deploy | None, environment: str, last: Event) -> Standing:
    """How the deploy to *environment* stands; *last* is the build's last event."""
    if build.environment == environment:
        if build.state is State.deploy_pending:
            if deploy is not None and deploy.held_at is not None:
                return Standing(Word.waiting, f"held by {one_line(deploy.held_by or '', 60)}")
            return Standing(Word.waiting, f"is to be deployed to {environment}")
        if build.state is State.deploying:
            return Standing(Word.running, f"is being deployed to {environment}")
        if build.state is State.interrupted:
            return Standing(Word.error, "nobody saw how the deploy ended; a person must say")
    outcome = None if deploy is None else deploy.outcome
    if outcome == "done":
        return Standing(Word.passed, f"deployed to {environment}")
    if outcome == "failed":
        return Standing(Word.failed, _why(last, f"the deploy to {environment} failed"))
    if outcome == "cancelled" and deploy is not None and deploy.started_at is not None:
        return Standing(Word.failed, _why(last, "the deploy was stopped while it ran"))
    return Standing(Word.stopped, _why(last, "not deployed"))


def _why(last: Event, otherwise: str) -> str:
    reason = one_line(last.reason or "", _LONGEST)
    if last.to_state in _STOPPED:
        return f"{last.to_state}: {reason}" if reason else str(last.to_state)
    return reason or otherwise
