"""Whose part a failed checkout was: never that of a script, for none of theirs ran."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from leeroy import ends
from leeroy.model import Event, Note, Step
from leeroy.terms import Kind, Move, Stage, State, StepState
from leeroy.verdict.cause import Cause, _failed, cause
from tests.unit.test_follower import STEP

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def event(seq: int, move: Move, to: State, reason: str | None = None, **more: Any) -> Event:
    values: dict[str, Any] = {"from_state": None, "environment": None, "actor": "scheduler@vm"}
    values |= more
    return Event(build_id=1, seq=seq, move=move, to_state=to, reason=reason, at=NOW, **values)


LAST = event(3, Move.fail, State.failed, "checkout exited 1")
FAILED = replace(STEP, stage=Stage.checkout, name="checkout", state=StepState.failed, exit_code=1)


@pytest.mark.parametrize(
    ("ended", "fault", "sentence"),
    [
        ({"reason": "there is no git repository at /nope on this machine; is the path right?"},
         "repository", "the checkout failed: there is no git repository at /nope on this"),
        ({}, "repository", "the checkout failed (exit 1)"),
        ({"reason": "timeout"}, "repository", "the checkout took longer than its timeout"),
        ({"reason": "git is not installed on this machine; install it", "exit_code": 69},
         "settings", "the checkout failed: git is not installed"),
        ({"reason": "fetching u failed: No space left on device; make room on this disk",
          "exit_code": 74},
         "host", "the checkout failed: fetching u failed: No space"),
        ({"signal": 9, "exit_code": None}, "host", "the checkout was killed by signal 9"),
        ({"stage": Stage.test}, "script", "the test checkout failed (exit 1)"),
    ],
)  # fmt: skip
def test_a_failed_checkout(ended: dict[str, Any], fault: str, sentence: str) -> None:
    """The server, the address, the login or the commit; or this machine, or what it lacks."""
    found = _failed(LAST, [replace(FAILED, **ended)], [])
    assert fault == found.fault
    assert found.sentence.startswith(sentence)


class Over:
    state = State.done


class Held:
    state = State.interrupted


DEPLOY = replace(FAILED, stage=Stage.deploy, name="prod", environment="prod", ended_seq=6)
DECEIVING = ["withdrawn", "was lost", "Leeroy's fault", "timeout", "x\ncannot start: y", "\x1b[2J"]


def of(moves: list[Event], steps: list[Step], *notes: Note) -> Cause:
    return cause(Over(), moves, steps, notes)  # type: ignore[arg-type]


def started(seq: int, said: str) -> Note:
    return Note(
        build_id=1, seq=seq, kind=Kind.started, environment=None, who="vm", said=said, number=None,
        at=NOW,
    )  # fmt: skip


@pytest.mark.parametrize("name", DECEIVING)
def test_names_that_deceive_change_no_fault(name: str) -> None:
    """A step, an environment or a stop's reason says what Leeroy says of its own faults."""
    step = replace(STEP, name=name, state=StepState.failed, exit_code=7, ended_seq=2)
    last = event(3, Move.fail, State.failed, f"test {name} exited 7")
    assert Cause("script", f"the test {name} failed (exit 7)") == of([last], [step])
    there = replace(DEPLOY, environment=name, exit_code=7)
    last = event(7, Move.fail, State.deploy_failed, f"deploy {name} exited 7", environment=name)
    assert "script" == of([last], [there], started(2, "reboot")).fault
    stop = event(3, Move.cancel, State.cancelled, name, from_state=State.building, actor=name)
    assert "person" == of([stop], [step]).fault
    done = [
        event(6, Move.lose, State.interrupted, ends.UNSEEN, environment=name),
        event(7, Move.resolve_failed, State.deploy_failed, name, actor=name),
    ]
    lost = replace(there, state=StepState.interrupted, exit_code=None)
    assert "leeroy" == of(done, [lost]).fault


@pytest.mark.parametrize("words", ["withdrawn", "was lost", "it said: timeout", "install it"])
def test_a_git_server_names_nobody(words: str) -> None:
    """Its last words are quoted; the exit code of the checkout says whose part it was."""
    assert "repository" == _failed(LAST, [replace(FAILED, reason=words)], []).fault


