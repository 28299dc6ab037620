"""
Why a build ended as it did, in one sentence, and whose fault that was.

Pure: the build's moves, steps and chronicle in, words out.  They are part of
the record, so for format 1 they never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leeroy.model import Build, Event, Note, Step
from leeroy.terms import Kind, Move, Stage, State, StepState


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
            return Cause("nobody", _done(steps))
        case Move.resolve_done:
            return Cause("nobody", f"{_lost(moves, notes)}; {_who(last)} that it landed")
        case Move.resolve_failed:
            fault = "host" if _rebooted(moves, notes) else "leeroy"
            return Cause(fault, f"{_lost(moves, notes)}; {_who(last)} that it did not land")
        case Move.supersede:
            return Cause("newer build", f"a newer build took its place{_why(last)}")
        case Move.cancel:
            return Cause("person", _stopped(last, steps))
        case _:
            return _failed(last, steps, notes)


def _open(build: Build, last: Event, moves: Sequence[Event], notes: Sequence[Note]) -> Cause:
    if build.state is State.interrupted:
        return Cause("open", f"{_lost(moves, notes)}; nobody has said yet how it ended")
    if last.move is Move.hold:
        return Cause("open", f"it is held by {last.actor}{_why(last)}")
    return Cause("open", f"it is not over: {build.state}")


def _done(steps: Sequence[Step]) -> str:
    places = list(dict.fromkeys(s.environment for s in steps if s.stage is Stage.deploy))
    if not places:
        return "every test and build script exited 0; there was nothing to deploy"
    listed = ", ".join(str(place) for place in places)
    return f"every script exited 0; it was deployed to {listed}"


def _failed(last: Event, steps: Sequence[Step], notes: Sequence[Note]) -> Cause:
    # Only what ended by itself counts: what was lost on the way was run again.
    bad = [s for s in steps if s.state is StepState.failed]
    reason = last.reason or ""
    if "was lost" in reason or "withdrawn" in reason or not bad:
        rebooted = any(n.kind is Kind.started and n.said == "reboot" for n in notes)
        if rebooted:
            return Cause("host", f"the host went down: {reason or 'its run was lost'}")
        return Cause("leeroy", f"Leeroy's fault: {reason or 'it failed without a script'}")
    step = bad[-1]
    what = named(step)
    told = step.reason or ""
    if told.startswith("cannot start"):
        return Cause("settings", f"{what} was not run: {told}")
    fault = "script" if step.stage is not Stage.checkout else _of_checkout(step)
    if told == "timeout":
        limit = "its timeout" if step.stage is not Stage.verify else "verify_within"
        return Cause(fault, f"{what} took longer than {limit}")
    if told == "stopped":
        return Cause("leeroy", f"Leeroy's fault: {what} was stopped, and nobody asked for it")
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
    told = step.reason or ""
    # How the sentences of runner/checkout end that are about this machine.
    if step.signal is not None or told.endswith(("make room on this disk", "room and rights?")):
        return "host"
    return "settings" if told.endswith("install it") else "repository"


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
        done = bool(ran) and ran[-1].exit_code == 0
        how = "its script exited 0 all the same" if done else "its script was ended in the middle"
        return f"{who} while its deploy to {last.environment} ran; {how}{_why(last)}"
    if last.from_state is State.building:
        return f"{who} while its scripts ran; no deploy of it started{_why(last)}"
    if last.from_state is State.queued:
        return f"{who} before anything of it ran{_why(last)}"
    where = f" to {last.environment}" if last.environment else ""
    return f"{who} before its deploy{where} started{_why(last)}"


def _lost(moves: Sequence[Event], notes: Sequence[Note]) -> str:
    lost = [event for event in moves if event.move is Move.lose]
    if not lost:
        return "its deploy was interrupted"
    what = f"its deploy to {lost[-1].environment} was running when"
    if _rebooted(moves, notes):
        return f"{what} the host died"
    if "database" in (lost[-1].reason or ""):
        return f"{what} the database was as old as the copy that was put in place"
    return f"{what} its supervisor was killed, and nobody saw its end"


def _rebooted(moves: Sequence[Event], notes: Sequence[Note]) -> bool:
    lost = [event.seq for event in moves if event.move is Move.lose]
    return bool(lost) and any(
        n.kind is Kind.started and n.said == "reboot" and n.seq == lost[-1] - 1 for n in notes
    )


def _who(last: Event) -> str:
    return f"{last.actor} says ({last.reason})" if last.reason else f"{last.actor} says"


def _why(last: Event) -> str:
    return f": {last.reason}" if last.reason else ""
