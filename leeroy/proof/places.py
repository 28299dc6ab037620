"""D: one deploy at a time in an environment, and never an older one after a newer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from leeroy.model import Build, Event
from leeroy.proof.history import History, Violation
from leeroy.terms import HOLDING, Move, Stage, State

WAITED = timedelta(seconds=0.5)
"""
A transaction that waits for another's lock may have the earlier time by so much.

Only times are left where a stop was told to nobody: it came so soon after the
announcement of its build that this was not sent yet, and was dropped.
"""


def alone(history: History) -> Iterator[Violation]:
    """Deploy scripts of one environment (of one lock) never run at the same time."""
    spans: dict[str, list[tuple[float, float, int]]] = {}
    for marks in history.runs().values():
        first = marks[0]
        build = history.rows.builds.get(first.build)
        if first.stage is not Stage.deploy or build is None or first.environment is None:
            continue
        place = history.rows.environments.get((build.pipeline, first.environment))
        lock = place.lock if place else f"{build.pipeline}/{first.environment}"
        spans.setdefault(lock, []).append((first.at, marks[-1].at, build.id))
    for lock, found in spans.items():
        found.sort()
        for index, (_, ended, number) in enumerate(found[:-1]):
            began, _, other = found[index + 1]
            if began < ended:
                text = f"its deploy ran beside that of build {other} ({lock})"
                yield Violation("D1", number, text)


def held(history: History) -> Iterator[Violation]:
    """A build that deploys, or whose deploy's end is unknown, holds its environment; no other."""
    there: dict[tuple[str, str], int] = {}
    for number, build in history.rows.builds.items():
        if build.state not in HOLDING or build.environment is None:
            continue
        key = (build.pipeline, build.environment)
        if key in there:
            yield Violation("D1", number, f"build {there[key]} is at {key[1]} too")
        there[key] = number
    for key, place in history.rows.environments.items():
        if place.holder != there.get(key):
            text = f"{'/'.join(key)} is held by {place.holder}, not by {there.get(key)}"
            yield Violation("D1", there.get(key, place.holder), text)


def in_order(history: History) -> Iterator[Violation]:
    """The places of the builds that are deployed to an environment never fall."""
    if history.wall_s is None:
        return
    last: dict[tuple[str, str], int] = {}
    for moment in history.moments():
        for event in moment:
            if event.to_state is not State.deploying or event.environment is None:
                continue
            build = history.rows.builds[event.build_id]
            key = (build.pipeline, event.environment)
            if build.place < last.get(key, 0) and build.deploy_to is None:
                yield Violation("D2", build.id, f"an older one was deployed to {key[1]} later")
            last[key] = max(build.place, last.get(key, 0))


def give_way(history: History) -> Iterator[Violation]:
    """An older build that waits gives way in the transaction that announces a newer one."""
    if history.wall_s is None:
        return
    told = _told(history)
    at: dict[int, tuple[State, str | None]] = {}
    for moment in history.moments():
        announced: list[Event] = []
        for event in moment:
            at[event.build_id] = (event.to_state, event.environment)
            if event.to_state is State.deploy_pending:
                announced.append(event)
        for event in announced:
            pipeline = history.rows.builds[event.build_id].pipeline
            waiting = [
                history.rows.builds[number]
                for number, (state, where) in at.items()
                if state is State.deploy_pending
                and where == event.environment
                and history.rows.builds[number].pipeline == pipeline
            ]
            yield from _overtaken(history, waiting, event, told)


def _told(history: History) -> dict[tuple[int, int], int]:
    """
    The number of each event's first notice.

    A notice gets its number when its event is written, which at an environment
    happens under its lock: so the numbers order what happened there, where the
    times do not.  (Of two transactions that wait for each other, the one that
    is committed first may have the later time.)  What gave way and told nobody
    has the number of the announcement that took it away.
    """
    found: dict[tuple[int, int], int] = {}
    for notice in history.rows.notices:
        key = (notice.build_id, notice.seq)
        found[key] = min(notice.id, found.get(key, notice.id))
    taking: dict[tuple[str, str | None, datetime], int] = {}
    silent: list[tuple[tuple[int, int], tuple[str, str | None, datetime]]] = []
    for number, events in history.rows.events.items():
        for event in events:
            key = (number, event.seq)
            where = (history.rows.builds[number].pipeline, event.environment, event.at)
            if event.to_state is State.deploy_pending and key in found:
                taking[where] = found[key]
            elif event.move is Move.supersede and key not in found:
                silent.append((key, where))
    return found | {key: taking[where] for key, where in silent if where in taking}


def _overtaken(
    history: History, waiting: list[Build], event: Event, told: Mapping[tuple[int, int], int]
) -> Iterator[Violation]:
    for build in waiting:
        newer = next((other for other in waiting if _gives_way(build, other)), None)
        if newer is not None and not _gave_way(history, build, event, told):
            text = f"it waits, and the newer build {newer.id} is announced there too"
            yield Violation("D3", build.id, text)


def _gives_way(older: Build, newer: Build) -> bool:
    """Tags wait for each other, and what a person put back for no push."""
    tags = older.tag is not None and newer.tag is not None
    asked = older.deploy_to is not None and newer.deploy_to is None
    return older.place < newer.place and not tags and not asked


def _gave_way(
    history: History, build: Build, event: Event, told: Mapping[tuple[int, int], int]
) -> bool:
    """Whether the announcement's transaction took it away, or one that came before."""
    number = told.get((event.build_id, event.seq))
    for left in history.rows.events[build.id]:
        if left.move is Move.supersede and left.at == event.at:
            return True
        if left.move not in (Move.cancel, Move.supersede):
            continue
        before = told.get((build.id, left.seq))
        if number is not None and before is not None:
            return before < number
        return left.move is Move.cancel and left.at - event.at <= WAITED
    return False
