"""A delivery and a look at the repository, in whatever order: one build for each push."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from leeroy import context as contexts
from leeroy import pushes
from leeroy.catchup import comparing
from leeroy.catchup.asking import Asks, NoAnswer, Wanted
from leeroy.clock import Clock
from leeroy.config import load
from leeroy.context import Context
from leeroy.db import builds, remotes
from leeroy.db.engine import Database
from leeroy.model import Build, Delivery, Push
from leeroy.operations import receiving
from leeroy.operations.arriving import Head
from leeroy.pipelines import Pipeline, parse
from leeroy.terms import State
from tests.db import story

MAIN = "refs/heads/main"


class Repository(Asks):
    """A repository that answers from memory: a straight history on each of its refs."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.history: dict[str, list[str]] = {}
        self.messages: dict[str, str] = {}
        self.trouble: str | None = None
        self.asked = 0

    def push(self, commit: str, ref: str = MAIN, message: str = "A change") -> str:
        self.history.setdefault(ref, []).append(commit)
        self.messages[commit] = message
        return commit

    def refs(self, pipeline: Pipeline, deadline_s: float = 0) -> dict[str, str]:
        self.asked += 1
        if self.trouble is not None:
            raise NoAnswer(self.trouble)
        return {ref: commits[-1] for ref, commits in list(self.history.items())}

    def heads(
        self, pipeline: Pipeline, wanted: Sequence[Wanted], deadline_s: float = 0
    ) -> dict[str, Head]:
        found = {}
        for at, one in enumerate(wanted):
            commits = self.history.get(one.ref, [])
            if one.commit not in commits:
                continue
            until = commits.index(one.commit)
            known = [commits.index(c) for c in one.before if c in commits[:until]]
            passed = commits[max(known) + 1 : until] if known else []
            found[one.ref] = Head(
                ref=one.ref,
                commit=one.commit,
                at=at,
                message=self.messages[one.commit],
                author="Ada",
                passed_over=passed,
            )
        return found


class House:
    """A pipeline, its repository, and what happens to them."""

    def __init__(self, database: Database, folder: Path, more: str = "") -> None:
        self.database = database
        clock = Clock(now=lambda: story.START, monotonic=lambda: 0.0)
        settings = load(None, {"LEEROY_DATA": str(folder)})
        self.context = contexts.make(settings, clock, {}, new=False)
        self.pipeline = parse(more + story.SHOP, name="shop", file="shop.toml")
        self.repository = Repository(self.context)
        self.number = 0

    def look(self, *others: Pipeline) -> bool:
        group = [self.pipeline, *others]
        return comparing.look(self.database, self.context, self.repository, group)

    def deliver(
        self, commit: str | None, branch: str = "main", message: str = "A change"
    ) -> tuple[list[int], str | None]:
        self.number += 1
        ref = Push(branch=branch, tag=None, commit=commit, deleted=commit is None, message=message)
        delivery = Delivery(
            forge="github", id=str(self.number), event="push", addresses=(), pushes=(ref,)
        )
        work = partial(
            receiving.receive, context=self.context, delivery=delivery, pipelines=[self.pipeline]
        )
        return self.database.transact(work)

    def builds(self) -> list[Build]:
        found = self.database.read(partial(builds.latest, limit=1000))
        return sorted(found, key=lambda build: build.id)

    def commits(self) -> list[str | None]:
        return [build.commit for build in self.builds()]


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    return House(database, tmp_path)


def name(number: int) -> str:
    return f"{number:040x}"


A, B, C, D = (name(number) for number in range(10, 14))


def test_first_sight_builds_nothing_and_the_next_push_once(house: House) -> None:
    house.repository.push(A)
    house.look()
    assert [] == house.commits()
    house.repository.push(B)
    assert not house.look()
    assert not house.look()
    assert [B] == house.commits()
    build = house.builds()[0]
    assert ("poll", "main", None, "Ada") == (
        build.trigger, build.branch, build.tag, build.author
    )  # fmt: skip


