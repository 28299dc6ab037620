"""What people enter in a forge's webhook settings, in that forge's own words."""

from __future__ import annotations

from dataclasses import dataclass

from leeroy import forges
from leeroy.hooks import Chosen
from leeroy.pipelines import Pipeline
from leeroy.refs import FORGES, is_path


@dataclass(frozen=True)
class Form:
    """One forge's form: where it is, its fields from top to bottom, and the events by name."""

    forge: str
    title: str
    where: str
    url: str
    events: tuple[str, ...]
    lines: tuple[tuple[str, str], ...]


_TITLES = {
    "github": ("GitHub", "Settings → Webhooks → Add webhook"),
    "gitlab": ("GitLab", "Settings → Webhooks → Add new webhook"),
    "bitbucket": ("Bitbucket", "Repository settings → Webhooks → Add webhook"),
    "gitea": ("Gitea, Forgejo, Codeberg", "Settings → Webhooks → Add webhook → Gitea or Forgejo"),
}


def forms(pipeline: Pipeline, url: str, secret: Chosen, value: str | None) -> list[Form]:
    """
    The forms for a pipeline: its forge's, or every forge's where none is known.

    A folder of this host has no forge; there a script of its own delivers.
    *value* is the secret's, where it is to be shown.
    """
    named = (pipeline.forge,) if pipeline.forge else ("gitlab",) if secret.signs else FORGES
    shown = value or f"the value of {secret.reference} (`--secret` shows it)"
    if pipeline.forge is None and not secret.signs and is_path(pipeline.repository or ""):
        return [_plain(f"{url}/hooks/github", pipeline.repository or "", shown)]
    return [_form(forge, f"{url}/hooks/{forge}", shown, signs=secret.signs) for forge in named]


def _plain(url: str, repository: str, shown: str) -> Form:
    lines = (
        ("URL", url),
        ("Repository", repository),
        ("Secret", shown),
        ("The script", 'docs/hooks.md, "A plain repository"; or none, and poll = "1m"'),
    )
    where = f"{repository}/hooks/post-receive, in GitHub's words"
    return Form("github", "A plain repository", where, url, ("push",), lines)


def _form(forge: str, url: str, shown: str, *, signs: bool) -> Form:
    title, where = _TITLES[forge]
    lines: tuple[tuple[str, str], ...]
    if forge == "github":
        lines = (
            ("Payload URL", url),
            ("Content type", "application/json"),
            ("Secret", shown),
            ("Events", "let me select: Pushes, Pull requests"),
        )
    elif forge == "gitlab":
        lines = (
            ("URL", url),
            ("Signing token" if signs else "Secret token", shown),
            ("Trigger", "Push events, Tag push events, Merge request events"),
        )
    elif forge == "bitbucket":
        lines = (
            ("URL", url),
            ("Secret", shown),
            (
                "Triggers (Cloud)",
                "Repository push; Pull request: created, updated, merged, declined",
            ),
            (
                "Events (Data Center)",
                "Repository push; Pull request: opened, source branch updated, modified, "
                "merged, declined, deleted",
            ),
        )
    else:
        lines = (
            ("Target URL", url),
            ("HTTP method", "POST"),
            ("Content type", "application/json"),
            ("Secret", shown),
            ("Trigger on", "custom events: Push, Delete, Pull request, Pull request synchronized"),
        )
    return Form(forge, title, where, url, forges.FORGES[forge].EVENTS, lines)
