"""What a pipeline's file may say, and how a mistake in it is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leeroy import durations, pipelines, refs, toml
from leeroy.errors import ConfigError, Invalid
from leeroy.terms import State

GOOD = '''
repository = "https://git.example.com/acme/shop.git"
branches = ["main", "release/*", "!release/old"]
secret = "env:SHOP_HOOK_SECRET"

[[test]]
name = "unit"
run = """
[ -n "$1" ]   # a bracket that is no table
x = 'y'
"""
timeout = "20m"
secrets = { DB_PASSWORD = "env:CI_DB" }

[[build]]
name = "wheel"
run = "python3 -m build"
artifacts = ["dist/*"]

[[deploy]]
environment = "staging"
run = "true"

[[deploy]]
environment = "production"
branches = ["main"]
tags = ["v*"]
run = "./deploy"
lock = "db1"

[[notify]]
to = "env:OPS"
on = ["deploy_pending", "done"]
'''


def mistake_of(text: str) -> str:
    """The one mistake of a pipeline, as people read it."""
    with pytest.raises(ConfigError) as caught:
        pipelines.parse(text, name="shop", file="shop.toml")
    (mistake,) = caught.value.mistakes
    return str(mistake)


def test_a_good_file_is_understood() -> None:
    """Every key arrives, with its unit, and the defaults where a key is missing."""
    shop = pipelines.parse(GOOD, name="shop", file="shop.toml")
    assert ("env:SHOP_HOOK_SECRET",) == shop.secrets
    assert 1200 == shop.tests[0].timeout_s
    assert {"DB_PASSWORD": "env:CI_DB"} == dict(shop.tests[0].secrets)
    assert ("dist/*",) == shop.builds[0].artifacts
    assert [30.0, 30.0] == [d.grace_s for d in shop.deploys]
    assert ["shop/staging", "db1"] == [d.lock for d in shop.deploys]
    assert shop.notify[0].hears(State.done)
    assert not shop.notify[0].hears(State.queued)


@pytest.mark.parametrize(
    ("branch", "tag", "environments"),
    [
        ("main", None, ["staging", "production"]),
        ("trunk", None, []),
        (None, "v1.0", ["production"]),
        (None, "x1.0", []),
        (None, None, []),
    ],
)
def test_deploys_of_a_push(branch: str | None, tag: str | None, environments: list[str]) -> None:
    """A deploy without branches and tags is for the default branch alone; tags need `tags`."""
    shop = pipelines.parse(GOOD, name="shop", file="shop.toml")
    found = pipelines.deploys_for(shop, branch=branch, tag=tag, default_branch="main")
    assert environments == [deploy.environment for deploy in found]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('\nrepositry = "x"', "shop.toml:2: repositry: there is no such key here; did you mean"),
        ("at_once = true", "shop.toml:1: at_once: must be a whole number, and is true or false"),
        ("a = = 1", "shop.toml:1: this is no TOML"),
        ('forks = "aprove"', "did you mean 'approve'?"),
        ('forks = "test"', "strangers' code"),
        ('env = { LD_PRELOAD = "x" }', "shop.toml:1: env.LD_PRELOAD: LD_PRELOAD may not be set"),
        ('secret = "hunter2"', 'secret: must name a secret as "env:NAME"'),
        ('[[test]]\nname = "u"\nrun = ""', "shop.toml:3: test.run: is empty"),
        ('[[test]]\nname = "u"', "shop.toml:1: test.run: is missing"),
        ('[[test]]\nname = "../u"\nrun = "true"', "shop.toml:2: test.name: '../u' is no name"),
        ('[[test]]\nname = "u"\nrun = "true"\ntimeout = "5x"', "shop.toml:4: test.timeout: '5x'"),
        ('[[test]]\nname = "u"\nrun = """\n#!/bin/bash\nmake\n"""', "test.run: a bash script"),
        ('[[test]]\nname = "u"\nrun = "#!/bin/bash\\nmake"', "without -e goes on"),
        (
            '[[test]]\nname="u"\nrun="true"\n[[test]]\nname="u"\nrun="true"',
            "shop.toml:5: test.name: 'u' is there twice",
        ),
        ('[[deploy]]\nenvironment = "p"\nrun = "true"', "untested = true"),
        (
            'untested = true\n[[deploy]]\nenvironment = "p"\nrun = "true"\ninterrupted = "agin"',
            "shop.toml:5: deploy.interrupted: 'agin'",
        ),
        ('[[build]]\nname="b"\nrun="true"\nartifacts=["../x"]', "leads out of the workspace"),
        ('[[notify]]\nto="env:X"\non=["don"]', "shop.toml:3: notify.on: 'don' is no state"),
    ],
)
def test_a_mistake_is_named_with_line_key_and_remedy(text: str, said: str) -> None:
    """Whoever made a mistake finds it at the place the message names."""
    assert said in mistake_of(text)