def test_late_deliveries_answer_the_build(house: House) -> None:
    """Also those of commits that the head had passed over, which would bring back old code."""
    house.repository.push(A)
    house.look()
    for commit in (B, C, D):
        house.repository.push(commit)
    house.look()
    for commit in (D, B, C, D):
        numbers, reason = house.deliver(commit)
        assert [1] == numbers
        assert reason is not None
    assert [D] == house.commits()


def test_a_delivery_of_a_first_sights_head_is_built(house: House) -> None:
    """Nothing was built of it yet, so a push that is told of must be."""
    house.repository.push(A)
    house.look()
    assert ([1], None) == house.deliver(A)


def test_the_same_commit_delivered_twice_is_as_before(house: House) -> None:
    """Only what asking has found is answered by its build; a forge's own word counts."""
    assert ([1], None) == house.deliver(A)
    assert ([2], None) == house.deliver(A)


def test_a_branch_set_back_by_force_is_built_again(house: House) -> None:
    """A delivery of a commit passed over may be new after all: the repository tells."""
    for commit in (A, B):
        house.repository.push(commit)
        house.look()
    house.repository.push(C)
    house.look()
    house.repository.history[MAIN] = [A, B]
    numbers, _ = house.deliver(B)
    assert [1] == numbers
    assert house.database.read(remotes.every)["shop"].doubted
    house.look()
    assert [B, C, B] == house.commits()
    assert not house.database.read(remotes.every)["shop"].doubted


def test_the_older_news_does_not_win(house: House) -> None:
    """A delivery arrives while the repository is asked: what was asked before counts no more."""
    house.repository.push(A)
    house.look()
    house.repository.push(B)
    asked = house.repository.refs

    def slow(pipeline: Pipeline, deadline_s: float = 0) -> dict[str, str]:
        seen = asked(pipeline)
        house.repository.push(C)
        house.deliver(C)
        return seen

    house.repository.refs = slow  # type: ignore[method-assign]
    assert house.look(), "it asks for another look"
    house.repository.refs = asked  # type: ignore[method-assign]
    house.look()
    assert [C] == house.commits()


def test_skip_filters_and_only_newest(database: Database, tmp_path: Path) -> None:
    """What holds for a delivery holds for what asking found."""
    house = House(database, tmp_path, 'branches = ["main"]\nonly_newest = true\n')
    house.repository.push(A)
    house.look()
    house.repository.push(B)
    house.repository.push(A, "refs/heads/other")
    house.look()
    house.repository.push(C)
    house.look()
    house.repository.push(D, message="Words only [skip ci]")
    house.look()
    assert [(B, State.superseded), (C, State.queued)] == [
        (build.commit, build.state) for build in house.builds()
    ]


def test_a_branch_that_is_gone(house: House) -> None:
    """What waits of it is cancelled, by delivery and by asking alike; and it may come back."""
    house.repository.push(A)
    house.repository.push(A, "refs/heads/work")
    house.look()
    house.deliver(A, "work")
    del house.repository.history["refs/heads/work"]
    house.look()
    assert [State.cancelled] == [build.state for build in house.builds()]
    house.repository.push(B, "refs/heads/work")
    house.look()
    assert State.queued == house.builds()[1].state
    house.deliver(None, "work")
    assert State.cancelled == house.builds()[1].state


def test_no_branch_at_all_is_not_believed(house: House) -> None:
    house.repository.push(A)
    house.look()
    house.deliver(A)
    house.repository.history = {"refs/tags/v1": [A]}
    with pytest.raises(NoAnswer, match="no branch any more"):
        house.look()
    assert State.queued == house.builds()[0].state


def test_another_repository_is_a_first_sight(house: House) -> None:
    house.repository.push(A)
    house.look()
    text = story.SHOP.replace("/srv/shop.git", "/srv/other.git")
    house.pipeline = parse(text, name="shop", file="shop.toml")
    house.repository.history = {MAIN: [B], "refs/heads/new": [B]}
    house.look()
    assert [] == house.commits()


