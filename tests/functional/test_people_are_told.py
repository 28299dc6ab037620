"""A server tells people: mail, Telegram and Twilio at once, authors, a sink that is away, a suspend."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from leeroy.scheduler.attention import SLACK_S, TICK_S
from tests.clocks import WallClock
from tests.functional.test_story import NOTIFY, link_of
from tests.servers import Leeroy
from tests.sinks import cloud_sink, json_sink, smtp_sink
from tests.waiting import until

TARGETS = """
[[notify]]
to = "env:OPS_MAIL"
[[notify]]
to = "author"
on = ["failed"]
[[notify]]
to = "env:OPS_CHAT"
on = ["deploy_pending", "done"]
[[notify]]
to = "env:OPS_PHONE"
on = ["deploy_pending"]
"""


def test_mail_chat_and_sms_each_carry_a_link_that_stops(leeroy: Leeroy, tmp_path: Path) -> None:
    """Three services, three lengths, and each one's own link works."""
    with smtp_sink() as mail, cloud_sink(tmp_path) as cloud:
        leeroy.env |= {
            "OPS_MAIL": mail.url,
            "OPS_CHAT": cloud.telegram("4711"),
            "OPS_PHONE": cloud.twilio("+15005550009"),
            **cloud.environment,
        }
        repo = leeroy.shop(deploy="true", more='grace = "60s"', tail=TARGETS)
        leeroy.start()
        build = leeroy.push(repo)
        leeroy.until_state(build, "deploy_pending")
        told = until(lambda: {s.service: s for s in cloud.received if "/stop/" in s.text}, 20)
        until(lambda: len({s.service for s in cloud.received if "/stop/" in s.text}) == 2, 20)
        told = {s.service: s for s in cloud.received if "/stop/" in s.text}
        mailed = until(lambda: [m for m in mail.received if "/stop/" in m.text], 20)[0]
        assert len(told["twilio"].text) <= 160
        assert "not before" in mailed.message["Subject"]
        texts = [told["telegram"].text, told["twilio"].text, mailed.text]
        links = [re.search(r"http://[^/\s]+(/stop/[\w-]+)(?=\s|$|<)", text) for text in texts]
        paths = [link[1] for link in links if link]
        assert 3 == len(set(paths)), "each target has its own"
        for path in paths:
            assert 200 == leeroy.http("GET", path)[0]
        assert 200 == leeroy.http("POST", paths[1])[0]
        last = leeroy.ask("events", id=build)[-1]
        assert ("cancelled", "stop link (env:OPS_PHONE)") == (last["to"], last["actor"])
        until(lambda: any("cancelled" in str(m.message["Subject"]) for m in mail.received), 20)
        notices = until(
            lambda: all(n["state"] == "sent" for n in leeroy.ask("notices", id=build)), 20
        )
        assert notices
        log = leeroy.log.read_text() + json.dumps(leeroy.ask("notices", id=build))
        for secret in (cloud.BOT, cloud.TOKEN):
            assert secret not in log


def test_the_author_hears_of_a_red_build(leeroy: Leeroy) -> None:
    """to = "author": whoever made the commit gets the mail, with the end of the log."""
    with smtp_sink() as mail:
        leeroy.env["MAIL"] = mail.address()
        leeroy.env["OPS_MAIL"] = leeroy.env["OPS_CHAT"] = leeroy.env["OPS_PHONE"] = mail.url
        leeroy.settings["mail"] = "env:MAIL"
        repo = leeroy.shop(test="echo the till is broken; exit 1", tail=TARGETS)
        leeroy.start()
        build = leeroy.push(repo)
        assert "failed" == leeroy.until_over(build)
        found = until(lambda: [m for m in mail.received if m.to == ("ada@example.com",)], 20)
        assert "the till is broken" in found[0].text


def test_nothing_is_lost_while_a_service_is_away(leeroy: Leeroy) -> None:
    """Down over a restart and a kill: every notice arrives in the end, in order."""
    with json_sink() as sink:
        sink.down()
        leeroy.env["OPS"] = sink.url
        leeroy.pipeline('[[test]]\nname = "unit"\nrun = "true"\n[[notify]]\nto = "env:OPS"\n')
        leeroy.start()
        build = leeroy.ask("trigger", name="shop")["id"]
        assert "done" == leeroy.until_over(build)
        leeroy.kill()
        sink.up()
        leeroy.start()
        until(lambda: len(sink.received) >= 4, 60)
        words = [told["title"].rpartition(": ")[2] for told in sink.received]
        assert ["accepted", "building", "passed", "done"] == list(dict.fromkeys(words))


