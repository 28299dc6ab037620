"""The targets by the names of their examples; each is loaded with what it needs when asked for."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.gitservers import ssh_git
from tests.parts import missing
from tests.recipes.target import Target

EXAMPLES = (
    "django-heroku",
    "django-elastic-beanstalk",
    "binaries-s3",
    "package-pypi",
    "ssh-rsync",
)
OVER_SSH = "django-heroku over ssh"
"""One more target of that example: its remote is reached the other way."""


def make(name: str, folder: Path, sshd: Path, ends: ExitStack) -> Target:
    """The target of an example in *folder*; what it starts is closed by *ends*."""
    try:
        return _make(name, folder, sshd, ends)
    except ModuleNotFoundError as exc:
        missing(f"{exc.name}, which is in requirements/recipes.txt (`make recipes` installs it),")


def _make(name: str, folder: Path, sshd: Path, ends: ExitStack) -> Target:
    if name == "ssh-rsync":
        from tests.recipes.rack import Rack

        return Rack(folder, ends.enter_context(ssh_git(sshd)))
    if name in ("django-heroku", OVER_SSH):
        from tests.recipes.heroku import Heroku

        over = ends.enter_context(ssh_git(sshd)) if name == OVER_SSH else None
        return Heroku(folder, over)
    if name == "package-pypi":
        from tests.recipes.index import Index

        return Index(folder)
    from tests.recipes import clouds

    kinds = {kind.example: kind for kind in (clouds.Beanstalks, clouds.Downloads)}
    return kinds[name](folder)
