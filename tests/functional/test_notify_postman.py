"""The postman and its courier: real services, a hard deadline, no secrets, and no end of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import pytest

from leeroy.notify.compose import Message
from leeroy.notify.courier import Courier
from tests.sinks import CloudSink, JsonSink, MailSink, cloud_sink, json_sink, smtp_sink
from tests.waiting import until

STOP = "https://ci.example.com/stop/Ab3x_9"
MESSAGE = Message(
    title="[shop] main #7: production not before 12:00:30 UTC",
    short=f"not before 12:00:30 UTC: production\n{STOP}\nshop #7",
    text=f"not before 12:00:30 UTC: shop #7. Stop or hold it:\n{STOP}\n\n@everyone <x>\n",
    html=f'<p>not before 12:00:30 UTC: shop #7. Stop or hold it:</p>\n<p><a href="{STOP}">{STOP}</a> </p>\n'
    "<p>@everyone &lt;x&gt;</p>\n",
)
T = TypeVar("T")
HEADERS = {"References": "<build-7@ci.example.com>", "X-Leeroy-Branch": "größe"}


@pytest.fixture
def json_target() -> Iterator[JsonSink]:
    with json_sink() as sink:
        yield sink


@pytest.fixture
def mail_target() -> Iterator[MailSink]:
    with smtp_sink() as sink:
        yield sink


@pytest.fixture
def cloud_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudSink]:
    with cloud_sink(tmp_path) as sink:
        for name, value in sink.environment.items():
            monkeypatch.setenv(name, value)
        yield sink


def using(work: Callable[[Courier], Awaitable[T]], deadline_s: float = 20.0) -> T:
    async def run() -> T:
        courier = Courier(deadline_s=deadline_s)
        try:
            return await work(courier)
        finally:
            await courier.close()
            assert courier.pid is None

    return asyncio.run(run())


def deliver(url: str, message: Message = MESSAGE) -> str | None:
    return using(lambda courier: courier.deliver(url, message, HEADERS))


def test_a_mail(mail_target: MailSink) -> None:
    """Text and HTML, the build's thread, and the stop link alone on its line."""
    assert deliver(mail_target.url) is None

    (mail,) = mail_target.received
    assert ("ops@example.com",) == mail.to
    assert MESSAGE.title == mail.message["Subject"]
    assert "<build-7@ci.example.com>" == mail.message["References"]
    assert "größe" == mail.message["X-Leeroy-Branch"]
    assert STOP in mail.text.splitlines()
    assert f'<a href="{STOP}">{STOP}</a> ' in mail.html


def test_telegram_over_tls(cloud_target: CloudSink) -> None:
    """The time comes first, the link stands alone, and nobody is called by an @."""
    assert deliver(cloud_target.telegram("12345")) is None

    (sent,) = cloud_target.received
    assert ("telegram", "12345") == (sent.service, sent.to)
    assert sent.text.startswith("not before 12:00:30 UTC")
    assert f">{STOP}</a>" in sent.text.split()[-3]
    assert "@everyone" not in sent.text
    assert "HTML" == sent.raw["parse_mode"]


def test_twilio_over_tls(cloud_target: CloudSink) -> None:
    """A telephone gets the short length, whole."""
    assert deliver(cloud_target.twilio("+491701234567")) is None

    (sent,) = cloud_target.received
    assert ("twilio", "+491701234567", MESSAGE.short) == (sent.service, sent.to, sent.text)


def test_a_hostile_log_is_no_broken_message(cloud_target: CloudSink) -> None:
    """A message too long for Telegram is cut between its paragraphs, not inside a tag."""
    log = "\n".join("&lt;" * 60 for _ in range(60))
    long = Message("title", "short", "text", f"{MESSAGE.html}<pre>{log}\n&lt;last&gt;</pre>\n")

    assert deliver(cloud_target.telegram("12345"), long) is None

    (sent,) = cloud_target.received
    assert len(sent.text) <= 4096
    assert sent.text.rstrip().endswith("&lt;last&gt;</pre>")
    assert 1 == sent.text.count("<pre>")


def test_what_went_wrong_is_said_without_secrets(cloud_target: CloudSink) -> None:
    """The error names the service and its answer; the tokens of the address are not in it."""
    cloud_target.status = 429

    for url in (cloud_target.telegram("12345"), cloud_target.twilio("+491701234567")):
        error = deliver(url)
        assert error is not None
        assert "429" in error
        for secret in (CloudSink.BOT, CloudSink.BOT[10:], CloudSink.ACCOUNT, CloudSink.TOKEN):
            assert secret not in error
    assert [] == cloud_target.received


def test_refused_mail(mail_target: MailSink) -> None:
    """What the mail server said is handed on."""
    mail_target.refused.add("ops@example.com")

    assert "550" in (deliver(mail_target.url) or "")


