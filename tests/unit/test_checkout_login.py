"""What git is told when a server asks who it is: each host's own user, and the token."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from leeroy.runner.checkout import address, environment


def asked(folder: Path, repository: str, token: str) -> tuple[str, str]:
    """The user and the password that git gets, each asked for in git's own words."""
    where = address.parse(repository)
    private = environment.Private(str(folder / "private"))
    env = environment.make(
        where,
        environment.Credentials(where, token, None),
        private,
        known_hosts=str(folder / "known"),
        safe=(),
        environ={},
    )
    server = where.url.split("://", 1)[1].split("/", 1)[0]

    def answer(question: str) -> str:
        argv = [env["GIT_ASKPASS"], question]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    user = answer(f"Username for 'https://{server}': ")
    return user, answer(f"Password for 'https://{user}@{server}': ")


@pytest.mark.parametrize(
    ("repository", "token", "login"),
    [
        ("https://github.com/acme/shop", "t0ken", ("x-access-token", "t0ken")),
        ("https://ada@git.example.com/shop", "t0ken", ("ada", "t0ken")),
        (
            "https://git.example.com/shop",
            "ada@x.example:t0",
            ("x-access-token", "ada@x.example:t0"),
        ),
        ("https://bitbucket.org/acme/shop", "t0ken", ("x-token-auth", "t0ken")),
        (
            "https://bitbucket.org/acme/shop",
            "ada@example.com:t0:ken",
            ("x-bitbucket-api-token-auth", "t0:ken"),
        ),
        ("https://ada@bitbucket.org/acme/shop", "ada@example.com:t0", ("ada", "t0")),
        ("https://bitbucket.org/acme/shop", "t0:k@n", ("x-token-auth", "t0:k@n")),
    ],
)
def test_git_logs_in_as_each_host_wants_it(
    tmp_path: Path, repository: str, token: str, login: tuple[str, str]
) -> None:
    """A person's API token of Bitbucket is written with the address that its REST API asks for."""
    assert login == asked(tmp_path, repository, token)
