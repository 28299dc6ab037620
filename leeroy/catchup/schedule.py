"""Which repository is to be asked when; pure, with the time as a parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from leeroy.pipelines import Pipeline

Key = tuple[str, str | None, str | None]
"""A repository: its address, and the names of its credentials."""

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 900.0
SPREAD_S = 20.0
"""Within so many seconds of a start every repository is asked for the first time."""
STEP_S = 0.1


def key_of(pipeline: Pipeline) -> Key:
    """What pipelines share when one question is enough for all of them."""
    return ((pipeline.repository or "").strip(), pipeline.token, pipeline.ssh_key)


@dataclass
class Turn:
    """
    One repository's place in the schedule.

    `poll_s` is the shortest `poll` of its pipelines, None when none has one.
    `next_at` is when it is asked next, None: not before something happens.
    `names` are the pipelines that share the question.
    """

    poll_s: float | None
    next_at: float | None
    names: set[str] = field(default_factory=set)
    failures: int = 0
    lefts: int = 0
    asking: bool = False
    again: bool = False


class Schedule:
    """The repositories and when each is to be asked; times are monotonic seconds."""

    def __init__(self) -> None:
        self._turns: dict[Key, Turn] = {}

    def set(self, pipelines: Iterable[Pipeline], now: float) -> None:
        """
        Take up the pipelines in force; what is new is asked soon.

        New is a repository, and also a pipeline of one that is known: it has
        seen nothing of it yet, and what is pushed before its first sight is
        built by no later look.
        """
        polls: dict[Key, float | None] = {}
        names: dict[Key, set[str]] = {}
        for pipeline in pipelines:
            if pipeline.repository is None:
                continue
            key = key_of(pipeline)
            known = polls.get(key)
            mine = pipeline.poll_s
            polls[key] = mine if known is None else known if mine is None else min(known, mine)
            names.setdefault(key, set()).add(pipeline.name)
        for key in set(self._turns) - set(polls):
            del self._turns[key]
        new: list[Key] = []
        for key, poll_s in polls.items():
            turn = self._turns.setdefault(key, Turn(poll_s, None))
            if turn.poll_s != poll_s:
                turn.poll_s = poll_s
                if turn.failures == 0 and not turn.asking:
                    turn.next_at = None if poll_s is None else now + poll_s
            if names[key] - turn.names:
                new.append(key)
            turn.names = names[key]
        self.soon(now, new)

    def soon(self, now: float, keys: Iterable[Key] | None = None) -> None:
        """Have some (or all) asked now, one shortly after the other."""
        chosen = list(self._turns) if keys is None else [k for k in keys if k in self._turns]
        step_s = min(STEP_S, SPREAD_S / max(len(chosen), 1))
        for index, key in enumerate(chosen):
            turn = self._turns[key]
            turn.failures = 0
            turn.again = turn.asking
            turn.next_at = now + index * step_s

    def due(self, now: float) -> list[Key]:
        """The repositories to ask now; they count as being asked until `done`."""
        found = [
            key
            for key, turn in self._turns.items()
            if not turn.asking and turn.next_at is not None and turn.next_at <= now
        ]
        found.sort(key=lambda key: self._turns[key].next_at or 0.0)
        for key in found:
            self._turns[key].asking = True
        return found

    def next_at(self) -> float | None:
        """When the next repository is to be asked."""
        waiting = [
            turn.next_at
            for turn in self._turns.values()
            if turn.next_at is not None and not turn.asking
        ]
        return min(waiting, default=None)

    def done(self, key: Key, began: float, now: float, *, well: bool, more: bool = False) -> None:
        """It was asked; *more*: something was left for another look, soon."""
        turn = self._turns.get(key)
        if turn is None:
            return
        turn.asking = False
        if turn.again:
            turn.again = False
            turn.next_at = now
        elif well:
            turn.failures = 0
            turn.next_at = None if turn.poll_s is None else max(began + turn.poll_s, now)
            turn.lefts = turn.lefts + 1 if more else 0
            if more:
                turn.next_at = now + min(2.0 ** (turn.lefts - 1), LONGEST_PAUSE_S)
        else:
            turn.failures += 1
            turn.next_at = now + pause_s(turn.failures, turn.poll_s)

    @property
    def turns(self) -> Mapping[Key, Turn]:
        """Every repository's place, for who looks on."""
        return self._turns


def pause_s(failures: int, poll_s: float | None) -> float:
    """How long a repository that does not answer is left alone: longer each time."""
    first = FIRST_PAUSE_S if poll_s is None else max(poll_s, FIRST_PAUSE_S)
    return min(first * 2.0 ** min(failures - 1, 20), max(LONGEST_PAUSE_S, first))
