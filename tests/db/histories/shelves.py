"""The pipelines of the histories, and the settings of their server."""

from __future__ import annotations

from functools import cache

from leeroy import pipelines
from leeroy.model import Build

SHOP = """
repository = "/srv/shop.git"
secret = "env:HOOK"
[[test]]
name = "unit"
run = "true"
[[build]]
name = "wheel"
run = "true"
[[deploy]]
environment = "staging"
tags = ["*"]
branches = ["main"]
run = "true"
verify = "true"
interrupted = "again"
[[deploy]]
environment = "production"
branches = ["main"]
run = "true"
status = "true"
interrupted = "again"
lock = "rack"
[[deploy]]
environment = "moon"
branches = ["main"]
run = "true"
approve = true
[[notify]]
to = "env:OPS"
on = ["deploy_pending", "done", "queued"]
"""
TOOL = """
[[test]]
name = "unit"
run = "true"
[[deploy]]
environment = "rack"
run = "true"
interrupted = "fail"
lock = "rack"
[[deploy]]
environment = "shelf"
run = "true"
unheard = "deploy"
[[notify]]
to = "env:TOOL"
on = ["deploy_pending"]
"""
BOOK = """
repository = "/srv/book.git"
secret = "env:HOOK"
only_newest = true
at_once = 1
[[test]]
name = "spelling"
run = "true"
"""
TEXTS = {"shop": SHOP, "tool": TOOL, "book": BOOK}
ENVIRONMENTS = ["shop/staging", "shop/production", "shop/moon", "tool/rack", "tool/shelf", "*"]
SETTINGS = """
slots = 2
min_free = "0B"
[[notify]]
to = "env:HOUSE"
on = ["failed", "done", "interrupted", "cancelled"]
"""


@cache
def pipeline(name: str) -> pipelines.Pipeline:
    """A pipeline in force."""
    return pipelines.parse(TEXTS[name], name=name, file=name)


def plan(build: Build, environment: str) -> pipelines.Deploy:
    """What the pipeline says of a deploy."""
    return next(d for d in pipeline(build.pipeline).deploys if d.environment == environment)
