# ruff: noqa: PTH117, PTH123
# importing pathlib would take 3 ms of every checkout
"""What a request asks for, checked before git hears of any of it."""

from __future__ import annotations

import json
import os

from . import address
from .address import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Wish:
    """
    A checked request.

    Raises:
        Refused: It cannot be what anybody wants; the text says which part.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        text = {
            key: value
            for key, value in request.items()
            if isinstance(value, str) and (value or key == "repository")
        }
        if "repository" not in text:
            raise Refused("the request names no repository, so there is nothing to check out")
        self.address = address.parse(text["repository"])
        self.branch = text.get("branch")
        self.tag = text.get("tag")
        self.commit = address.sha(text["commit"]) if "commit" in text else None
        self.ref: str | None = None
        if "pull_request_ref" in text:
            self.ref = address.pull_request_ref(text["pull_request_ref"])
        elif self.tag is not None:
            self.ref = address.ref("tags", self.tag)
        elif self.branch is not None:
            self.ref = address.ref("heads", self.branch)
        self.workspace = _path(text, "workspace")
        self.mirror = _path(text, "mirror")
        self.token = text.get("token")
        self.ssh_key = text.get("ssh_key")
        self.from_mirror = request.get("from_mirror") is True
        self.heads = [_head(*one) for one in request.get("heads") or ()]
        deadline = request.get("deadline_s")
        self.deadline_s = float(deadline) if isinstance(deadline, int | float) else None

    @property
    def whole(self) -> bool:
        """Whether the commit is given with all its digits."""
        return self.commit is not None and len(self.commit) in (40, 64)

    @property
    def what(self) -> str:
        """What is wanted, in words."""
        if self.commit is not None:
            return f"commit {self.commit[:12]}"
        if self.ref is None:
            return "the newest commit of the default branch"
        for start, word in (("refs/heads/", "branch "), ("refs/tags/", "tag ")):
            if self.ref.startswith(start):
                return word + self.ref.removeprefix(start)
        return self.ref


def read(path: str) -> Wish:
    """The request in the file at *path*."""
    try:
        with open(path, encoding="utf-8") as file:
            request = json.load(file)
    except (OSError, ValueError) as exc:
        # not the text: it holds credentials
        reason = exc.strerror if isinstance(exc, OSError) else "it is not JSON"
        raise Refused(f"the request {path} cannot be read: {reason}") from None
    if not isinstance(request, dict):
        raise Refused(f"the request {path} is no JSON object")
    return Wish(request)


def _head(ref: str, commit: str, before: list[str]) -> tuple[str, str, list[str]]:
    """A full ref, its commit and the ones it was seen at before; else Refused."""
    if not address.is_ref(ref) or not ref.startswith(("refs/heads/", "refs/tags/")):
        raise Refused(f"{ref!r} is no branch and no tag")
    return ref, address.sha(commit), [address.sha(one) for one in before]


def _path(text: dict[str, str], key: str) -> str:
    path = text.get(key, "")
    if not os.path.isabs(path) or os.path.normpath(path) == "/" or "\n" in path:
        raise Refused(f"the request's {key} is {path!r}; it must be an absolute path of its own")
    return os.path.normpath(path)
