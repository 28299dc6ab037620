"""Which failed deliveries are asked for again: new to us, still true, and no faster than allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from leeroy import context as contexts
from leeroy.catchup import again
from leeroy.catchup.again import Redeliveries
from leeroy.clock import Clock, utc_now
from leeroy.config import load
from leeroy.db import house, remotes
from leeroy.db.engine import Database
from leeroy.db.house import Taken
from leeroy.errors import NotAllowed
from leeroy.pipelines import Pipeline, parse
from tests.gitservers import free_port
from tests.keepers import KeepingGitHub
from tests.standins import TOKEN, standing_in
from tests.waiting import until

SHA = "a" * 40


class House:
    """A pipeline on a stand-in of GitHub whose webhook leads nowhere."""

    def __init__(self, database: Database, folder: Path, forge: KeepingGitHub) -> None:
        self.database, self.forge = database, forge
        url = f"http://127.0.0.1:{free_port()}"
        settings = load(None, {"LEEROY_DATA": str(folder), "LEEROY_URL": url})
        clock = Clock(now=utc_now, monotonic=time.monotonic)
        context = contexts.make(settings, clock, {"T": TOKEN}, new=False)
        self.redeliveries = Redeliveries(database, context)
        text = (
            f'repository = "https://git.example.com/acme/shop.git"\napi = "{forge.api}"\n'
            'token = "env:T"\n[[test]]\nname = "unit"\nrun = "true"\n'
        )
        self.pipeline: Pipeline = parse(text, name="shop", file="shop.toml")
        forge.hooks["1"] = {"id": 1, "config": {"url": f"{url}/hooks/github", "secret": "s"}}
        self.seen(utc_now() - timedelta(hours=1))

    def seen(self, at: Any) -> None:
        """The repository was first seen then."""
        self.database.transact(
            lambda conn: remotes.change(conn, "shop", repository="x", first_at=at)
        )

    def fail(self, number: int, action: str = "opened", sha: str = SHA) -> str:
        """A delivery of an open pull request that does not get through; its id."""
        self.forge.pulls[number] = {"state": "open", "sha": sha}
        told = {"action": action, "number": number, "pull_request": {"head": {"sha": sha}}}
        return str(self.forge.send("pull_request", told)["guid"])

    def redeliver(self) -> int:
        return self.redeliveries.redeliver([self.pipeline])

    def attempts(self) -> list[str]:
        return [one["guid"] for one in self.forge.attempts]


@pytest.fixture
def home(database: Database, tmp_path: Path) -> Iterator[House]:
    with standing_in(KeepingGitHub()) as forge:
        assert isinstance(forge, KeepingGitHub)
        made = House(database, tmp_path, forge)
        yield made
        made.redeliveries.close()


def test_what_is_new_and_still_true(home: House) -> None:
    """Neither what was stored, nor what came before the first sight, nor an older word."""
    home.fail(1, sha="b" * 40)
    newest = home.fail(1, "synchronize")
    home.fail(1, "labeled")
    stored = home.fail(2)
    work = partial(
        house.add_delivery,
        forge="github", delivery_id=stored, now=utc_now(), taken=Taken([1], None, {"shop": [1]}),
    )  # fmt: skip
    home.database.transact(work)
    home.fail(3)
    home.forge.pulls[3]["state"] = "closed"
    assert 1 == home.redeliver()
    assert [newest] == home.attempts()
    home.seen(utc_now() + timedelta(seconds=1))
    assert 0 == home.redeliver()


def test_the_forges_limits_are_kept(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second between two of them; after a 429 it waits as long as it is told."""
    monkeypatch.setattr(again, "PAUSES_S", (0.0, 0.0, 0.0))
    home.fail(1)
    home.fail(2)
    home.forge.broken(429, Retry_After="2")
    began = time.monotonic()
    working = threading.Thread(target=home.redeliver, daemon=True)
    working.start()
    until(lambda: home.forge.asked, 20)
    home.forge.well()
    working.join(60)
    assert 2 == len(home.forge.attempts)
    assert time.monotonic() - began >= 3, "two seconds, and one between the attempts"


def test_a_bounded_number_is_looked_into(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of many; the others are left to their next delivery."""
    monkeypatch.setattr(again, "MOST", 1)
    home.fail(1)
    newest = home.fail(2)
    assert 1 == home.redeliver()
    assert [newest] == home.attempts()


def test_a_token_that_may_not_is_an_error_and_a_hang_holds_nobody(home: House) -> None:
    """The loop says it in a line; what hangs is left behind at the close."""
    home.fail(1)
    home.forge.broken(403)
    with pytest.raises(NotAllowed, match="Webhooks: write"):
        home.redeliver()
    home.forge.hang()
    asked = len(home.forge.asked)
    home.redeliveries.ask([home.pipeline])
    until(lambda: len(home.forge.asked) > asked, 20)
    began = time.monotonic()
    home.redeliveries.close()
    assert time.monotonic() - began < 1
