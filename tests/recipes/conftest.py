"""Each target with the shop that is deployed to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.gitservers import ssh_git
from tests.recipes import clouds, heroku, index, rack
from tests.recipes.shop import Shop
from tests.recipes.target import Target
from tests.servers import Leeroy

KINDS: dict[str, Callable[[Path], Target]] = {
    "django-heroku": heroku.Heroku,
    "django-elastic-beanstalk": clouds.Beanstalks,
    "binaries-s3": clouds.Downloads,
    "package-pypi": index.Index,
}
EXAMPLES = (*KINDS, "ssh-rsync")


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    """The target of an example, named by its parameter; `django-heroku over ssh` is one more."""
    name, folder = request.param, tmp_path / "target"
    with ExitStack() as ends:
        if name == "ssh-rsync":
            made: Target = rack.Rack(folder, ends.enter_context(ssh_git(tmp_path / "sshd")))
        elif name == "django-heroku over ssh":
            made = heroku.Heroku(folder, ends.enter_context(ssh_git(tmp_path / "sshd")))
        else:
            made = KINDS[name](folder)
        ends.callback(made.close)
        ends.callback(made.release)
        yield made


@pytest.fixture
def shop(leeroy: Leeroy, target: Target) -> Shop:
    """The shipped example with its repository and target, running."""
    return Shop(leeroy, target)
