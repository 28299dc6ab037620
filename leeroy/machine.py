"""
The table of moves: which states exist, and which moves lead from one to another.

Pure.  The table is data; one shared, stateless `transitions` machine is asked
what a move leads to.  Nothing here touches a row, a process or a clock: the
one function that makes a move is `leeroy.advance.advance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from transitions import Machine

from leeroy.errors import IllegalMove
from leeroy.terms import Move, State


@dataclass(frozen=True)
class Edge:
    """One line of the table: what happens, in which states, what it leads to, and who causes it."""

    move: Move
    sources: tuple[State, ...]
    dest: State
    when: str


S, M = State, Move

TABLE: Final = (
    Edge(M.start, (S.queued,), S.building, "a slot is free"),
    Edge(M.requeue, (S.building,), S.queued, "its run is lost; at most 3 times"),
    Edge(M.pass_, (S.building,), S.passed, "every test and build script exited 0"),
    Edge(M.fail, (S.building,), S.failed, "a checkout, test or build script failed"),
    Edge(M.fail, (S.deploying,), S.deploy_failed, "a deploy or its verify script failed"),
    Edge(
        M.announce,
        (S.passed, S.deploying, S.deploy_pending),
        S.deploy_pending,
        "the next deploy is announced, or announced again with its full grace period",
    ),
    Edge(M.hold, (S.deploy_pending,), S.deploy_pending, "only a person lets it go on"),
    Edge(M.deploy, (S.deploy_pending,), S.deploying, "every gate is open"),
    Edge(M.withdraw, (S.deploying,), S.deploy_pending, "its script provably never began"),
    Edge(M.finish, (S.passed, S.deploying), S.done, "nothing is left to deploy"),
    Edge(M.lose, (S.deploying,), S.interrupted, "its supervisor or host died, its end unseen"),
    Edge(M.resolve_done, (S.interrupted,), S.done, "it landed; nothing is left to deploy"),
    Edge(
        M.resolve_done, (S.interrupted,), S.deploy_pending, "it landed; the next environment's turn"
    ),
    Edge(M.resolve_failed, (S.interrupted,), S.deploy_failed, "it did not land"),
    Edge(M.resolve_again, (S.interrupted,), S.deploy_pending, "it is to be run again"),
    Edge(
        M.cancel,
        (S.queued, S.passed, S.deploy_pending, S.building, S.deploying),
        S.cancelled,
        "somebody stopped it",
    ),
    Edge(
        M.supersede,
        (S.queued, S.passed, S.deploy_pending),
        S.superseded,
        "a newer build took its place",
    ),
)
"""Every legal move.  Only `resolve_done` has two ends: which, depends on what is left to deploy."""

AFTER_STOP: Final = frozenset({M.requeue, M.lose, M.fail, M.cancel})
"""The only moves a running build may make once somebody asked to stop it."""


@cache
def _machine() -> Machine:
    """The shared machine; built when first asked, and never given a model."""
    machine = Machine(
        model=None, states=[str(s) for s in State], initial=None, auto_transitions=False
    )
    for edge in TABLE:
        machine.add_transition(str(edge.move), [str(s) for s in edge.sources], str(edge.dest))
    return machine


@cache
def destinations(state: State, move: Move) -> tuple[State, ...]:
    """The states *move* may lead to from *state*; empty when the table has no such move."""
    event = _machine().events.get(str(move))
    if event is None:
        return ()
    return tuple(State(str(t.dest)) for t in event.transitions.get(str(state), ()))


@cache
def moves(state: State) -> tuple[Move, ...]:
    """The moves that may be made from *state*, in the order of the table."""
    return tuple(m for m in Move if destinations(state, m))


def decide(build_id: int, state: State, move: Move, *, more_to_deploy: bool = False) -> State:
    """
    The state *move* leads to.

    *more_to_deploy* chooses the end of `resolve_done`, the one move with two.

    Raises:
        IllegalMove: The table has no such move from *state*.
    """
    ends = destinations(state, move)
    if not ends:
        may = ", ".join(moves(state)) or "nothing, it is over"
        raise IllegalMove(f"build {build_id} is {state}, so it cannot {move}; it may: {may}")
    if len(ends) == 1:
        return ends[0]
    return State.deploy_pending if more_to_deploy else State.done


def legal() -> tuple[tuple[Move, State, State], ...]:
    """Every (move, from, to) of the table, as the schema stores them."""
    return tuple((e.move, source, e.dest) for e in TABLE for source in e.sources)


def mermaid() -> str:
    """The table as a diagram in Mermaid's words, for docs/states.md."""
    lines = ["stateDiagram-v2", "    [*] --> queued: accept"]
    for edge in TABLE:
        lines += [f"    {source} --> {edge.dest}: {edge.move}" for source in edge.sources]
    lines += [f"    {state} --> [*]" for state in State if state.over]
    return "\n".join(lines)
