"""The history checker: a real story breaks no rule, and each rule catches a story that breaks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from leeroy.db import picture
from leeroy.db.engine import Database
from leeroy.proof import world
from leeroy.proof.checker import RULES, check
from leeroy.proof.history import Answer, Frozen, History, Taken
from leeroy.terms import Move, Stage, State, StepState
from tests.servers import a_leeroy
from tests.sinks import json_sink
from tests.waiting import until

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Two pushes (builds 1 and 2), told, tested and deployed one after the other; and a stop (3)."""
    folder: Path = tmp_path_factory.mktemp("story")
    with json_sink() as sink, a_leeroy(folder / "leeroy") as leeroy:
        leeroy.env["OPS"] = sink.url
        script = world.script(leeroy.world / "log")
        tail = '[[notify]]\nto = "env:OPS"\non = ["deploy_pending", "done"]'
        repo = leeroy.shop(test=script, deploy=script, more='grace = "1s"', tail=tail)
        leeroy.start()
        taken = []
        for delivery in ("one", "two"):
            _, answer = leeroy.hook(repo, delivery=delivery)
            taken.append(Taken(delivery=delivery, builds=tuple(answer["builds"])))
            assert "done" == leeroy.until_over(answer["builds"][0])
        third = leeroy.push(repo)
        leeroy.until_state(third, "deploy_pending")
        asked = world.now()
        leeroy.ask("cancel", id=third)
        answers = [
            Answer(build=third, asked_at=asked, answered_at=world.now(), verdict="cancelled")
        ]
        database = Database(f"sqlite:///{leeroy.folder}/var/leeroy.db")
        try:
            until(
                lambda: all(
                    n.sent_at or n.state == "obsolete" for n in database.read(picture.look).notices
                ),
                10,
            )
            rows = database.read(picture.look)
        finally:
            database.close()

        yield History(
            rows=rows,
            marks=world.read(leeroy.world / "log"),
            answers=answers,
            taken=taken,
            wall_s=time.time() - world.now(),
            settled=True,
            seen={(e.build_id, e.seq): e for events in rows.events.values() for e in events},
        )


def test_a_real_story_breaks_no_rule(story: History) -> None:
    """Two deploys and a stop, as they were."""
    assert [] == check(story)
    assert {"start", "beat", "end"} == {mark.what for mark in story.marks}
    assert 2 == sum(m.stage is Stage.deploy and m.what == "start" for m in story.marks)
    assert all(mark.commit for mark in story.marks if mark.what == "start")


# --- stories that break a rule: one change each


def rows(story: History, **changes: Any) -> History:
    return replace(story, rows=replace(story.rows, **changes))


def build(story: History, number: int = 1, **changes: Any) -> History:
    return rows(
        story, builds={**story.rows.builds, number: replace(story.rows.builds[number], **changes)}
    )


def event(story: History, move: Move, number: int = 1, **changes: Any) -> History:
    found = [replace(e, **changes) if e.move is move else e for e in story.rows.events[number]]
    return rows(story, events={**story.rows.events, number: found})


def events(story: History, number: int, change: Callable[[list[Any]], list[Any]]) -> History:
    return rows(
        story, events={**story.rows.events, number: change(list(story.rows.events[number]))}
    )


def step(story: History, stage: Stage, **changes: Any) -> History:
    found = [
        replace(s, **changes)
        if s.stage is stage and (stage is not Stage.checkout or s.environment is None)
        else s
        for s in story.rows.steps[1]
    ]
    return rows(story, steps={**story.rows.steps, 1: found})


def mark(story: History, stage: Stage, kind: str, **changes: Any) -> History:
    return replace(
        story,
        marks=[
            replace(m, **changes) if (m.build, m.stage, m.what) == (1, stage, kind) else m
            for m in story.marks
        ],
    )


def more(story: History, stage: Stage, **changes: Any) -> History:
    again = [replace(m, **changes) for m in story.marks if (m.build, m.stage) == (1, stage)]
    return replace(story, marks=[*story.marks, *again])


