"""The sender: nothing lost, in order, nothing twice that a service took, and no target in the way of another."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from leeroy.clock import Clock
from leeroy.errors import NotFound
from leeroy.model import Build, Event, Notice
from leeroy.notify.compose import News
from leeroy.notify.letter import Letter
from leeroy.notify.sender import Patience, Sender
from leeroy.terms import Move, State
from tests.sinks import cloud_sink, json_sink, smtp_sink
from tests.waiting import until

URL = "https://ci.example.com"
QUICK = Patience(pauses_s=(0.05,), urgent_s=(0.05,))
MOVES = {
    State.queued: Move.accept,
    State.building: Move.start,
    State.passed: Move.pass_,
    State.deploy_pending: Move.announce,
    State.deploying: Move.deploy,
    State.done: Move.finish,
}


class Time:
    """A clock that runs, and can be set forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self.clock = Clock(now=self.now, monotonic=lambda: self.now().timestamp())

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Rows:
    """An outbox in memory, which keeps the promises of the one in the database."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.rows: list[Notice] = []
        self.builds: dict[int, Build] = {}
        self.events: dict[tuple[int, int], Event] = {}
        self.heard: list[tuple[int, str]] = []
        self.claimed: set[int] = set()
        self.reads = 0
        self.broken = 0

    def move(self, build_id: int, state: State, *to: str) -> None:
        """The build makes a move, of which these targets are told."""
        seq = 1 + sum(event.build_id == build_id for event in self.events.values())
        place = "production" if state in (State.deploy_pending, State.deploying) else None
        now = self.time.now()
        event = Event(
            build_id=build_id,
            seq=seq,
            move=MOVES[state],
            from_state=None,
            to_state=state,
            environment=place,
            actor="scheduler@web-1",
            reason=None,
            at=now,
        )
        self.events[build_id, seq] = event
        self.builds[build_id] = a_build(build_id, state, place)
        for target in to:
            self.rows.append(
                Notice(
                    id=len(self.rows) + 1,
                    build_id=build_id,
                    seq=seq,
                    target=target,
                    urgent=state is State.deploy_pending,
                    state="waiting",
                    attempts=0,
                    accepted=(),
                    next_try_at=now,
                    last_error=None,
                    created_at=now,
                    sent_at=None,
                )
            )

    def states(self) -> list[str]:
        return [row.state for row in self.rows]

    def change(self, notice_id: int, **values: Any) -> None:
        if self.broken:
            self.broken -= 1
            raise OSError("the database is away")
        self.rows[notice_id - 1] = replace(self.rows[notice_id - 1], **values)

    def _free(self, busy: frozenset[str] = frozenset()) -> list[Notice]:
        waiting = [row for row in self.rows if row.state == "waiting"]
        free: dict[tuple[int, str], Notice] = {}
        for row in sorted(waiting, key=lambda row: (not row.urgent, row.id)):
            mates = [
                one for one in waiting if (one.build_id, one.target) == (row.build_id, row.target)
            ]
            if row.target in busy or self.claimed & {one.id for one in mates}:
                continue
            if any(one.seq < row.seq and one.urgent >= row.urgent for one in mates):
                continue
            free.setdefault((row.build_id, row.target), row)
        return list(free.values())

    async def claim(self, now: datetime, limit: int, busy: frozenset[str]) -> list[Letter]:
        self.reads += 1
        due = [row for row in self._free(busy) if row.next_try_at <= now][:limit]
        self.claimed |= {row.id for row in due}
        return [
            Letter(
                row,
                News(
                    build=self.builds[row.build_id],
                    event=self.events[row.build_id, row.seq],
                    grace_s=30,
                    url=URL,
                    stop_url=f"{URL}/stop/Ab3x",
                    now=now,
                ),
            )
            for row in due
        ]

    async def accepted(self, notice_id: int, recipient: str) -> None:
        row = self.rows[notice_id - 1]
        self.change(notice_id, accepted=(*row.accepted, recipient))
        self.heard.append((notice_id, recipient))

    async def sent(self, notice_id: int) -> None:
        self.change(notice_id, state="sent", sent_at=self.time.now())
        self.claimed.discard(notice_id)

    async def failed(self, notice_id: int, error: str, next_try_at: datetime) -> None:
        attempts = self.rows[notice_id - 1].attempts + 1
        self.change(notice_id, attempts=attempts, last_error=error, next_try_at=next_try_at)
        self.claimed.discard(notice_id)

    async def dead(self, notice_id: int, error: str) -> None:
        attempts = self.rows[notice_id - 1].attempts + 1
        self.change(notice_id, state="dead", attempts=attempts, last_error=error)
        self.claimed.discard(notice_id)

    async def obsolete(self, notice_id: int, why: str) -> None:
        self.change(notice_id, state="obsolete", last_error=why)
        self.claimed.discard(notice_id)

    async def next_due(self) -> datetime | None:
        return min((row.next_try_at for row in self._free()), default=None)


def a_build(build_id: int, state: State, environment: str | None = None) -> Build:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    return Build(
        id=build_id,
        place=build_id,
        pipeline="shop",
        pipeline_text="",
        repository="https://github.com/acme/shop.git",
        branch="main",
        tag=None,
        commit="1f" * 20,
        default_branch="main",
        pull_request=None,
        fork=False,
        message="Sell hats",
        author="Ada",
        author_email="ada@example.com",
        trigger="push",
        source=None,
        deploys=True,
        deploy_to=None,
        without_grace=False,
        approved_by=None,
        state=state,
        version=1,
        host=None,
        environment=environment,
        slot=None,
        requeues=0,
        due_at=None,
        stop_at=None,
        stop_actor=None,
        stop_reason=None,
        created_at=now,
        started_at=None,
        finished_at=None,
    )


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def rows(time: Time) -> Rows:
    return Rows(time)


def titles(received: list[Any]) -> list[str]:
    """What a JSON sink was told, in the order of arrival, as "7: building"."""
    found = [re.match(r"\[shop\] main #(\d+): (.*)", one["title"]) for one in received]
    return [f"{one[1]}: {one[2]}" for one in found if one]


def run(
    rows: Rows,
    targets: dict[str, str | None],
    story: Callable[[Sender], Coroutine[Any, Any, None]],
    patience: Patience = QUICK,
    deadline_s: float = 20.0,
) -> None:
    """Send with a real postman while *story* goes on."""

    def resolve(target: str, build: Build) -> str | None:
        if target not in targets:
            raise NotFound(f"{target} is not set")
        return targets[target]

    async def main() -> None:
        sender = Sender(rows, resolve, rows.time.clock, patience=patience, deadline_s=deadline_s)
        task = asyncio.create_task(sender.run())
        try:
            await story(sender)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await sender.close()

    asyncio.run(main())


async def seen(condition: Callable[[], Any]) -> None:
    await asyncio.to_thread(until, condition, 15.0)


def test_everybody_is_told_in_order(rows: Rows) -> None:
    """Each target hears of each move once, in the order of the moves."""
    with json_sink() as json_target, smtp_sink() as mail_target:
        for state in (State.queued, State.building, State.passed):
            rows.move(7, state, "chat", "mail")

        async def story(sender: Sender) -> None:
            await seen(lambda: rows.states() == ["sent"] * 6)
            rows.move(7, State.deploying, "chat")
            sender.wake()
            await seen(lambda: rows.states() == ["sent"] * 7)

        run(rows, {"chat": json_target.url, "mail": mail_target.url}, story)

        assert [
            "7: accepted",
            "7: building",
            "7: passed",
            "7: deploying to production",
        ] == titles(json_target.received)
        assert 3 == len(mail_target.received)


def test_a_target_that_is_away_for_a_while(rows: Rows) -> None:
    """Nothing is lost, the order stays, and others are not delayed by it."""
    with json_sink() as away, smtp_sink() as mail_target:
        away.down()
        for state in (State.queued, State.building, State.passed):
            rows.move(7, state, "chat", "mail")
        rows.move(8, State.queued, "chat")

        async def story(sender: Sender) -> None:
            await seen(lambda: 3 == len(mail_target.received))
            await seen(lambda: rows.rows[0].attempts >= 2)
            assert "refused" in (rows.rows[0].last_error or "")
            assert 0 == rows.rows[2].attempts  # its turn has not come
            away.up()
            await seen(lambda: rows.states() == ["sent"] * 7)

        run(rows, {"chat": away.url, "mail": mail_target.url}, story)

        told = titles(away.received)
        assert ["7: accepted", "7: building", "7: passed"] == [t for t in told if t[0] == "7"]
        assert ["8: accepted"] == [t for t in told if t[0] == "8"]


def test_an_announcement_overtakes(rows: Rows) -> None:
    """Who was away hears first of what can still be stopped."""
    with json_sink() as away:
        away.down()
        for state in (State.queued, State.building, State.deploy_pending):
            rows.move(7, state, "chat")
        away.up()

        async def story(sender: Sender) -> None:
            await seen(lambda: rows.states() == ["sent"] * 3)

        run(rows, {"chat": away.url}, story)

        first, *others = titles(away.received)
        assert first.startswith("7: production not before")
        assert ["7: accepted", "7: building"] == others
        assert f"\n{URL}/stop/Ab3x\n" in away.received[0]["message"]
        assert (3, f"json://127.0.0.1:{away.port}") == rows.heard[0]


def test_a_hanging_target_holds_up_nobody(rows: Rows) -> None:
    """It meets its deadline and is tried again; all others are told meanwhile."""
    with json_sink() as hanging, json_sink() as quick:
        hanging.hang()
        for number in range(1, 31):
            rows.move(number, State.queued, "hanging")
        for number in range(1, 11):
            rows.move(number, State.building, "quick")

        async def story(sender: Sender) -> None:
            await seen(lambda: 10 == len(quick.received))
            assert [] == hanging.received
            await seen(lambda: any(row.attempts for row in rows.rows))
            assert "no answer within 4 s" in str([row.last_error for row in rows.rows])
            hanging.up()
            await seen(lambda: rows.states() == ["sent"] * 40)

        targets: dict[str, str | None] = {"hanging": hanging.url, "quick": quick.url}
        run(rows, targets, story, deadline_s=4.0)


def test_a_killed_postman_loses_nothing(rows: Rows) -> None:
    """Its letters are tried again by the next one."""
    with json_sink() as target:
        target.hang()
        rows.move(7, State.queued, "chat")

        async def story(sender: Sender) -> None:
            await seen(lambda: target.asked == 1)
            pid = sender.courier.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await seen(lambda: rows.rows[0].attempts == 1)
            assert "the postman died" in (rows.rows[0].last_error or "")
            target.up()
            await seen(lambda: rows.states() == ["sent"])

        run(rows, {"chat": target.url}, story)


def test_partial_acceptance_is_not_sent_again(rows: Rows, time: Time) -> None:
    """Who has a notice never gets it twice because another of the same target refuses it."""
    with smtp_sink() as target:
        target.refused.add("bob@example.com")
        rows.move(7, State.queued, "mail")

        async def story(sender: Sender) -> None:
            await seen(lambda: rows.rows[0].attempts >= 3)
            target.refused.clear()
            await seen(lambda: rows.states() == ["sent"])

        url = target.address("ada@example.com", "bob@example.com", "eve@example.com")
        run(rows, {"mail": url}, story)

        expected = {("ada@example.com",): 1, ("bob@example.com",): 1, ("eve@example.com",): 1}
        assert expected == Counter(mail.to for mail in target.received)


def test_one_bad_recipient_does_not_silence_the_others(rows: Rows, time: Time) -> None:
    """What only some refuse is given up after ten minutes, and the later notices go on."""
    with smtp_sink() as target:
        target.refused.add("bob@example.com")
        rows.move(7, State.queued, "mail")
        rows.move(7, State.building, "mail")

        async def story(sender: Sender) -> None:
            await seen(lambda: rows.rows[0].attempts >= 1)
            time.ahead = timedelta(minutes=11)
            await seen(
                lambda: 2 == sum(mail.to == ("ada@example.com",) for mail in target.received)
            )

        run(rows, {"mail": target.address("ada@example.com", "bob@example.com")}, story)

        assert "dead" == rows.rows[0].state
        assert "bob@example.com" in (rows.rows[0].last_error or "")


def test_it_is_given_up_after_a_day(rows: Rows, time: Time) -> None:
    """A target that never answers is tried for a day; then the notice is dead, with its reason."""
    with json_sink() as target:
        target.status = 503
        rows.move(7, State.queued, "chat")

        async def story(sender: Sender) -> None:
            await seen(lambda: rows.rows[0].attempts >= 1)
            time.ahead = timedelta(hours=23)
            before = rows.rows[0].attempts
            await seen(lambda: rows.rows[0].attempts > before)
            assert ["waiting"] == rows.states()
            time.ahead = timedelta(hours=25)
            await seen(lambda: rows.states() == ["dead"])

        run(rows, {"chat": target.url}, story)
        assert "503" in (rows.rows[0].last_error or "")


def test_a_target_that_cannot_be_resolved(rows: Rows) -> None:
    """A missing secret is a failed attempt like any other; a target set right later is told."""
    with json_sink() as target:
        rows.move(7, State.queued, "env:CHAT")
        targets: dict[str, str | None] = {}

        async def story(sender: Sender) -> None:
            await seen(lambda: rows.rows[0].attempts >= 1)
            assert "env:CHAT is not set" == rows.rows[0].last_error
            targets["env:CHAT"] = "not an address"
            await seen(lambda: "Apprise address" in (rows.rows[0].last_error or ""))
            targets["env:CHAT"] = target.url
            await seen(lambda: rows.states() == ["sent"])

        run(rows, targets, story)


def test_nobody_to_tell(rows: Rows) -> None:
    """An author without a mail address is no failure."""
    rows.move(7, State.queued, "author")

    async def story(sender: Sender) -> None:
        await seen(lambda: rows.states() == ["obsolete"])

    run(rows, {"author": None}, story)


def test_a_database_that_is_away(rows: Rows) -> None:
    """What a service took is written down once the database is back, and not sent again."""
    with json_sink() as target:
        rows.move(7, State.queued, "chat")
        rows.broken = 2

        async def story(sender: Sender) -> None:
            await seen(lambda: rows.states() == ["sent"])

        run(rows, {"chat": target.url}, story)
        assert 1 == len(target.received)


def test_a_waiting_outbox_is_left_alone(rows: Rows) -> None:
    """While one notice waits for its next try, those behind it do not keep the sender awake."""
    with json_sink() as target:
        target.down()
        for state in (State.queued, State.building, State.passed):
            rows.move(7, state, "chat")

        async def story(sender: Sender) -> None:
            await seen(lambda: rows.rows[0].attempts >= 1)
            reads = rows.reads
            await asyncio.sleep(0.5)  # nothing to wait for: it must do nothing
            assert rows.reads - reads <= 2

        run(rows, {"chat": target.url}, story, patience=Patience())


def test_telegram_and_twilio_through_an_outage(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS, two recipients each: an outage and a refusal lose nothing and double nothing."""
    with cloud_sink(tmp_path) as cloud:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
        cloud.status = 429
        rows.move(7, State.deploy_pending, "chat", "sms")

        async def story(sender: Sender) -> None:
            await seen(lambda: all(row.attempts for row in rows.rows))
            cloud.refused.add("222")
            cloud.status = 200
            await seen(lambda: 3 == len(cloud.received))
            cloud.refused.clear()
            await seen(lambda: rows.states() == ["sent", "sent"])

        chat = cloud.telegram("111", "222")
        sms = cloud.twilio("+491701111111", "+491702222222")
        run(rows, {"chat": chat, "sms": sms}, story)

        assert ["+491701111111", "+491702222222", "111", "222"] == sorted(
            sent.to for sent in cloud.received
        )
        for sent in cloud.received:
            assert sent.text.startswith("not before ")
            assert f"{URL}/stop/Ab3x" in re.split(r"[\s<>]", sent.text)
            assert sent.service == "telegram" or len(sent.text) <= 160
