"""Bitbucket Cloud from a delivery to deploys and statuses: bitbucket.org is a git server here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.functional.test_forges import ZEROS, deliver
from tests.gitservers import Repo, a_repo, https_git, tunnel
from tests.servers import Leeroy
from tests.standins import TOKEN, Bitbucket, standing_in
from tests.waiting import until

OURS = {"full_name": "acme/shop", "uuid": "{1}", "mainbranch": {"name": "main"}}
THEIRS = {"full_name": "mallory/shop", "uuid": "{2}"}
SHOP = """
repository = "https://bitbucket.org/acme/shop.git"
secret = "env:SHOP_HOOK"
token = "file:token"
api = "API"
[[test]]
name = "unit"
run = '''test "$(git rev-parse HEAD)" = "$LEEROY_COMMIT"; test ${#LEEROY_COMMIT} = 40'''
"""
DEPLOY = """
[[deploy]]
environment = "{0}"
{1}
grace = "0s"
run = '''echo "$LEEROY_ENVIRONMENT $(git rev-parse HEAD)" >> {{world}}/deployed'''
"""
PLACES = {
    "production": 'branches = ["main"]',
    "staging": 'branches = ["next"]',
    "releases": 'tags = ["v*"]',
}


@contextmanager
def a_cloud(leeroy: Leeroy, tmp_path: Path) -> Iterator[tuple[Repo, Repo, Bitbucket, list[str]]]:
    """Our repository, a stranger's fork of it, the REST API, and the hosts that git asked for."""
    srv = tmp_path / "srv"
    ours, theirs = a_repo(srv / "acme"), a_repo(srv / "mallory", commits=False)
    theirs.git("pull", "-q", str(ours.bare), "main")
    forge = Bitbucket()
    with (
        https_git(srv, tmp_path / "web", user="x-token-auth", token=TOKEN) as https,
        tunnel(int(https.url.rpartition(":")[2])) as (proxy, hosts),
        standing_in(forge),
    ):
        leeroy.tables = f'[env]\nSSL_CERT_FILE = "{https.ca}"\nHTTPS_PROXY = "{proxy}"\n'
        (leeroy.folder / "token").write_text(TOKEN)
        deploys = "".join(DEPLOY.format(name, which) for name, which in PLACES.items())
        leeroy.pipeline(SHOP.replace("API", forge.api) + deploys)
        yield ours, theirs, forge, hosts


def moved(name: str, commit: str, kind: str = "branch", old: str | None = None) -> dict[str, Any]:
    before = None if old is None else {"type": kind, "name": name, "target": {"hash": old}}
    new = {"type": kind, "name": name, "target": {"hash": commit, "message": "Sell hats"}}
    return {"old": before, "new": new}


def asked_to_pull(number: int, commit: str, source: dict[str, Any]) -> dict[str, Any]:
    request = {
        "id": number,
        "title": "Sell hats",
        "source": {
            "branch": {"name": "hats"},
            "commit": {"hash": commit[:12]},
            "repository": source,
        },
        "destination": {"branch": {"name": "main"}, "repository": OURS},
    }
    return {"pullrequest": request, "repository": OURS}


def test_one_delivery_with_many_refs_is_built_to_its_deploys(
    leeroy: Leeroy, tmp_path: Path
) -> None:
    """Every ref is fetched from bitbucket.org with the token, tested, deployed and told of."""
    with a_cloud(leeroy, tmp_path) as (ours, theirs, forge, hosts):
        leeroy.start()
        old = ours.git("rev-parse", "main")
        main = ours.commit("On main", a="1")
        following = ours.commit("On next", branch="next", b="1")
        ours.git("tag", "-a", "-m", "the first", "v1")
        ours.git("push", "-q", "origin", "v1")
        gone = {"old": {"type": "branch", "name": "old", "target": {"hash": ZEROS}}, "new": None}
        changes = [moved("main", main, old=old), moved("next", following), gone]
        changes.append(moved("v1", following, "annotated_tag"))
        told = {"push": {"changes": changes}, "repository": OURS}
        status, answer = deliver(leeroy, "bitbucket", told, "repo:push")
        assert (202, 3) == (status, len(answer["builds"]))
        for number in answer["builds"]:
            assert "done" == leeroy.until_over(number, timeout=30), leeroy.logged(number)
        wanted = {f"production {main}", f"staging {following}", f"releases {following}"}
        assert wanted == set(leeroy.marks("deployed"))
        assert {"bitbucket.org:443"} == set(hosts)
        for context, commit in (
            ("leeroy/shop", following),
            ("leeroy/shop/production", main),
            ("leeroy/shop/staging", following),
            ("leeroy/shop/releases", following),
        ):
            until(lambda c=context: "SUCCESSFUL" in forge.states(c), 20, context)  # type: ignore[misc]
            last = [one for one in forge.statuses if one["context"] == context][-1]
            assert commit == last["sha"]

        # A branch of our own: 12 digits become the whole commit, found by its branch.
        hats = ours.commit("Hats", branch="hats", c="1")
        forge.pulls[3] = {"state": "OPEN", "sha": hats}
        told = asked_to_pull(3, hats, OURS)
        status, answer = deliver(leeroy, "bitbucket", told, "pullrequest:created")
        (number,) = answer["builds"]
        assert "done" == leeroy.until_over(number), leeroy.logged(number)
        assert hats == leeroy.build(number)["commit"]
        until(lambda: hats in [one["sha"] for one in forge.statuses], 20, "the whole commit")

        # A fork: a person says yes to the 12 digits, and it is fetched without our token.
        theirs.git("checkout", "-q", "-b", "hats")
        strange = theirs.commit("Strange hats", d="1")
        forge.pulls[4] = {"state": "OPEN", "sha": strange}
        told = asked_to_pull(4, strange, THEIRS)
        status, answer = deliver(leeroy, "bitbucket", told, "pullrequest:created")
        (number,) = answer["builds"]
        build = leeroy.build(number)
        assert ("queued", strange[:12]) == (build["state"], build["commit"])
        leeroy.ask("approve", id=number)
        assert "done" == leeroy.until_over(number), leeroy.logged(number)
        assert strange == leeroy.build(number)["commit"]
        until(lambda: strange in [one["sha"] for one in forge.statuses], 20)
        until(lambda: 2 == len(forge.comments), 20, "a comment on each pull request")
        log = (tmp_path / "web" / "access.log").read_text()
        asked = [line for line in log.splitlines() if "/mallory/" in line]
        assert asked and not any("x-token-auth" in line for line in asked)
        assert [] == forge.refused
        assert TOKEN not in leeroy.log.read_text()
        assert 3 == len(leeroy.marks("deployed"))