def notice(story: History, **changes: Any) -> History:
    first, *rest = story.rows.notices
    return rows(story, notices=[replace(first, **changes), *rest])


def deploy(story: History, **changes: Any) -> History:
    key = (1, "production")
    return rows(
        story, deploys={**story.rows.deploys, key: replace(story.rows.deploys[key], **changes)}
    )


def place(story: History, **changes: Any) -> History:
    key = ("shop", "production")
    found = replace(story.rows.environments[key], **changes)
    return rows(story, environments={**story.rows.environments, key: found})


def interrupted_and_left(story: History) -> History:
    """Somebody finishes an interrupted build without a resolution."""
    return event(story, Move.finish, from_state=State.interrupted)


def beside_each_other(story: History) -> History:
    """The second deploy's script starts while the first one runs."""
    first = next(m for m in story.marks if (m.build, m.stage, m.what) == (1, Stage.deploy, "beat"))
    return replace(
        story,
        marks=[
            replace(m, at=first.at)
            if (m.build, m.stage, m.what) == (2, Stage.deploy, "start")
            else m
            for m in story.marks
        ],
    )


def older_after_newer(story: History) -> History:
    """The first build gets the place of a later one."""
    return build(story, 1, place=9)


def both_wait(story: History) -> History:
    """The third build was announced while the second one waited, which did not give way."""
    return events(story, 2, lambda found: found[: [e.move for e in found].index(Move.deploy)])


def second_gives_way(story: History, late: timedelta) -> History:
    """The second build waited, and gave way so much after the third was announced."""

    def change(found: list[Any]) -> list[Any]:
        kept = found[: [e.move for e in found].index(Move.deploy)]
        third = next(e for e in story.rows.events[3] if e.to_state is State.deploy_pending)
        gone = {"move": Move.supersede, "to_state": State.superseded, "at": third.at + late}
        return [*kept, replace(kept[-1], seq=kept[-1].seq + 1, **gone)]

    return events(story, 2, change)


def second_is_cancelled(
    story: History, *, before: bool | None, late: timedelta = timedelta(microseconds=1)
) -> History:
    """
    The second build waited, and a person cancelled it around the announcement of the third.

    *before*: whether its notice has the smaller number; None: nobody was told.
    """
    third = next(e for e in story.rows.events[3] if e.to_state is State.deploy_pending)

    def change(found: list[Any]) -> list[Any]:
        kept = found[: [e.move for e in found].index(Move.deploy)]
        # By the clock it was after it, by a hair at least.
        at = third.at + late
        gone = {"move": Move.cancel, "to_state": State.cancelled, "at": at}
        return [*kept, replace(kept[-1], seq=kept[-1].seq + 1, **gone)]

    changed = events(story, 2, change)
    last = changed.rows.events[2][-1]
    first = min(n.id for n in story.rows.notices if (n.build_id, n.seq) == (3, third.seq))
    number = first - 1 if before else first + 1
    told = replace(story.rows.notices[0], id=number, build_id=2, seq=last.seq)
    mine = [n for n in story.rows.notices if (n.build_id, n.seq) != (2, last.seq)]
    return rows(changed, notices=mine if before is None else [*mine, told])


def second_gave_way_to_another(story: History, *, told: bool | None) -> History:
    """
    As `second_gives_way`, a millisecond late, to a fourth build that was announced then.

    That one's transaction waited for nobody and was committed before the
    third's (its notices have the smaller numbers) where *told*, and after it
    where not; None: before it, and of the second nobody was told.
    """
    late = timedelta(milliseconds=1)
    third = next(e for e in story.rows.events[3] if e.to_state is State.deploy_pending)
    first = min(n.id for n in story.rows.notices if (n.build_id, n.seq) == (3, third.seq))
    number = first + 1 if told is False else first - 1
    changed = second_gives_way(story, late)
    gone = changed.rows.events[2][-1]
    fourth = [replace(e, build_id=4, at=e.at + late) for e in story.rows.events[3]][: third.seq]
    fourth.append(replace(gone, build_id=4, seq=third.seq + 1))
    builds = {**story.rows.builds, 4: replace(story.rows.builds[3], id=4)}
    mine = [n for n in story.rows.notices if (n.build_id, n.seq) != (2, gone.seq)]
    mine.append(replace(mine[0], id=number, build_id=4, seq=third.seq))
    if told is not None:
        mine.append(replace(mine[0], id=number, build_id=2, seq=gone.seq))
    return rows(changed, notices=mine, builds=builds, events={**changed.rows.events, 4: fourth})


