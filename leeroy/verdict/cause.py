"""
Why a build ended as it did, in one sentence, and whose fault that was.

Pure: the build's moves, steps and chronicle in, words out.  Nothing is decided
by words that a person, a repository or its server chose: a move's kind, a
step's stage, state, exit code and signal decide, and the sentences of `ends`
where only Leeroy writes.  The words are part of the record: from the first
release on, those of format 1 never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leeroy import ends
from leeroy.model import Build, Event, Note, Step
from leeroy.runner import checkout
from leeroy.terms import Move, Stage, State, StepState
from leeroy.verdict import losses


@dataclass(frozen=True)
class Cause:
    """
    One sentence, and whose fault it was.

    `fault`: nobody, script, repository, settings, person, host, leeroy, newer
    build, or open (nobody knows yet).
    """

    fault: str
    sentence: str


def cause(
    build: Build, moves: Sequence[Event], steps: Sequence[Step], notes: Sequence[Note]
) -> Cause:
    """The cause; for a build that is not over, why it is where it is."""
    last = moves[-1]
    if not build.state.over:
        return _open(build, last, moves, notes)
    match last.move:
        case Move.finish:
            return Cause("nobody", _done(steps, moves))
        case Move.resolve_done | Move.resolve_failed:
            return _resolved(last, moves, steps, notes)
        case Move.supersede:
            return Cause("newer build", f"a newer build took its place{_why(last)}")
        case Move.cancel:
            return Cause("person", _stopped(last, steps))
        case _:
            return _failed(last, steps, notes)


def _open(build: Build, last: Event, moves: Sequence[Event], notes: Sequence[Note]) -> Cause:
    if build.state is State.interrupted:
        lost = losses.last(moves, notes)
        return Cause("open", f"{lost.sentence}; nobody has said yet how it ended")
    if last.move is Move.hold:
        return Cause("open", f"it is held by {last.actor}{_why(last)}")
    return Cause("open", f"it is not over: {build.state}")


def _done(steps: Sequence[Step], moves: Sequence[Event]) -> str:
    places = list(dict.fromkeys(s.environment for s in steps if s.stage is Stage.deploy))
    if not places:
        return "every test and build script exited 0; there was nothing to deploy"
    listed = ", ".join(str(place) for place in places)
    said = losses.said(moves, steps)
    which = "every script" if not said else "every script whose end was seen"
    words = f"{which} exited 0; it was deployed to {listed}"
    for place, event in said:
        words += f"; of {place} {_who(event)} that it landed"
    for step in steps:
        if step.stage is Stage.deploy and step.reason == ends.OUTSIDE and ends.landed(step):
            words += f"; {named(step)} was to end by a SIGTERM from outside, and exited 0"
    return words


def _resolved(
    last: Event, moves: Sequence[Event], steps: Sequence[Step], notes: Sequence[Note]
) -> Cause:
    lost = losses.last(moves, notes)
    found = losses.seen(lost.environment, steps)
    if last.move is Move.resolve_done:
        if found is not None:
            return Cause("nobody", f"{lost.sentence}; its end was found later: it exited 0")
        return Cause("nobody", f"{lost.sentence}; {_who(last)} that it landed")
    if found is not None:
        why = _of_step(found)
        return Cause(why.fault, f"{lost.sentence}; its end was found later: {why.sentence}")
    return Cause(lost.fault, f"{lost.sentence}; {_who(last)} that it did not land")


def _failed(last: Event, steps: Sequence[Step], notes: Sequence[Note]) -> Cause:
    step = _decisive(last, steps)
    if step is not None and step.state is StepState.failed:
        return _of_step(step)
    # Lost or withdrawn too often: what is said of it is Leeroy's, with names of the user's in it.
    reason = last.reason or "it failed without a script"
    if losses.went_down(notes, last.seq - 1) or (step and step.reason == ends.SHUT_DOWN):
        return Cause("host", f"the host went down: {reason}")
    if step is not None and step.reason == ends.OUTSIDE:
        return Cause(
            "host", f"a SIGTERM from outside ended it, which Leeroy did not send: {reason}"
        )
    return Cause("leeroy", f"Leeroy's fault: {reason}")


def _decisive(last: Event, steps: Sequence[Step]) -> Step | None:
    """The step whose end was recorded with the move: the newest one that did not pass."""
    bad = [s for s in steps if s.run_id is not None and s.state is not StepState.passed]
    with_it = [s for s in bad if s.ended_seq == last.seq - 1]
    # Rows of before that was noted: what was lost on the way was run again, so it does not count.
    decided = with_it or [s for s in bad if s.state is StepState.failed]
    return decided[-1] if decided else None


def _of_step(step: Step) -> Cause:
    """Why a step failed, and whose part that was."""
    what = named(step)
    told = step.reason or ""
    if ends.never_executed(step) and told != ends.STOPPED:
        return Cause("settings", f"{what} was not run: {told}")
    fault = "script" if step.stage is not Stage.checkout else _of_checkout(step)
    if told == ends.TIMEOUT:
        limit = "its timeout" if step.stage is not Stage.verify else "verify_within"
        return Cause(fault, f"{what} took longer than {limit}")
    if told == ends.STOPPED:
        return Cause("leeroy", f"Leeroy's fault: {what} was stopped, and nobody asked for it")
    if told == ends.OUTSIDE:
        sent = "its supervisor was sent SIGTERM on this machine, and not by Leeroy"
        return Cause("host", f"{what} was ended from outside: {sent}")
    if told:
        return Cause(fault, f"{what} failed: {told}")
    if step.signal is not None:
        return Cause(
            fault,
            f"{what} was killed by signal {step.signal}, which Leeroy did not send"
            + ("; the kernel does that when memory runs out" if step.signal == 9 else ""),
        )
    return Cause(fault, f"{what} failed (exit {step.exit_code})")


def _of_checkout(step: Step) -> str:
    """Whose part a checkout failed for; no script of anybody's ran in it."""
    if step.signal is not None or step.exit_code == checkout.NO_ROOM:
        return "host"
    return "settings" if step.exit_code == checkout.NOT_INSTALLED else "repository"


def named(step: Step) -> str:
    """A step in words."""
    if step.stage in (Stage.deploy, Stage.verify, Stage.status):
        return f"the {step.stage} script of {step.environment}"
    if step.stage is Stage.checkout:
        return "the checkout"
    return f"the {step.stage} {step.name}"


def _stopped(last: Event, steps: Sequence[Step]) -> str:
    who = f"stopped by {last.actor}"
    if last.from_state is State.deploying:
        ran = [s for s in steps if s.stage is Stage.deploy and s.environment == last.environment]
        if not ran or (ends.never_executed(ran[-1]) and ran[-1].state is not StepState.interrupted):
            when = f"when its deploy to {last.environment} was being prepared"
            return f"{who} {when}; its script never began{_why(last)}"
        how = "its script was ended in the middle"
        if ends.landed(ran[-1]):
            how = "its script exited 0 all the same"
        return f"{who} while its deploy to {last.environment} ran; {how}{_why(last)}"
    if last.from_state is State.building:
        return f"{who} while its scripts ran; no deploy of it started{_why(last)}"
    if last.from_state is State.queued:
        return f"{who} before anything of it ran{_why(last)}"
    where = f" to {last.environment}" if last.environment else ""
    return f"{who} before its deploy{where} started{_why(last)}"


def _who(last: Event) -> str:
    return f"{last.actor} says ({last.reason})" if last.reason else f"{last.actor} says"


def _why(last: Event) -> str:
    return f": {last.reason}" if last.reason else ""
