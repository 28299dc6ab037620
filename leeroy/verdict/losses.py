"""A deploy whose end nobody saw: why, whose fault that was, who said how it ended; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leeroy import ends
from leeroy.model import Event, Note, Step
from leeroy.terms import Kind, Move, Stage, StepState

_DOWN = ("reboot", "shutdown")
_ENDED = (StepState.passed, StepState.failed)
"""The states of a step whose end was seen."""


@dataclass(frozen=True)
class Loss:
    """What was being deployed to when the end went unseen, one sentence, and whose fault it was."""

    environment: str | None
    fault: str
    sentence: str


def last(moves: Sequence[Event], notes: Sequence[Note]) -> Loss:
    """The newest loss; only Leeroy writes the reason of one."""
    lost = [event for event in moves if event.move is Move.lose]
    if not lost:
        return Loss(None, "leeroy", "its deploy was interrupted")
    event = lost[-1]
    fault, why = _why(event, notes)
    return Loss(
        event.environment, fault, f"its deploy to {event.environment} was running when {why}"
    )


def _why(event: Event, notes: Sequence[Note]) -> tuple[str, str]:
    if event.reason == ends.SHUT_DOWN:
        return "host", "the host was shut down"
    if event.reason == ends.OLDER:
        return "host", "the database was as old as the copy that was put in place"
    down = went_down(notes, event.seq - 1)
    if event.reason == ends.GONE:
        first = "the host died, and " if down else ""
        gone = "its run directory was gone, removed or not mounted; nobody saw its end"
        return "host", first + gone
    if down:
        return "host", "the host died"
    if event.reason in (None, ends.UNSEEN):
        return "leeroy", "its supervisor was killed, and nobody saw its end"
    return "leeroy", f"its end was lost: {event.reason}"


def went_down(notes: Sequence[Note], seq: int) -> bool:
    """Whether the host went down while the build was at its move *seq*."""
    return any(n.kind is Kind.started and n.said in _DOWN and n.seq == seq for n in notes)


def seen(environment: str | None, steps: Sequence[Step]) -> Step | None:
    """The deploy script there, if its end was seen after all; None: somebody's word counted."""
    ran = [s for s in steps if s.stage is Stage.deploy and s.environment == environment]
    return ran[-1] if ran and ran[-1].state in _ENDED else None


def said(moves: Sequence[Event], steps: Sequence[Step]) -> list[tuple[str | None, Event]]:
    """Each environment of which nobody saw the end, with the move that says it landed there."""
    found: list[tuple[str | None, Event]] = []
    where: str | None = None
    for event in moves:
        if event.move is Move.lose:
            where = event.environment
        elif event.move is Move.resolve_done and seen(where, steps) is None:
            found.append((where, event))
    return found
