"""Where a pipeline's pushes come from, for people: deliveries, and looks at its repository."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Connection

from leeroy.db import remotes
from leeroy.db.remotes import Missed, Remote
from leeroy.pipelines import Pipeline
from leeroy.refs import address, is_path

LATE: Final = timedelta(minutes=10)
"""So long after a push was found, its delivery is not merely slow."""

_CLASSICS: Final[Mapping[str, str]] = {
    "github": (
        "under Settings → Webhooks → Recent deliveries GitHub shows every answer; any content "
        "type will do, and the secret must be the pipeline's"
    ),
    "gitlab": (
        "a GitLab of your own sends nothing to private addresses unless its administrator allows "
        "it (Admin → Settings → Network → Outbound requests); after 4 failures in a row it "
        "disables a webhook for a while, after 40 for ever: Settings → Webhooks shows it"
    ),
    "bitbucket": (
        "Repository settings → Webhooks → View requests shows every answer once history is "
        "enabled; Bitbucket Cloud sends no delivery above 256 KB"
    ),
    "gitea": (
        "Gitea and Forgejo send nothing to private addresses unless app.ini has "
        "[webhook] ALLOWED_HOST_LIST = private (or this host); the webhook's page shows each answer"
    ),
}
_PLAIN: Final = (
    'a plain repository tells nobody by itself; docs/hooks.md has a script for it ("A plain '
    'repository"), or set poll = "1m"'
)
_PUBLIC: Final = ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org")


def remote_json(remote: Remote) -> dict[str, Any]:
    """What `/api/v1/pipelines` tells of a pipeline's repository."""
    return {
        "asked_at": _instant(remote.asked_at),
        "trouble": remote.trouble,
        "delivered_at": _instant(remote.delivered_at),
        "delivered_by": remote.delivered_by,
    }


def silent(conn: Connection, pipelines: Mapping[str, Pipeline]) -> list[str]:
    """A sentence for each repository that cannot be asked, whoever shares it."""
    found: dict[tuple[str, str], list[Remote]] = {}
    for name, remote in sorted(remotes.every(conn).items()):
        pipeline = pipelines.get(name)
        if pipeline is not None and remote.trouble is not None:
            found.setdefault((pipeline.repository or "", remote.trouble), []).append(remote)
    return [
        f"the repository of {', '.join(one.pipeline for one in alike)} cannot be asked since "
        f"{_instant(min(one.failed_at for one in alike if one.failed_at))}: {trouble}"
        for (_, trouble), alike in found.items()
    ]


def examine(
    conn: Connection, pipelines: Mapping[str, Pipeline], url: str, now: datetime
) -> list[tuple[bool, str]]:
    """What `leeroy doctor` says: whether it is well, and a sentence."""
    known = remotes.every(conn)
    untold = remotes.untold(conn, now - LATE)
    found = [(False, text) for text in silent(conn, pipelines)]
    for name, pipeline in sorted(pipelines.items()):
        if pipeline.repository is None:
            continue
        remote = known.get(name) or Remote(name)
        if pipeline.secrets:
            found.append(_deliveries(pipeline, remote, untold, url, now))
        if pipeline.poll_s is not None and remote.asked_at is not None:
            text = f"{name}: its repository was asked {_ago(remote.asked_at, now)}"
            found.append((True, text))
    return found


def _deliveries(
    pipeline: Pipeline, remote: Remote, untold: Iterable[Missed], url: str, now: datetime
) -> tuple[bool, str]:
    name = pipeline.name
    where = address(pipeline.repository or "").partition("/")[0]
    forge = remote.delivered_by or pipeline.forge
    hint = _CLASSICS[forge] if forge else f"{_CLASSICS['gitlab']}; {_CLASSICS['gitea']}"
    if pipeline.forge is None and is_path(pipeline.repository or ""):
        hint = _PLAIN
    missed = next((one for one in untold if one.pipeline == name), None)
    came = "no delivery ever came"
    if remote.delivered_at is not None:
        came = f"the last delivery came {_ago(remote.delivered_at, now)} ({remote.delivered_by})"
    after = remote.delivered_at is None or (missed and missed.at > remote.delivered_at)
    if missed is not None and after and pipeline.poll_s is None:
        text = f"build {missed.build} was found by asking, and no delivery has told of it"
        return False, f"{name}: {came}; {text}: is its webhook disabled? {hint}"
    if remote.delivered_at is not None:
        return True, f"{name}: {came}"
    if pipeline.poll_s is None and where in _PUBLIC and _is_private(url):
        text = f'{where} cannot reach {url}; give it a public url, or set poll = "1m"'
        return False, f"{name}: {came}, and {text}"
    return True, f"{name}: {came}; if pushes start nothing: {hint}"


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or "." not in host


def _ago(at: datetime, now: datetime) -> str:
    seconds = max((now - at).total_seconds(), 0.0)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