def test_pipelines_share_the_question_and_keep_their_own_tips(house: House) -> None:
    house.repository.push(A)
    other = parse(story.SHOP, name="other", file="other.toml")
    house.look(other)
    house.repository.push(B)
    house.deliver(B)
    house.look(other)
    assert 2 == house.repository.asked
    assert [("shop", "push"), ("other", "poll")] == [
        (build.pipeline, build.trigger) for build in house.builds()
    ]


def test_trouble_is_written_down_and_goes(house: House) -> None:
    house.repository.push(A)
    house.repository.trouble = "it is away"
    for _ in range(2):
        with pytest.raises(NoAnswer):
            house.look()
    shown = {"shop": house.pipeline}
    told = house.database.read(partial(pushes.silent, pipelines=shown))
    assert 1 == len(told)
    assert "shop cannot be asked since 2026-01-01T12:00:00.000Z: it is away" in told[0]
    assert 2 == house.database.read(remotes.every)["shop"].failures
    house.repository.trouble = None
    house.look()
    assert [] == house.database.read(partial(pushes.silent, pipelines=shown))


def test_doctor_tells_of_a_webhook_that_fell_silent(house: House) -> None:
    """A push that only asking found, and ten minutes later no delivery of it."""
    house.repository.push(A)
    house.look()
    house.repository.push(B)
    house.look()

    def doctor(minutes: float) -> list[tuple[bool, str]]:
        now = story.START + timedelta(minutes=minutes)
        shown = {"shop": house.pipeline}
        work = partial(pushes.examine, pipelines=shown, url="https://ci.example.com", now=now)
        return house.database.read(work)

    assert [True] == [well for well, _ in doctor(5)]
    assert "no delivery ever came" in doctor(5)[0][1]
    assert [False] == [well for well, _ in doctor(11)]
    assert "build 1 was found by asking" in doctor(11)[0][1]
    house.deliver(B)
    noted = partial(remotes.delivered, pipeline="shop", forge="github", now=story.START)
    house.database.transact(noted)
    assert [(True, "shop: the last delivery came 11 min ago (github)")] == doctor(11)


def test_what_is_old_is_forgotten(house: House) -> None:
    house.repository.push(A)
    house.look()
    house.repository.push(B)
    house.look()
    later = story.START + timedelta(days=8)
    house.database.transact(partial(remotes.tidy, before=later, present=["shop"]))
    assert house.database.read(partial(remotes.tips_of, pipeline="shop"))[MAIN].commit == B
    house.database.transact(partial(remotes.tidy, before=later, present=[]))
    assert {} == house.database.read(partial(remotes.tips_of, pipeline="shop"))


ROUNDS = 25


def test_deliveries_race_the_looks(house: House) -> None:
    """
    Pushes, their deliveries (late, or lost) and looks, all at the same time.

    No commit is built twice, none goes back to an older one, and at the end
    the newest build is of the head.
    """
    random.seed(4)
    history = [house.repository.push(name(1))]
    house.look()
    for round_ in range(ROUNDS):
        new = [name(100 * (round_ + 1) + number) for number in range(random.randint(1, 3))]
        told = [commit for commit in new if random.random() < 0.7]
        gate = threading.Barrier(3)
        errors: list[BaseException] = []

        def deliver(told: list[str] = told, gate: threading.Barrier = gate) -> None:
            gate.wait()
            for commit in told:
                while commit not in house.repository.history[MAIN]:
                    threading.Event().wait(0.0005)
                numbers, _ = house.deliver(commit)
                assert numbers

        def look(gate: threading.Barrier = gate) -> None:
            gate.wait()
            for _ in range(3):
                house.look()

        def caught(work: object, errors: list[BaseException] = errors) -> None:
            try:
                work()  # type: ignore[operator]
            except BaseException as exc:
                errors.append(exc)

        threads = [threading.Thread(target=caught, args=(work,)) for work in (deliver, look, look)]
        for thread in threads[:3]:
            thread.start()
        for commit in new:
            house.repository.push(commit)
        for thread in threads:
            thread.join()
        assert [] == errors
        history += new
    house.look()
    built = house.commits()
    assert len(built) == len(set(built))
    places = [history.index(str(commit)) for commit in built]
    assert all(before < after for before, after in pairwise(places)), places
    assert history[-1] == built[-1]
