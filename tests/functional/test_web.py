"""The HTTP edge: who may what, what every page carries, and what hostile requests meet."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from urllib.parse import urlencode

import pytest

from leeroy.calls import CALLS
from leeroy.terms import Role
from leeroy.web.app import DOORS
from tests.servers import Leeroy, push_payload
from tests.waiting import until

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def served(leeroy: Leeroy) -> Leeroy:
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "echo hello"\n')
    leeroy.start()
    build = leeroy.ask("trigger", name="shop")["id"]
    leeroy.until_over(build)
    return leeroy


def test_every_door_is_closed_to_whoever_may_not(served: Leeroy) -> None:
    """Nobody, a viewer, an operator, an admin: at each door exactly what the table says."""
    tokens: dict[Role | None, str | None] = {None: None}
    for role in Role:
        made = served.cli("token", "add", str(role), "--role", str(role), "--json")
        tokens[role] = json.loads(made.stdout)["token"]
    until(lambda: served.http("GET", "/api/v1/builds", token=tokens[Role.viewer])[0] == 200, 5)
    tries = 0
    for door in DOORS:
        path = re.sub(r"\{id(:int)?\}", "1", door.path)
        path = path.replace("{name}", "nobody").replace("{pipeline}", "shop")
        path = path.replace("{path:path}", "dist/shop.whl")
        path = path.replace("{forge}", "github").replace("{token}", "x")
        for role, token in tokens.items():
            if door.path.startswith("/login") or door.path.startswith("/static"):
                continue
            body = None if door.method == "GET" else b"{}"
            status, _, _ = served.http(door.method, path, body, JSON, token=token)
            tries += 1
            if door.role is None:
                continue
            if role is None:
                assert status in (401, 303), (door, role, status)
            elif not role.covers(door.role):
                assert 403 == status, (door, role, status)
            else:
                assert status not in (401, 403) or door.path == "/builds/{id:int}", (door, status)
    assert tries > 60


def test_nothing_else_is_there(served: Leeroy) -> None:
    """Tricks with the path or the method lead nowhere."""
    for path in (
        "//api/v1/builds", "/api/v1/builds/", "/api/v1/builds;x", "/api/v1/%2e%2e/builds",
        "/api/v1/builds/1/../1", "/builds/1%2f", "/static/../app.py", "/static/%2e%2e/app.py",
        "/api/v1/builds/99999999999999999999/log", "/builds/99999999999999999999", "/nowhere",
    ):  # fmt: skip
        status, _, _ = served.http("GET", path, token=served.token)
        assert status in (404, 405), (path, status)
    for method in ("PUT", "PATCH", "DELETE", "TRACE"):
        assert 405 == served.http(method, "/api/v1/builds", token=served.token)[0]
    override = {"X-HTTP-Method-Override": "POST"}
    assert 200 == served.http("GET", "/api/v1/builds/1", headers=override, token=served.token)[0]


def test_reading_is_free_on_loopback_while_no_token_exists(leeroy: Leeroy) -> None:
    """The first minutes need no token; changing something always does."""
    leeroy.pipeline('[[test]]\nname = "unit"\nrun = "true"\n')
    leeroy.token = "none yet"
    leeroy.start()
    assert 200 == leeroy.http("GET", "/")[0]
    assert 200 == leeroy.http("GET", "/api/v1/builds")[0]
    assert 401 == leeroy.http("POST", "/api/v1/pipelines/shop/builds", b"{}", JSON)[0]
    assert 401 == leeroy.http("GET", "/api/v1/builds", headers={"X-Forwarded-For": "1.2.3.4"})[0]
    leeroy.cli("token", "add", "x", "--role", "viewer")
    until(lambda: leeroy.http("GET", "/api/v1/builds")[0] == 401, 5)
    status, headers, _ = leeroy.http("GET", "/")
    assert (303, "/login") == (status, headers["location"])


def test_every_answer_is_armoured(served: Leeroy) -> None:
    """No inline script, no frames, no sniffing, nothing kept in caches."""
    for path in ("/", "/builds/1", "/login", "/stop/x", "/api/v1/builds", "/nowhere", "/healthz"):
        _, headers, text = served.http("GET", path, token=served.token)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "nosniff" == headers["x-content-type-options"]
        assert "no-store" == headers["cache-control"]
        assert b"<script>" not in text
        assert b" style=" not in text
        assert b"onclick" not in text


def test_a_page_login_and_its_buttons(served: Leeroy) -> None:
    """A token makes a cookie; a form without its code, or from elsewhere, does nothing."""
    status, headers, _ = served.http("POST", "/login", b"token=wrong", FORM)
    assert 401 == status
    assert "set-cookie" not in headers
    status, headers, _ = served.http(
        "POST", "/login", urlencode({"token": served.token}).encode(), FORM
    )
    assert (303, "/") == (status, headers["location"])
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    mine = {"Cookie": cookie.partition(";")[0], **FORM}
    _, _, page = served.http("GET", "/builds/1", headers=mine)
    code = re.search(rb'name="code" value="([0-9a-f]+)"', page)
    assert code is not None
    assert b"Run it again" in page
    form = urlencode({"action": "retry"}).encode()
    assert 403 == served.http("POST", "/builds/1", form, mine)[0]
    good = urlencode({"action": "retry", "code": code[1].decode()}).encode()
    elsewhere = mine | {"Sec-Fetch-Site": "cross-site"}
    assert 403 == served.http("POST", "/builds/1", good, elsewhere)[0]
    status, headers, _ = served.http("POST", "/builds/1", good, mine)
    assert (303, "/builds/2") == (status, headers["location"])
    cross = {"Cookie": mine["Cookie"], "Sec-Fetch-Site": "cross-site", **JSON}
    assert 403 == served.http("POST", "/api/v1/builds/2/retry", b"{}", cross)[0]


def test_what_strangers_write_is_inert(leeroy: Leeroy) -> None:
    """Markup, terminal codes and direction marks in titles, branches and logs stay text."""
    evil = "<script>alert(1)</script>\x1b]8;;javascript:alert(1)\x07\u202egnp"
    leeroy.pipeline(
        "[[test]]\nname = \"unit\"\nrun = '''printf \"<img src=x onerror=alert(1)>\\\\033]52;c;x\\\\007\"'''\n",
        "evil",
    )
    repo = leeroy.shop()
    leeroy.start()
    head = push_payload(repo, repo.git("rev-parse", "main"), "main")["head_commit"]
    status, answer = leeroy.hook(repo, head_commit=head | {"message": evil})
    assert 202 == status, answer
    build = leeroy.ask("trigger", name="evil")["id"]
    leeroy.until_over(build)
    for path in ("/", f"/builds/{build}", f"/builds/{answer['builds'][0]}"):
        _, _, page = leeroy.http("GET", path, token=leeroy.token)
        assert b"<script>alert" not in page
        assert b"<img src=x" not in page
        assert b"\x1b" not in page
        assert "\u202e".encode() not in page


def test_a_hook_is_answered_while_the_database_is_locked(leeroy: Leeroy) -> None:
    """Before its sender gives up; what is stored after all is the redelivery's answer."""
    repo = leeroy.shop()
    leeroy.start()
    [file] = leeroy.folder.glob("**/leeroy.db")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    status, answer = leeroy.hook(repo, delivery="slow")
    took = time.monotonic() - began
    other.execute("ROLLBACK")
    other.close()
    assert 503 == status and took < 10, f"{status} {answer} after {took:.1f} s"
    status, answer = leeroy.hook(repo, delivery="slow")
    assert status in (200, 202) and 1 == len(answer["builds"])
    assert answer["builds"] == leeroy.hook(repo, delivery="slow")[1]["builds"]
    assert 1 == len(leeroy.ask("list"))