@pytest.mark.parametrize(
    ("grace", "stop", "announced"), [(5, 7.5, 2), (3, 2.0, 1)], ids=["long", "short"]
)
def test_a_stopped_process_does_not_shorten_the_grace_period(
    leeroy: Leeroy, grace: float, stop: float, announced: int
) -> None:
    """SIGSTOP: a long one has it announced again, a short one makes it longer; nothing of it counts."""
    with json_sink() as sink:
        leeroy.env["OPS"] = sink.url
        leeroy.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\n'
            """run = 'cut -d" " -f1 /proc/uptime > "{world}/begun"'\n"""
            f'grace = "{grace}s"\n{NOTIFY}'
        )
        leeroy.start()
        build = leeroy.ask("trigger", name="shop")["id"]
        link_of(sink, build)
        told = time.clock_gettime(time.CLOCK_BOOTTIME)
        until(lambda: leeroy.build(build)["deploy_at"], 5)
        assert leeroy.process is not None
        leeroy.process.send_signal(signal.SIGSTOP)
        time.sleep(stop)  # so long it is stopped: that is the fault itself
        back = time.clock_gettime(time.CLOCK_BOOTTIME)
        leeroy.process.send_signal(signal.SIGCONT)
        assert "done" == leeroy.until_over(build, timeout=40)
        assert announced == leeroy.moves(build).count("announce")
        [begun] = map(float, leeroy.marks("begun"))
        if announced > 1:
            assert begun - back > grace - 0.1, "in full, since it was announced again"
        hidden = TICK_S + SLACK_S
        assert begun - told - stop > grace - hidden - 0.2, "nobody could have stopped it meanwhile"
        [watched] = re.findall(
            r"\((\d+\.\d+) s watched\)", leeroy.cli("verdict", str(build)).stdout
        )
        assert grace <= float(watched) < begun - told - stop + hidden + 0.2


def test_a_server_that_is_down_tells_nobody(leeroy: Leeroy) -> None:
    """Down for six minutes right after it was announced: that is no time in which it was tried."""
    with json_sink() as sink:
        clock = WallClock(leeroy.folder)
        leeroy.env |= {"OPS": sink.url} | clock.env
        for unheard in ("hold", "deploy"):
            leeroy.pipeline(
                'untested = true\n[[deploy]]\nenvironment = "production"\nrun = "true"\n'
                f'grace = "1s"\nunheard = "{unheard}"\n{NOTIFY}',
                unheard,
            )
        sink.down()
        leeroy.start()
        made = [leeroy.ask("trigger", name=name)["id"] for name in ("hold", "deploy")]
        for build in made:
            until(lambda build=build: "told yet" in str(leeroy.build(build)["waiting_for"]), 20)
        leeroy.kill()
        clock.ahead(360)
        sink.hang()
        leeroy.start()
        time.sleep(4)  # nothing may happen: a period of a second would be over
        for build in made:
            assert "deploy_pending" == leeroy.state(build)
            assert "told yet" in leeroy.ask("why", id=build)["why"]
            assert {"hold", "deploy"}.isdisjoint(leeroy.moves(build))
        sink.up()
        for build in made:
            assert "done" == leeroy.until_over(build, timeout=60)


@pytest.mark.parametrize("by", [3600, -3600])
def test_a_clock_that_is_set_changes_no_grace_period(leeroy: Leeroy, by: float) -> None:
    """The wall clock an hour ahead or back in the window: the period runs in full, and no longer."""
    with json_sink() as sink:
        clock = WallClock(leeroy.folder)
        leeroy.env |= {"OPS": sink.url} | clock.env
        leeroy.pipeline(
            'untested = true\n[[deploy]]\nenvironment = "production"\nrun = "true"\n'
            f'grace = "5s"\n{NOTIFY}'
        )
        leeroy.start()
        build = leeroy.ask("trigger", name="shop")["id"]
        link_of(sink, build)
        until(lambda: leeroy.build(build)["deploy_at"], 5)
        told = time.monotonic()
        clock.ahead(by)
        assert "done" == leeroy.until_over(build)
        assert time.monotonic() - told > 4.5
        until(lambda: any("done" in told["title"] for told in sink.received), 20, "it is told")
