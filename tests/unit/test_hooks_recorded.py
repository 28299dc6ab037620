"""Deliveries as the forges sent them say what the people who recorded them say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from leeroy.hooks import FORGES
from leeroy.model import Delivery, Pull, Push
from leeroy.refs import address
from leeroy.terms import Turn

_BESIDE = Path(__file__).parents[3] / "shared" / "payloads"
RECORDED = Path(os.environ.get("LEEROY_TEST_PAYLOADS", _BESIDE))
DOORS = {"bitbucketserver": "bitbucket", "forgejo": "gitea", "gogs": "gitea"}


def recorded() -> list[Path]:
    return sorted(p for p in RECORDED.glob("*/*.json") if not p.name.endswith(".headers.json"))


def told(path: Path) -> tuple[Delivery, list[dict[str, Any]]]:
    body = path.read_bytes()
    headers = json.loads(path.with_name(f"{path.stem}.headers.json").read_text())
    headers = {name.lower(): value for name, value in headers.items()}
    name = f"{path.parent.name}/{path.name}"
    expected = json.loads((RECORDED / "EXPECTED.json").read_text())[name]
    forge = FORGES[DOORS.get(path.parent.name, path.parent.name)]
    delivery = forge.parse(headers, body)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert delivery == forge.parse(headers | form, b"payload=" + quote_plus(body).encode())
    return delivery, expected


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded deliveries are not here")
@pytest.mark.parametrize("path", recorded(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recorded_deliveries(path: Path) -> None:
    """Kind, names, commits, people, forks and addresses are those that were recorded."""
    delivery, expected = told(path)
    kinds = [one["kind"] for one in expected]

    if kinds[0] in ("ignore", "ping") or path.stem == "delete_branch_event":
        assert delivery.ignored
        assert () == delivery.pushes == delivery.pulls
        return
    assert delivery.ignored is None
    found = [*delivery.pushes, *delivery.pulls]
    assert len(expected) == len(found)
    known = {address(one) for one in delivery.addresses}
    for one, want in zip(found, expected, strict=True):
        if isinstance(one, Push):
            as_pushed(one, want)
        else:
            as_pulled(one, want)
        for way in ("clone_https", "clone_ssh"):
            if way in want and "://127" not in want[way] and "localhost" not in want[way]:
                assert address(want[way]) in known


def as_pushed(push: Push, want: dict[str, Any]) -> None:
    assert want["name"] == (push.branch if want["ref_type"] == "branch" else push.tag)
    assert (want["kind"] == "delete") == push.deleted
    assert want.get("sha") == push.commit
    if "message" in want:
        assert want["message"] == push.message
    if "author_name" in want:
        assert want["author_name"] == push.author
    mail = want.get("author_email")
    if mail:
        assert (None if mail == "[REDACTED]" else mail) == push.author_email


def as_pulled(pull: Pull, want: dict[str, Any]) -> None:
    assert want["number"] == pull.number
    assert (want["kind"] == "pr_closed") == (pull.turn is Turn.closed)
    if pull.turn is not Turn.closed:
        assert want.get("head_sha", want.get("head_sha_short")) == pull.commit
    assert want["head_branch"] == pull.branch
    assert want["base_branch"] == pull.base_branch
    # Where the payload says nothing of the source, it is taken for a fork.
    assert want.get("from_fork", True) == pull.fork
