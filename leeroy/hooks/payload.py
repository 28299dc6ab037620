"""
What every forge's body goes through: bytes to an object, values that are checked.

A signed body can still be hostile or broken (a forwarded secret, a template of
somebody's own): whatever is wrong with it ends as a BadPayload, never as
another exception, and nothing that a database could refuse gets through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from leeroy.errors import Invalid

NAME_LIMIT = 1_000
"""No file system under git keeps a branch or tag with a much longer name."""
ADDRESS_LIMIT = 2_000
MESSAGE_LIMIT = 100_000
"""A longer message is cut: it is a reason for a short notice, not for no build."""
ID_LIMIT = 200
FORM = "application/x-www-form-urlencoded"

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z", re.I)
_SHORT = re.compile(r"[0-9a-f]{7,64}\Z", re.I)
_SIGNED = re.compile(r"\s*(?P<name>[^<>]*?)\s*<(?P<mail>[^<>]*)>\s*\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|[/.]\Z|(?:^|/)\.|\.lock(?:/|\Z)")
_MAIL = re.compile(r"[^\s@<>(),;:\"\[\]\\]{1,64}@[^\s@<>(),;:\"\[\]\\]{1,255}\Z")
_SKIP = re.compile(
    r"\[(?:skip ci|ci skip|no ci|skip actions|actions skip|skip leeroy|leeroy skip)\]"
    r"|\*\*\*no_ci\*\*\*|^skip-checks: *true[ \t\r]*$",
    re.I | re.M,
)

Object = Mapping[str, Any]


class BadPayload(Invalid):
    """The request is no delivery of this forge; its text says what is wrong with it."""

    code = "bad_payload"
    status = 400


def header(headers: Mapping[str, str], name: str) -> str:
    """The header's value; BadPayload when it is missing, long or not plain text."""
    value = headers.get(name.lower(), "").strip()
    if not value:
        raise BadPayload(f"the request has no {name} header, so it is no delivery")
    if len(value) > ID_LIMIT or not value.isascii() or _CONTROL.search(value):
        raise BadPayload(f"the {name} header is too long, or more than plain text")
    return value


def read(headers: Mapping[str, str], body: bytes) -> Object:
    """The object in a JSON body, or in the `payload` field of a form."""
    if headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        # Nothing is unpacked here, so nothing can burst.
        raise BadPayload("the body is compressed, which no forge does; send it as it is")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        return _object(form(body))
    if kind not in ("application/json", ""):
        raise BadPayload(
            f"the content type {kind[:100]!r} is none a webhook has; "
            "choose application/json in its settings"
        )
    try:
        return _object(body.decode())
    except UnicodeDecodeError:
        raise BadPayload("the body is not UTF-8, so it is no JSON") from None


def form(body: bytes) -> str:
    """The text of a form's one `payload` field."""
    try:
        fields = parse_qs(body.decode("ascii"), errors="strict", max_num_fields=10)
    except ValueError:
        raise BadPayload("the body is no form, though its content type says so") from None
    found = fields.get("payload", [])
    if len(found) != 1:
        raise BadPayload(
            "the form has no field named payload; a JSON body needs Content-Type: application/json"
        )
    return found[0]


def _object(text: str) -> Object:
    try:
        value = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant)
    except RecursionError:
        raise BadPayload("the JSON is nested too deeply") from None
    except json.JSONDecodeError as exc:
        raise BadPayload(f"the body is no JSON: {str(exc)[:200]}") from None
    except ValueError:
        # Python reads no number of more than 4300 digits.
        raise BadPayload("a number in the JSON is longer than any that a forge sends") from None
    if not isinstance(value, dict):
        raise BadPayload("the JSON is no object")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Two readers would disagree on which of them counts.
        raise BadPayload("an object in the JSON has the same key twice")
    return found


def _constant(word: str) -> Any:
    raise BadPayload(f"{word} is no JSON")


def part(parent: Object, key: str) -> Object:
    """The object at *key*; empty when there is none."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadPayload(f"{key} is no object")
    return value


def several(parent: Object, key: str) -> list[Object]:
    """The objects in the list at *key*; empty when there is none."""
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadPayload(f"{key} is no list of objects")
    return value


def count(parent: Object, key: str) -> int:
    """The whole number at *key*, such as a pull request's: 1 or more."""
    value = parent.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**63:
        raise BadPayload(f"{key} is no number of a pull request")
    return value


def ident(parent: Object, key: str) -> str | None:
    """What *parent* is known by at *key*, a number above 0 or a text; None when there is none."""
    value = parent.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value) if value > 0 else None
    return (text(parent, key) or "").strip().lower() or None


def flag(parent: Object, key: str) -> bool:
    """The yes or no at *key*; no when there is none."""
    value = parent.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadPayload(f"{key} is neither true nor false")
    return value


def text(parent: Object, key: str) -> str | None:
    """The text at *key*, which every database can store; None when there is none."""
    value = parent.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadPayload(f"{key} is no text")
    if "\x00" in value:
        raise BadPayload(f"{key} has a NUL character inside")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadPayload(f"{key} has half a character inside") from None
    return value


def words(parent: Object, key: str, limit: int) -> str | None:
    """Text for people, cut to *limit* characters; None when there is none."""
    value = text(parent, key)
    return value[:limit] if value and value.strip() else None


def mail(parent: Object, key: str) -> str | None:
    """A mail address; None when there is none, or something else stands there (`[REDACTED]`)."""
    value = text(parent, key)
    return value if value is not None and _MAIL.match(value) else None


def person(parent: Object, key: str) -> tuple[str | None, str | None]:
    """Name and mail address in a text such as `Ada <ada@example.com>`."""
    value = words(parent, key, 500)
    found = _SIGNED.match(value) if value else None
    if found is None:
        return value, None
    return found["name"] or None, found["mail"] if _MAIL.match(found["mail"]) else None


def url(parent: Object, key: str) -> str | None:
    """A repository's address; None when there is none."""
    value = text(parent, key)
    if value is not None and (len(value) > ADDRESS_LIMIT or _CONTROL.search(value)):
        raise BadPayload(f"{key} is too long for an address, or more than plain text")
    return value or None


def name(value: str, key: str) -> str:
    """The name of a branch or tag, as git allows them."""
    if not value or len(value) > NAME_LIMIT or _NO_REF.search(value):
        raise BadPayload(f"{key} is no name that git gives to a branch or tag")
    return value


def commit(value: str | None, key: str) -> str:
    """A commit's whole name, 40 or 64 digits in lower case."""
    if value is None or not _COMMIT.match(value):
        raise BadPayload(f"{key} is no commit; one has 40 or 64 hexadecimal digits")
    return value.lower()


def short(value: str | None, key: str) -> str:
    """At least the first 7 digits of a commit's name, in lower case."""
    if value is None or not _SHORT.match(value):
        raise BadPayload(f"{key} is no commit; one has 7 to 64 hexadecimal digits")
    return value.lower()


def nothing(value: str | None) -> bool:
    """Whether the commit is all zeros, which is how forges write `there is none`."""
    return value is not None and len(value) >= 40 and not value.strip("0")


def skip(message: str | None) -> str | None:
    """What in a commit's message asks for no build, as it is written there; else None."""
    found = _SKIP.search(message or "")
    return found[0].strip() if found else None
