"""Who has seen a delivery: one event comes by several webhooks, each for its own pipelines."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from leeroy import context as contexts
from leeroy.clock import Clock
from leeroy.config import load
from leeroy.db import builds, house
from leeroy.db.engine import Database
from leeroy.db.house import Taken
from leeroy.model import Delivery, Push
from leeroy.operations import receiving
from leeroy.pipelines import Pipeline, parse
from tests.db import story

Answer = tuple[list[int], str | None]
SHA = "a" * 40


class House:
    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.now = story.START
        clock = Clock(now=lambda: self.now, monotonic=lambda: 0.0)
        settings = load(None, {"LEEROY_DATA": str(folder)})
        self.context = contexts.make(settings, clock, {}, new=False)
        names = ("shop", "site", "store")
        self.shop, self.site, self.store = (
            parse(story.SHOP, name=name, file=f"{name}.toml") for name in names
        )

    def deliver(
        self,
        *pipelines: Pipeline,
        number: str = "guid",
        event: str = "push",
        tag: str | None = None,
        ignored: str | None = None,
    ) -> Answer:
        branch = None if tag else "main"
        moved = () if ignored else (Push(branch=branch, tag=tag, commit=SHA, deleted=False),)
        delivery = Delivery(
            forge="gitea",
            id=number,
            event=event,
            addresses=(),
            pushes=moved,
            ignored=ignored,
            about=None if tag is None else f"shop refs/tags/{tag} {SHA}",
        )
        self.now += timedelta(seconds=1)
        work = partial(
            receiving.receive, context=self.context, delivery=delivery, pipelines=pipelines
        )
        return self.database.transact(work)

    def of(self, numbers: Sequence[int]) -> list[str]:
        """The pipelines of builds."""
        found = {one.id: one for one in self.database.read(partial(builds.latest, limit=100))}
        return [found[number].pipeline for number in numbers]

    def count(self) -> int:
        return len(self.database.read(partial(builds.latest, limit=100)))


@pytest.fixture
def home(database: Database, tmp_path: Path) -> House:
    return House(database, tmp_path)


def test_each_pipeline_has_its_own_first_time(home: House) -> None:
    """GitHub's id is the event's, whichever webhook brings it."""
    [first], none = home.deliver(home.shop)
    assert none is None
    [second], none = home.deliver(home.site)
    assert none is None and ["shop", "site"] == home.of([first, second])
    assert ([first], "seen before") == home.deliver(home.shop)
    assert ([second], "seen before") == home.deliver(home.site)
    both, reason = home.deliver(home.shop, home.site)
    assert ([first, second], "seen before") == (both, reason)
    every, none = home.deliver(home.shop, home.site, home.store)
    assert none is None and ["shop", "site", "store"] == home.of(every)
    assert 3 == home.count()


def test_what_starts_nothing_is_nothing_for_everybody(home: House) -> None:
    assert ([], "a ping") == home.deliver(home.shop, ignored="a ping")
    assert ([], "a ping") == home.deliver(home.site, ignored="a ping")
    assert ([], "seen before") == home.deliver(home.site, ignored="a ping")


def test_a_delivery_of_before_was_seen_by_everybody(home: House) -> None:
    """Nobody knows any more whose it was; sooner that than a build too many."""
    taken = Taken([], "nothing was pushed", None)
    home.database.transact(
        lambda conn: house.add_delivery(conn, "gitea", "guid", story.START, taken)
    )
    assert ([], "seen before") == home.deliver(home.shop)
    assert 0 == home.count()


def test_a_tag_told_twice_to_two_webhooks(home: House) -> None:
    """Gitea gives each webhook's delivery its own id; the order between them is anybody's."""
    told = [
        home.deliver(home.shop, number="1", event="push", tag="v1"),
        home.deliver(home.site, number="2", event="create", tag="v1"),
        home.deliver(home.site, number="3", event="push", tag="v1"),
        home.deliver(home.shop, number="4", event="create", tag="v1"),
    ]
    assert [["shop"], ["site"], ["site"], ["shop"]] == [home.of(found) for found, _ in told]
    assert told[0][0] == told[3][0] and told[1][0] == told[2][0]


def test_two_webhooks_at_one_moment(home: House) -> None:
    """Both new to the delivery: each has its build, and both are written down."""
    home.deliver(home.shop)
    gate = threading.Barrier(2)

    def bring(pipeline: Pipeline) -> Answer:
        gate.wait(10)
        return home.deliver(pipeline)

    with ThreadPoolExecutor(2) as both:
        answers = list(both.map(bring, (home.site, home.store)))
    assert [None, None] == [reason for _, reason in answers]
    assert ["site", "store"] == [name for found, _ in answers for name in home.of(found)]
    for pipeline, (found, _) in zip((home.site, home.store), answers, strict=True):
        assert (found, "seen before") == home.deliver(pipeline)
    assert 3 == home.count()