def told_just_before(story: History) -> History:
    """Somebody was told half a second before the script of a deploy began."""
    first = next(m for m in story.marks if (m.build, m.stage, m.what) == (1, Stage.deploy, "start"))
    assert story.wall_s is not None
    told = first.at + story.wall_s - 0.5
    return deploy(story, heard_at=datetime.fromtimestamp(told, UTC))


def in_one_folder(story: History) -> History:
    test = next(m for m in story.marks if (m.build, m.stage, m.what) == (1, Stage.test, "beat"))
    other = next(m for m in story.marks if (m.build, m.stage, m.what) == (2, Stage.test, "start"))
    return replace(story, marks=[*story.marks, replace(other, at=test.at, workspace=test.workspace, run="x"),
                                 replace(other, at=test.at + 9, workspace=test.workspace, run="x")])  # fmt: skip


def out_of_turn(story: History) -> History:
    """The notice of an end that was sent before an older one of its kind."""
    mine = [n for n in story.rows.notices if n.build_id == 1 and n.urgent]
    again = replace(mine[0], id=99, seq=mine[0].seq + 1, sent_at=mine[0].sent_at - HOUR)
    return rows(story, notices=[*story.rows.notices, again])


def stopped_in_silence(story: History) -> History:
    """Somebody heard that the third build would be deployed, and not that it was stopped."""
    end = (3, story.rows.events[3][-1].seq)
    told = [n for n in story.rows.notices if (n.build_id, n.seq) != end]
    heard = [replace(n, state="sent") if (n.build_id, n.urgent) == (3, True) else n for n in told]
    return rows(story, notices=heard)


def lost(story: History, *, lived_s: float) -> History:
    """
    Nobody saw the end of the first build's deploy; later a person said that it landed.

    Its script wrote its last line so long after that word (before it: less than 0).
    """

    def change(found: list[Any]) -> list[Any]:
        end = found[-1]
        lose = replace(end, move=Move.lose, to_state=State.interrupted, at=end.at - HOUR)
        said = {"seq": end.seq + 1, "from_state": State.interrupted, "actor": "ada"}
        return [*found[:-1], lose, replace(end, move=Move.resolve_done, **said)]

    end = story.rows.events[1][-1]
    seen = {"state": StepState.interrupted, "ended_seq": end.seq - 1, "finished_at": end.at - HOUR}
    gone = step(events(story, 1, change), Stage.deploy, **seen)
    return mark(gone, Stage.deploy, "end", at=story.boot(end.at) + lived_s)


def told_of_its_announcement_only(story: History) -> History:
    """The first build is interrupted, and that notice was never tried."""

    def change(found: list[Any]) -> list[Any]:
        return [*found[:-1], replace(found[-1], move=Move.lose, to_state=State.interrupted)]

    broken = build(events(story, 1, change), state=State.interrupted)
    last = story.rows.events[1][-1].seq
    silent = {"sent_at": None, "attempts": 0, "state": "waiting"}
    told = [
        replace(n, **silent) if (n.build_id, n.seq) == (1, last) else n for n in story.rows.notices
    ]
    return rows(broken, notices=told)


def again_and_again(found: list[Any]) -> list[Any]:
    """A pipeline's rule has its deploy repeated four times."""
    return found + [replace(found[-1], move=Move.resolve_again, actor="pipeline shop")] * 4