@pytest.mark.parametrize(
    ("reason", "notes", "fault", "words"),
    [
        (ends.UNSEEN, (), "leeroy", "its supervisor was killed, and nobody saw its end"),
        (ends.UNSEEN, (started(5, "crash"),), "leeroy", "its supervisor was killed"),
        (ends.UNSEEN, (started(5, "reboot"),), "host", "running when the host died"),
        (ends.UNSEEN, (started(5, "shutdown"),), "host", "running when the host died"),
        (ends.UNSEEN, (started(4, "reboot"),), "leeroy", "its supervisor was killed"),
        (ends.SHUT_DOWN, (), "host", "running when the host was shut down"),
        (ends.GONE, (), "host", "its run directory was gone, removed or not mounted"),
        (ends.OLDER, (), "host", "as old as the copy"),
    ],
)
def test_a_loss_is_told_as_it_was_recorded(
    reason: str, notes: tuple[Note, ...], fault: str, words: str
) -> None:
    """The supervisor, the host, the folder of runs or the database: whichever it was."""
    lost = event(6, Move.lose, State.interrupted, reason, environment="prod")
    last = event(7, Move.resolve_failed, State.deploy_failed, "I looked", actor="ada")
    step = replace(DEPLOY, state=StepState.interrupted, exit_code=None, ended_seq=5)
    found = of([lost, last], [step], *notes)
    assert fault == found.fault
    assert words in found.sentence
    assert "ada says (I looked) that it did not land" in found.sentence
    held = cause(Held(), [lost], [step], notes)  # type: ignore[arg-type]
    assert ("open", True) == (held.fault, words in held.sentence)


@pytest.mark.parametrize(("code", "fault"), [(0, "nobody"), (3, "script")])
def test_a_late_record_says_how_it_ended(code: int, fault: str) -> None:
    """Nobody has to say anything then, and the script answers for its exit code."""
    how = Move.resolve_failed if code else Move.resolve_done
    lost = event(6, Move.lose, State.interrupted, ends.GONE, environment="prod")
    last = event(7, how, State.done, "its end was found on vm")
    state = StepState.failed if code else StepState.passed
    found = of([lost, last], [replace(DEPLOY, state=state, exit_code=code, ended_seq=6)])
    assert fault == found.fault
    assert "its end was found later" in found.sentence
    assert "supervisor" not in found.sentence


def test_whose_word_it_is_that_it_landed() -> None:
    """staging was lost and a person said that it is there: no script said so."""
    moves = [
        event(6, Move.lose, State.interrupted, ends.UNSEEN, environment="staging"),
        event(7, Move.resolve_done, State.deploy_pending, "I looked", actor="ada",
              environment="prod"),
        event(9, Move.finish, State.done),
    ]  # fmt: skip
    lost = replace(DEPLOY, environment="staging", state=StepState.interrupted, exit_code=None)
    passed = replace(DEPLOY, state=StepState.passed, exit_code=0)
    assert (
        "every script whose end was seen exited 0; it was deployed to staging, prod; "
        "of staging ada says (I looked) that it landed"
    ) == of(moves, [lost, passed]).sentence


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ({"state": StepState.cancelled, "run_id": None, "exit_code": None}, "script never began"),
        ({"state": StepState.cancelled, "exit_code": None, "reason": ends.STOPPED}, "never began"),
        ({"state": StepState.cancelled, "exit_code": 143, "reason": ends.STOPPED}, "in the middle"),
        ({"state": StepState.cancelled, "exit_code": None, "signal": 15}, "in the middle"),
        ({"state": StepState.failed, "exit_code": 0, "reason": ends.TIMEOUT}, "in the middle"),
        ({"state": StepState.cancelled, "exit_code": 0, "reason": ends.STOPPED}, "all the same"),
    ],
)
def test_a_stop_in_a_deploy_says_what_became_of_its_script(
    ended: dict[str, Any], words: str
) -> None:
    """A stop in its checkout is no stop of its script."""
    last = event(7, Move.cancel, State.cancelled, None, from_state=State.deploying,
                 environment="prod", actor="ada")  # fmt: skip
    assert words in of([last], [replace(DEPLOY, **ended)]).sentence


@pytest.mark.parametrize(
    ("state", "reason", "notes", "fault"),
    [
        (StepState.interrupted, ends.UNSEEN, (), "leeroy"),
        (StepState.interrupted, ends.UNSEEN, (started(6, "reboot"),), "host"),
        (StepState.interrupted, ends.SHUT_DOWN, (), "host"),
        (StepState.interrupted, ends.OUTSIDE, (), "host"),
        (StepState.cancelled, ends.NEVER_BEGAN, (), "leeroy"),
    ],
)
def test_lost_or_withdrawn_too_often(
    state: StepState, reason: str, notes: tuple[Note, ...], fault: str
) -> None:
    """No script failed, also where one before it did and was run again."""
    last = event(7, Move.fail, State.failed, "test unit was lost 4 times")
    steps = [replace(FAILED, ended_seq=2), replace(DEPLOY, state=state, reason=reason)]
    assert fault == of([last], steps, *notes).fault
