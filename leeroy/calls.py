"""
What can be asked of Leeroy: one table for the HTTP API, the command line and the database.

A call has a name, an address, the role it needs and its arguments.  The
command line sends it to a server or has it done on the database; the HTTP
edge reads the address.  Nothing is decided here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from leeroy.errors import Invalid
from leeroy.terms import Role

BASE: Final = "/api/v1"


@dataclass(frozen=True)
class Call:
    """
    One thing that can be asked.

    `path` is below `BASE`, with {id} and {name} filled from the arguments;
    the rest goes into the query (GET) or a JSON body.  `arguments` maps each
    to its type; `status` is the answer's when it worked.
    """

    name: str
    method: str
    path: str
    role: Role
    arguments: Mapping[str, type]
    status: int = 200

    @property
    def in_path(self) -> tuple[str, ...]:
        """The arguments that stand in the path."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))


def _call(
    name: str, method: str, path: str, role: Role, status: int = 200, /, **arguments: type
) -> Call:
    return Call(name, method, path, role, MappingProxyType(arguments), status)


_V, _O, _A = Role.viewer, Role.operator, Role.admin

CALLS: Final[Mapping[str, Call]] = MappingProxyType(
    {
        call.name: call
        for call in (
            _call("list", "GET", "/builds", _V, pipeline=str, branch=str, state=str, limit=int,
                  before=int),
            _call("show", "GET", "/builds/{id}", _V, id=int),
            _call("events", "GET", "/builds/{id}/events", _V, id=int),
            _call("notices", "GET", "/builds/{id}/notices", _V, id=int),
            _call("why", "GET", "/builds/{id}/why", _V, id=int),
            _call("artifacts", "GET", "/builds/{id}/artifacts", _V, id=int),
            _call("verdict", "GET", "/builds/{id}/verdict", _V, id=int),
            _call("replay", "GET", "/replay", _V, id=int, after=int),
            _call("environments", "GET", "/environments", _V),
            _call("pipelines", "GET", "/pipelines", _V),
            _call("trigger", "POST", "/pipelines/{name}/builds", _O, 202, name=str, branch=str,
                  commit=str, deploys=bool),
            _call("cancel", "POST", "/builds/{id}/cancel", _O, id=int, reason=str, force=bool),
            _call("hold", "POST", "/builds/{id}/hold", _O, id=int, reason=str),
            _call("approve", "POST", "/builds/{id}/approve", _O, id=int, environment=str),
            _call("confirm", "POST", "/builds/{id}/confirm", _O, id=int, seq=int),
            _call("retry", "POST", "/builds/{id}/retry", _O, 202, id=int),
            _call("deploy", "POST", "/builds/{id}/deploy", _O, 202, id=int, to=str, now=bool),
            _call("resolve", "POST", "/builds/{id}/resolve", _O, id=int, outcome=str,
                  environment=str, reason=str),
            _call("freeze", "POST", "/environments/freeze", _O, which=str, reason=str, until=str),
            _call("thaw", "POST", "/environments/thaw", _O, which=str),
            _call("token_list", "GET", "/tokens", _A),
            _call("token_add", "POST", "/tokens", _A, name=str, role=str),
            _call("token_remove", "DELETE", "/tokens/{name}", _A, name=str),
        )
    }
)  # fmt: skip


def read(call: Call, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    The arguments of a call as the operation takes them; None and what is left out are dropped.

    Texts are read as numbers and truths where the call says so.

    Raises:
        Invalid: An argument is unknown, or of the wrong type; the sentence says which.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        kind = call.arguments.get(name)
        if kind is None:
            known = ", ".join(call.arguments) or "none"
            raise Invalid(f"{name!r} is no argument of {call.name}; it takes: {known}")
        if value is None:
            continue
        found[name] = _value(name, kind, value)
    return found


def _value(name: str, kind: type, value: Any) -> Any:
    if kind is int and isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    if kind is bool and value in ("true", "1", "false", "0"):
        return value in ("true", "1")
    if kind is int and (isinstance(value, bool) or (isinstance(value, int) and value >= 2**63)):
        raise Invalid(f"{name} must be a number of a reasonable size")
    if not isinstance(value, kind):
        words = {int: "a number", str: "a text", bool: "true or false"}
        raise Invalid(f"{name} must be {words[kind]}")
    if isinstance(value, str) and ("\0" in value or len(value) > 10_000):
        raise Invalid(f"{name} is too long, or no plain text")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise Invalid(f"{name} is no valid text") from exc
    return value