def test_a_redirect_is_not_followed(json_target: JsonSink) -> None:
    """A service that sends us elsewhere gets a failure: our token is not carried along."""
    with json_sink() as elsewhere:
        json_target.status, json_target.elsewhere = 307, f"http://127.0.0.1:{elsewhere.port}/x"

        assert deliver(f"{json_target.url}?redirect=yes") is not None
        assert 0 == elsewhere.asked


def test_an_address_is_checked_without_sending(json_target: JsonSink) -> None:
    """`check` says whether Apprise can use an address; nobody is told anything."""
    assert using(lambda courier: courier.check(json_target.url)) is None
    assert "cannot be used" in (using(lambda courier: courier.check("tgram://x")) or "")
    assert 0 == json_target.asked


def test_a_service_that_hangs_delays_nobody(json_target: JsonSink, mail_target: MailSink) -> None:
    """The deadline is hard, and other letters pass the one that hangs."""
    json_target.hang()

    async def work(courier: Courier) -> tuple[str | None, str | None, bool]:
        hanging = asyncio.create_task(courier.deliver(json_target.url, MESSAGE, {}))
        mailed = await courier.deliver(mail_target.url, MESSAGE, {})
        overtook = not hanging.done()
        return await hanging, mailed, overtook

    began = time.monotonic()
    hung, mailed, overtook = using(work, deadline_s=3.0)

    assert "no answer within 3 s" == hung
    assert mailed is None
    assert overtook
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("first", [True, False], ids=["first letter", "later letter"])
def test_a_killed_postman_is_replaced(json_target: JsonSink, first: bool) -> None:
    """Its letter is answered at once, and the next one has a new postman."""

    async def work(courier: Courier) -> tuple[str | None, str | None]:
        if not first:
            assert await courier.deliver(json_target.url, MESSAGE, {}) is None
        json_target.hang()
        seen = json_target.asked
        lost = asyncio.create_task(courier.deliver(json_target.url, MESSAGE, {}))
        await asyncio.to_thread(until, lambda: json_target.asked > seen)
        pid = courier.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        error = await asyncio.wait_for(lost, 5)
        json_target.up()
        again = await courier.deliver(json_target.url, MESSAGE, {})
        assert courier.pid not in (None, pid), (error, again)
        return error, again

    error, again = using(work)

    assert error == "the postman died while it delivered this"
    assert again is None


def test_a_stopped_postman_is_ended(json_target: JsonSink) -> None:
    """A postman that does not even keep its own deadline is killed and replaced."""

    async def work(courier: Courier) -> tuple[str | None, str | None]:
        assert await courier.deliver(json_target.url, MESSAGE, {}) is None
        assert courier.pid is not None
        os.kill(courier.pid, signal.SIGSTOP)
        courier._deadline_s = -4.5  # the courier's own limit is 5 s longer
        lost = await courier.deliver(json_target.url, MESSAGE, {})
        courier._deadline_s = 20.0
        return lost, await courier.deliver(json_target.url, MESSAGE, {})

    assert ("the postman did not answer", None) == using(work)


def test_an_idle_postman_goes_home(json_target: JsonSink) -> None:
    """After a while without letters there is no child; the next letter starts one."""

    async def run() -> None:
        courier = Courier(idle_s=0.05)
        for _ in range(2):
            assert await courier.deliver(json_target.url, MESSAGE, {}) is None
            await asyncio.to_thread(until, lambda: courier.pid is None)
        await courier.close()

    asyncio.run(run())
    assert 2 == len(json_target.received)


def test_many_letters_at_once(json_target: JsonSink) -> None:
    """Letters do not mix."""

    async def work(courier: Courier) -> list[str | None]:
        letters = [
            courier.deliver(json_target.url, Message(f"n{number}", "", "text", ""), {})
            for number in range(40)
        ]
        return await asyncio.gather(*letters)

    assert [None] * 40 == using(work)
    assert {f"n{number}" for number in range(40)} == {one["title"] for one in json_target.received}


def test_the_postman_knows_nothing(json_target: JsonSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has the way out in its environment, and none of the server's secrets."""
    monkeypatch.setenv("SHOP_HOOK_SECRET", "s3cret")

    async def work(courier: Courier) -> bytes:
        await courier.check(json_target.url)
        return await asyncio.to_thread(Path(f"/proc/{courier.pid}/environ").read_bytes)

    environment = using(work)
    assert b"s3cret" not in environment
    assert b"PATH=" in environment


def test_the_postman_ends_with_the_server(json_target: JsonSink) -> None:
    """When the server is gone, however it died, no child is left, not even one that hangs."""
    json_target.hang()
    letter = {"id": 1, "url": json_target.url, "message": asdict(MESSAGE), "headers": {}}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "leeroy.notify.postman"],
        stdin=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as postman:
        assert postman.stdin is not None
        postman.stdin.write(json.dumps(letter).encode() + b"\n")
        postman.stdin.flush()
        until(lambda: json_target.asked)
        postman.stdin.close()

        assert 0 == postman.wait(5)
