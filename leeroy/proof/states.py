"""A and R: events, the states they lead to, and what a build ends in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from leeroy import machine
from leeroy.proof import telling
from leeroy.proof.history import History, Violation
from leeroy.terms import Move, State


def numbered(history: History) -> Iterator[Violation]:
    """Per build, events are numbered 1..k without gap."""
    for number, events in history.rows.events.items():
        found = [event.seq for event in events]
        if not found or found != list(range(1, len(found) + 1)):
            yield Violation("A1", number, f"its events have the numbers {found}")


def chained(history: History) -> Iterator[Violation]:
    """Each event starts where the one before it led, by a legal move."""
    legal = set(machine.legal())
    for number, events in history.rows.events.items():
        if events and (events[0].move, events[0].to_state) != (Move.accept, State.queued):
            yield Violation("A2", number, f"its history begins with {events[0].move}")
        for before, event in itertools.pairwise(events):
            move = (event.move, event.from_state, event.to_state)
            if event.from_state is not before.to_state or move not in legal:
                yield Violation("A2", number, f"event {event.seq} ({event.move}) does not follow")


def rows_agree(history: History) -> Iterator[Violation]:
    """A build's row is where its last event led."""
    for number, build in history.rows.builds.items():
        events = history.rows.events[number]
        last = (events[-1].to_state, events[-1].seq) if events else None
        if last != (build.state, build.version):
            yield Violation("A3", number, f"its row says {build.state} {build.version}, not {last}")


def over_is_over(history: History) -> Iterator[Violation]:
    """No event leaves a terminal state."""
    for number, events in history.rows.events.items():
        for event in events:
            if event.from_state is not None and event.from_state.over:
                yield Violation("A4", number, f"{event.move} after it was {event.from_state}")


def everything_ends(history: History) -> Iterator[Violation]:
    """
    In the end every build is over, or waits for a person who has been told of just that.

    Told: the notice of the very event since which it waits was tried.  That it
    was announced, before it was interrupted or held, asked nobody to do anything.
    """
    if not history.settled:
        return
    for number, build in history.rows.builds.items():
        if build.state.over or (build.state is State.queued and build.fork):
            continue
        deploy = history.rows.deploys.get((number, build.environment or ""))
        held = build.state is State.deploy_pending and deploy is not None
        for_a_person = build.state is State.interrupted or (
            held and deploy is not None and (deploy.held_at is not None or _needs(history, number))
        )
        if not for_a_person:
            yield Violation("A5", number, f"it is {build.state} for ever")
            continue
        last = history.rows.events[number][-1]
        notices = [n for n in history.rows.notices if (n.build_id, n.seq) == (number, last.seq)]
        owed = notices or telling.listeners(history, build, last.to_state)
        if owed and not any(n.sent_at or n.attempts for n in notices):
            yield Violation("A5", number, f"it is {build.state}, and nobody was told")


def _needs(history: History, number: int) -> bool:
    build = history.rows.builds[number]
    plan = history.plan(build, build.environment or "")
    return plan is not None and plan.approve


def nothing_forgotten(history: History) -> Iterator[Violation]:
    """What an earlier look found is there, unchanged."""
    found = {(e.build_id, e.seq): e for events in history.rows.events.values() for e in events}
    for key, event in history.seen.items():
        if found.get(key) != event:
            yield Violation("A6", key[0], f"event {key[1]} was {event.move}, and is so no more")


def interrupted_is_resolved(history: History) -> Iterator[Violation]:
    """`interrupted` is left by a resolution only, and the record says whose."""
    for number, events in history.rows.events.items():
        for event in events:
            if event.from_state is State.interrupted and not (
                event.move.startswith("resolve_") and event.actor and event.reason
            ):
                yield Violation("R1", number, f"{event.move} by {event.actor!r} without a reason")