BAD: dict[str, tuple[str, Callable[[History], History]]] = {
    "a gap": ("A1", lambda s: events(s, 1, lambda found: found[:2] + found[3:])),
    "a jump": ("A2", lambda s: event(s, Move.pass_, to_state=State.done)),
    "a forged row": ("A3", lambda s: build(s, state=State.failed)),
    "a dead one walks": ("A4", lambda s: event(s, Move.finish, from_state=State.cancelled)),
    "stuck for ever": ("A5", lambda s: build(s, state=State.building)),
    "interrupted, and told before only": ("A5", told_of_its_announcement_only),
    "a rewritten event": ("A6", lambda s: event(s, Move.start, actor="nobody")),
    "an event lost": ("A6", lambda s: events(s, 1, lambda found: found[:-1])),
    "a failed test deployed": ("B1", lambda s: step(s, Stage.test, state=StepState.failed)),
    "a test that is missing": ("B1", lambda s: rows(s, steps={**s.rows.steps, 1: []})),
    "a test after the deploy": (
        "B1", lambda s: step(s, Stage.test, finished_at=s.rows.builds[1].finished_at + HOUR)),
    "another commit": ("B2", lambda s: mark(s, Stage.deploy, "start", commit="b" * 40)),
    "another pipeline's step": ("B3", lambda s: step(s, Stage.test, name="other")),
    "a pull request": ("B4", lambda s: build(s, pull_request=7)),
    "cancelled and done": (
        "C1", lambda s: replace(s, answers=[Answer(build=1, asked_at=0, answered_at=1, verdict="cancelled")])),
    "stopped and deployed": (
        "C1", lambda s: replace(s, answers=[Answer(build=1, asked_at=0, answered_at=1, verdict="stopping")])),
    "held and deployed": (
        "C1", lambda s: events(s, 1, lambda f: [replace(e, move=Move.hold) if e.move is Move.announce else e for e in f])),
    "frozen and deployed": (
        "C1", lambda s: replace(s, freezes=[Frozen(pipeline="shop", environment="production", answered_at=0)])),
    "seen to wait, and deployed": (
        "C1", lambda s: replace(s, freezes=[Frozen(pipeline="shop", environment="production",
                                                   answered_at=world.now(), waiting={1: 1})])),
    "too late, and cancelled": (
        "C2", lambda s: replace(s, answers=[replace(s.answers[0], verdict="too_late")])),
    "a short grace period": ("C3", told_just_before),
    "nobody was told": ("C3", lambda s: deploy(s, heard_at=None)),
    "alive after cancelled": (
        "C4", lambda s: replace(s, marks=[*s.marks, replace(s.marks[0], build=3, at=world.now() + 60)])),
    "two at once": ("D1", beside_each_other),
    "an environment set free": ("D1", lambda s: build(s, state=State.interrupted)),
    "an environment held by nobody": ("D1", lambda s: place(s, holder=1)),
    "an older one after a newer": ("D2", older_after_newer),
    "two that wait": ("D3", both_wait),
    "it gives way too late": ("D3", lambda s: second_gives_way(s, timedelta(milliseconds=1))),
    "it is cancelled too late": ("D3", lambda s: second_is_cancelled(s, before=False)),
    "it is cancelled too late, in silence": (
        "D3", lambda s: second_is_cancelled(s, before=None, late=timedelta(seconds=1))),
    "a deploy twice": ("E1", lambda s: more(s, Stage.deploy, run="1-1-x", attempt=2)),
    "an attempt twice": ("E1", lambda s: more(s, Stage.test, run="1-1-x")),
    "a run without a row": ("E1", lambda s: step(s, Stage.deploy, run_id="1-1-x")),
    "it never began, and did": (
        "E1", lambda s: step(s, Stage.deploy, state=StepState.cancelled, exit_code=None)),
    "withdrawn for ever": (
        "E1", lambda s: events(s, 1, lambda f: f + [replace(f[-1], move=Move.withdraw)] * 4)),
    "repeated for ever": ("E1", lambda s: events(s, 1, again_and_again)),
    "a wrong code": ("E2", lambda s: step(s, Stage.test, state=StepState.failed, exit_code=3)),
    "passed without an end": ("E2", lambda s: mark(s, Stage.deploy, "end", code=1)),
    "failed though it exited 0": ("E2", lambda s: step(s, Stage.deploy, state=StepState.failed)),
    "a step for ever": ("E3", lambda s: step(s, Stage.test, state=StepState.running)),
    "two ends": ("E3", lambda s: mark(s, Stage.test, "beat", what="end")),
    "a daemon left": ("E4", lambda s: mark(s, Stage.test, "end", at=world.now() + 60)),
    "what was lost lives on": ("E4", lambda s: lost(s, lived_s=1)),
    "a log cut": ("E5", lambda s: step(s, Stage.test, sha256="0" * 64)),
    "one workspace for two": ("E6", in_one_folder),
    "a lost delivery": (
        "F1", lambda s: replace(s, taken=[*s.taken, Taken(delivery="gone", builds=(1,))])),
    "a lost build": ("F1", lambda s: replace(s, taken=[Taken(delivery=None, builds=(77,))])),
    "another answer": ("F2", lambda s: replace(s, taken=[Taken(delivery="one", builds=(2,))])),
    "built twice": (
        "F2", lambda s: rows(s, deliveries=[replace(s.rows.deliveries[0], builds=(1, 2))])),
    "a push of nobody": ("F3", lambda s: rows(s, deliveries=s.rows.deliveries[1:])),
    "nobody told": ("G1", lambda s: rows(s, notices=[n for n in s.rows.notices if n.build_id != 1])),
    "told of a deploy, and not that it was stopped": ("G1", stopped_in_silence),
    "told twice": ("G1", lambda s: rows(s, notices=[*s.rows.notices, s.rows.notices[0]])),
    "told of nothing": ("G1", lambda s: notice(s, seq=99)),
    "never tried": ("G2", lambda s: notice(s, state="waiting", attempts=0, sent_at=None)),
    "given up untried": ("G2", lambda s: notice(s, state="dead", attempts=0)),
    "the wrong way round": ("G3", out_of_turn),
    "interrupted, and nobody said": ("R1", interrupted_and_left),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_broken_promise_is_found(story: History, name: str) -> None:
    """By the rule that it breaks, whatever else is found."""
    rule, break_it = BAD[name]
    bad = break_it(story)
    found = [violation for number, check in RULES if number == rule for violation in check(bad)]
    assert found, f"{rule} did not notice"


def test_who_gives_way_at_that_moment_breaks_no_rule(story: History) -> None:
    """The same story as the one that is too late, but for a millisecond."""
    good = second_gives_way(story, timedelta(0))
    assert [] == [v for number, check in RULES if number == "D3" for v in check(good)]


@pytest.mark.parametrize(("told", "broken"), [(True, False), (None, False), (False, True)])
def test_of_two_transactions_the_numbers_tell_which_came_first(
    story: History, told: bool | None, broken: bool
) -> None:
    """The second gave way to a build whose announcement has the later time, and which number?"""
    found = second_gave_way_to_another(story, told=told)
    assert broken == bool([v for number, check in RULES if number == "D3" for v in check(found)])


@pytest.mark.parametrize("before", [True, None], ids=["told", "in silence"])
def test_who_was_cancelled_before_that_moment_breaks_no_rule(
    story: History, before: bool | None
) -> None:
    """Whatever the clocks say: its notice has the smaller number, or there is none."""
    good = second_is_cancelled(story, before=before)
    assert [] == [v for number, check in RULES if number == "D3" for v in check(good)]


def test_what_was_lost_may_live_until_something_follows(story: History) -> None:
    """It is held as long, so that this breaks no rule."""
    good = lost(story, lived_s=-1)
    assert [] == [v for number, check in RULES if number == "E4" for v in check(good)]


def test_every_rule_has_a_story_that_breaks_it() -> None:
    """A checker that cannot fail is worth nothing."""
    assert {number for number, _ in RULES} == {rule for rule, _ in BAD.values()}
