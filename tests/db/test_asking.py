"""How coroutines ask the database: together, and without waiting for who has given up."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from leeroy.db import house
from leeroy.db.engine import Database
from leeroy.db.replies import Work
from leeroy.errors import Unavailable


def changes(database: Database) -> int:
    """The mark that each commit which changes something counts up."""
    return database.read(
        lambda conn: conn.execute(sa.text("SELECT mark FROM lineage")).scalar_one()
    )


def put(number: int) -> Work[int]:
    def work(conn: Connection) -> int:
        house.set_setting(conn, f"number {number}", "asked")
        if number < 0:
            raise ValueError(f"{number} is below zero")
        return number

    return work


def test_each_is_answered_with_what_became_of_it(database: Database) -> None:
    """Values and errors reach those who asked; what raised has stored nothing."""

    async def main() -> list[object]:
        asked = [database.ask(put(number)) for number in (1, -2, 3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    one, two, three = asyncio.run(main())
    assert (1, 3) == (one, three)
    assert isinstance(two, ValueError)
    stored = [
        database.read(lambda conn, n=n: house.setting(conn, f"number {n}")) for n in (1, -2, 3)
    ]
    assert ["asked", None, "asked"] == stored


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_one_turn_asks_shares_a_commit(database: Database) -> None:
    """Fifty coroutines of one turn of the loop: one commit, and one waking."""
    before = changes(database)
    turns = itertools.count()
    woken: set[int] = set()

    async def one(number: int) -> None:
        await database.ask(put(number))
        woken.add(next(turns))

    async def main() -> float:
        waking = asyncio.get_running_loop().call_soon_threadsafe
        calls = 0

        def counted(*args: object, **more: object) -> asyncio.Handle:
            nonlocal calls
            calls += 1
            return waking(*args, **more)

        asyncio.get_running_loop().call_soon_threadsafe = counted  # type: ignore[method-assign,assignment]
        await asyncio.gather(*(one(number) for number in range(50)))
        return calls

    assert 1 == asyncio.run(main())
    assert 50 == len(woken)
    assert 1 == changes(database) - before


def test_who_gave_up_keeps_nobody_from_an_answer(database: Database) -> None:
    """A coroutine that is cancelled, and a loop that is closed, are passed over."""
    blocked, go = threading.Event(), threading.Event()

    def slow(conn: Connection) -> None:
        blocked.set()
        assert go.wait(10)

    async def leaves() -> None:
        asked = database.ask(slow)
        await asyncio.sleep(0)
        assert await asyncio.to_thread(blocked.wait, 10)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asked

    asyncio.run(leaves())
    go.set()

    async def comes_later() -> int:
        return await database.ask(put(7))

    assert 7 == asyncio.run(comes_later())


def test_a_closed_database_says_so(url: str) -> None:
    """Nobody waits for ever."""
    database = Database(url)
    database.close()

    async def main() -> None:
        await database.ask(put(1))

    with pytest.raises(Unavailable):
        asyncio.run(main())
