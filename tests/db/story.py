"""Builds at any point of their life, made by the same functions the server uses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from leeroy import onward, pipelines
from leeroy.advance import accept, advance
from leeroy.model import Build
from leeroy.terms import Move

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
SHOP = """
repository = "/srv/shop.git"
secret = "env:HOOK"
[[test]]
name = "unit"
run = "true"
[[deploy]]
environment = "staging"
tags = ["*"]
branches = ["main"]
run = "true"
[[deploy]]
environment = "production"
branches = ["main"]
run = "true"
[[notify]]
to = "env:OPS"
on = ["deploy_pending", "done"]
"""
HOUSE = (pipelines.Target(to="env:HOUSE", on=None),)


def at(seconds: float) -> datetime:
    """So many seconds after the story's start."""
    return START + timedelta(seconds=seconds)


def push(conn: Connection, **columns: Any) -> Build:
    """A build that was accepted."""
    row = {
        "pipeline": "shop",
        "pipeline_text": SHOP,
        "repository": "/srv/shop.git",
        "branch": "main",
        "default_branch": "main",
        "commit": "a" * 40,
        "trigger": "push",
    } | columns
    return accept(conn, now=START, actor="github", house=HOUSE, **row)


def make(conn: Connection, build: Build, move: Move, **options: Any) -> Build:
    """One move by the scheduler."""
    options = {"now": START, "actor": "scheduler@here", "house": HOUSE} | options
    return advance(conn, build, move, **options)


def passed(conn: Connection, build: Build) -> Build:
    """The build, its scripts passed."""
    return make(conn, make(conn, build, Move.start, changes={"slot": 1}), Move.pass_)


def pending(conn: Connection, build: Build) -> Build:
    """The build, its next deploy announced (or what became of it)."""
    return onward.onward(conn, passed(conn, build), now=START, actor="scheduler@here", house=HOUSE)


def deploying(conn: Connection, build: Build) -> Build:
    """The build, its first deploy running."""
    return make(conn, pending(conn, build), Move.deploy)