def test_hooks_meet_what_is_wrong(leeroy: Leeroy) -> None:
    """Bad signatures 401, no payload 400, unknown repositories 200, forges we do not know 404."""
    repo = leeroy.shop()
    leeroy.start()
    body = json.dumps(push_payload(repo, "a" * 40, "main")).encode()
    head = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "1", **JSON}
    for signature in (None, "", "sha256=", "sha256=" + "0" * 64, "sha1=abc", "sha256=ä"):
        signed = (
            head
            if signature is None
            else head | {"X-Hub-Signature-256": signature.encode("latin1").decode("latin1")}
        )
        assert 401 == leeroy.http("POST", "/hooks/github", body, signed)[0], signature
    assert 404 == leeroy.http("POST", "/hooks/nowhere", body, head)[0]
    assert 405 == leeroy.http("GET", "/hooks/github")[0]
    status, answer = leeroy.hook(
        repo,
        repository={
            "full_name": "other/one",
            "clone_url": "https://example.com/other/one.git",
            "default_branch": "main",
        },
    )
    assert 200 == status
    assert "no pipeline" in answer["reason"]
    assert [] == leeroy.ask("list")
    status, answer = leeroy.hook(repo, deleted=True, after="0" * 40)
    assert (200, []) == (status, answer["builds"])
    assert "deleted" in answer["reason"]
    # Whatever it started: it came, and `doctor` can tell.
    until(lambda: leeroy.ask("pipelines")[0]["delivered_by"] == "github")
    status, _, _ = leeroy.http(
        "POST", "/hooks/github", b"x" * 100, head | {"Content-Length": str(26 << 20)}
    )
    assert 413 == status