def test_all_mistakes_are_named_at_once() -> None:
    """Nobody has to run the check once per mistake."""
    _, mistakes = pipelines.read("a = 1\nb = 2\nat_once = -1", name="shop", file="shop.toml")
    assert {1, 2, 3} == {mistake.line for mistake in mistakes}


def test_a_secret_that_stands_in_the_file_is_not_repeated() -> None:
    """A message may end up in a log; a secret must not."""
    assert "hunter2" not in mistake_of('token = "hunter2"')


@pytest.mark.parametrize(
    "script",
    ["make", "#!/bin/sh -e\nmake", "#!/bin/bash -eu\nx", "#!/usr/bin/env python3\nx",
     "#!/bin/bash\n# why\nset -euo pipefail\nx", "#!/usr/bin/env -S bash -e\nx"],
)  # fmt: skip
def test_scripts_that_stop_at_a_failed_command(script: str) -> None:
    """Other interpreters and shells with -e are fine."""
    text = f'[[test]]\nname = "u"\nrun = """{script}"""'
    assert script == pipelines.parse(text, name="shop", file="shop.toml").tests[0].run


@pytest.mark.parametrize(
    ("patterns", "ref", "meant"),
    [
        (["main"], "main", True),
        (["main"], "mainly", False),
        (["release/*", "!release/old"], "release/old", False),
        (["release/*", "!release/old"], "release/2/1", True),
        (["!wip/*"], "main", True),
        (["!wip/*"], "wip/x", False),
        (["!wip/*", "wip/good"], "wip/good", True),
        ([], "main", False),
        (["a.c"], "abc", False),
        (["*"], "x\ny", True),
    ],
)
def test_patterns(patterns: list[str], ref: str, meant: bool) -> None:
    """The last pattern that fits decides; nothing but `*` and `!` is special."""
    assert meant is refs.matches(patterns, ref)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_durations_add_up(hours: int, minutes: int, seconds: int) -> None:
    """Parts are summed."""
    text = f"{hours}h{minutes}m{seconds}s"
    assert hours * 3600 + minutes * 60 + seconds == durations.seconds(text)


@pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1 h", "1w", "1e3s", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    """A bad duration is refused, with examples of good ones."""
    with pytest.raises(Invalid, match='write "90s"'):
        durations.seconds(text)


def test_sizes() -> None:
    """Sizes count in powers of 1000."""
    assert [64_000_000, 10**9, 500_000] == [durations.size(t) for t in ("64MB", "1GB", "500kB")]
    with pytest.raises(Invalid):
        durations.size("64")


def test_lines_see_through_strings_and_lists() -> None:
    """What looks like a key inside a value is none."""
    text = 'a = """\nb = 1\n"""\nc = [\n  "]", # ]\n  2,\n]\n[t]\nd.e = \'#\'\n[[s]]\nx = {y = 1}\n[[s]]\nx = 1'
    expected = {("a",): 1, ("c",): 4, ("t",): 8, ("t", "d", "e"): 9, ("s", 0): 10,
                ("s", 0, "x"): 11, ("s", 1): 12, ("s", 1, "x"): 13}  # fmt: skip
    assert expected == toml.lines(text)