def test_health_metrics_badge(served: Leeroy) -> None:
    """Machines are told how it is."""
    assert 200 == served.http("GET", "/healthz")[0]
    assert 200 == served.http("GET", "/readyz")[0]
    _, _, text = served.http("GET", "/metrics", token=served.token)
    assert b'leeroy_builds{state="done"} 1' in text
    _, headers, text = served.http("GET", "/badge/shop.svg", token=served.token)
    assert headers["content-type"].startswith("image/svg+xml")
    assert b"done" in text
    assert 404 == served.http("GET", "/badge/nothing.svg", token=served.token)[0]
    for path in ("/metrics", "/badge/shop.svg", "/builds/1/artifacts/dist/shop.whl"):
        status, headers, text = served.http("GET", path, headers={"Accept": "*/*"})
        assert (401, "Bearer") == (status, headers["www-authenticate"]), path
        assert "not_allowed" == json.loads(text)["code"], path
        browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
        status, headers, _ = served.http("GET", path, headers=browser)
        assert (303, "/login") == (status, headers["location"]), path


def test_bad_arguments_are_422_with_a_sentence(served: Leeroy) -> None:
    """What makes no sense is named, and changes nothing."""
    for path, body in (
        ("/api/v1/pipelines/shop/builds", {"branhc": "main"}),
        ("/api/v1/pipelines/shop/builds", {"branch": "main"}),
        ("/api/v1/pipelines/shop/builds", {"commit": 7}),
        ("/api/v1/builds/1/cancel", {"force": "maybe"}),
        ("/api/v1/environments/freeze", {}),
    ):
        status, _, text = served.http("POST", path, json.dumps(body).encode(), JSON, served.token)
        found = json.loads(text)
        assert (422, "invalid") == (status, found["code"]), (path, body, found)
    assert 422 == served.http("POST", "/api/v1/builds/1/cancel", b"[", JSON, served.token)[0]
    assert 404 == served.http("GET", "/api/v1/builds/77", token=served.token)[0]
    status, _, text = served.http("POST", "/api/v1/builds/1/cancel", b"{}", JSON, served.token)
    assert (409, "not_possible") == (status, json.loads(text)["code"])
    assert 1 == len(served.ask("list"))


def test_odd_numbers_and_cookies_break_nothing(served: Leeroy) -> None:
    """Too large, too long, not ASCII: an answer below 500, always."""
    for path in (
        "/?before=" + "9" * 5000, "/?before=" + "9" * 19, "/api/v1/builds?before=" + "9" * 19,
        "/api/v1/builds/1/log?cursor=" + "9" * 30 + ":1", "/api/v1/builds/1/log?cursor=x",
    ):  # fmt: skip
        assert served.http("GET", path, token=served.token)[0] < 500, path
    assert served.http("GET", "/", headers={"Cookie": "leeroy=a.b\xfc"})[0] < 500
    assert served.http("GET", "/", headers={"Authorization": "Bearer \xfc"})[0] < 500
    for until_ in ("0001-01-01T00:00:00+23:00", "9999-12-31T23:00:00-23:00", "999999999d"):
        body = json.dumps({"which": "*", "until": until_}).encode()
        status, _, text = served.http(
            "POST", "/api/v1/environments/freeze", body, JSON, served.token
        )
        assert 422 == status, text


def test_every_call_has_its_operation() -> None:
    """The table of calls and the operations do not drift apart."""
    from leeroy.operations import DO

    assert set(CALLS) == set(DO)
