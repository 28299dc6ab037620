"""
A conversation with a forge, without a socket: requests are yielded, answers are sent in.

    def status(place, report) -> Talk[None]:
        yield from ask(place.request("POST", "/statuses/…", {...}, what="…"))

`converse` drives one with whatever carries requests (`wire.Wire`, or a test's
list).  What a forge refuses becomes an error of `leeroy.errors`:

    Later         nothing is known to be wrong, so try again: no answer, 408, 429, 5xx, a rate
                  limit, a 2xx that is no answer of a forge (the page of a login)
    DeadToken     401: the forge does not know the token (any more)
    NotAllowed    403: the token may not do this
    NotFound      404, 410: no such repository, or not for this token
    Invalid       whatever else it refuses: trying again would change nothing
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias, TypeVar

from leeroy.errors import Invalid, LeeroyError, NotAllowed, NotFound, Unavailable

T = TypeVar("T")

LONGEST_PAUSE_S = 6 * 3600.0
"""No forge asks for more; a clock that is wrong could."""
_SAID_LIMIT = 300
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class Request:
    """
    One request to a forge's API, without the token.

    `who` names the forge, `what` says for people what is asked, `needs` which
    right of the token it takes.
    """

    method: str
    url: str
    body: Mapping[str, Any] | None = None
    who: str
    what: str
    needs: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, and when by the wall clock; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: datetime

    def json(self) -> Any:
        """The body's value; None when it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def said(self) -> str:
        """The forge's own words about an error, on one line; empty when there are none."""
        value = self.json()
        found = list(_sentences(value)) if isinstance(value, dict) else []
        text = _BLANKS.sub(" ", "; ".join(dict.fromkeys(found))).strip()
        return "".join(filter(str.isprintable, text))[:_SAID_LIMIT]


Talk: TypeAlias = Generator[Request, Answer, T]


class Later(Unavailable):
    """The forge gives no answer now; `after` is when it wants to be asked again, if it says so."""

    code = "forge_unavailable"

    def __init__(self, sentence: str, after: datetime | None = None) -> None:
        super().__init__(sentence)
        self.after = after


class DeadToken(NotAllowed):
    """The forge does not know the token, or knows that it has expired."""

    code = "dead_token"
    status = 401


def converse(talk: Talk[T], carry: Callable[[Request], Answer]) -> T:
    """The outcome of *talk*, each of whose requests *carry* answers."""
    try:
        request = next(talk)
        while True:
            request = talk.send(carry(request))
    except StopIteration as end:
        outcome: T = end.value
        return outcome


def ask(request: Request, *also: int) -> Talk[Answer]:
    """
    The answer to *request*, when it is a 2xx or one of *also*.

    Raises:
        LeeroyError: One of the module's list, for every other answer.
    """
    answer = yield request
    if 200 <= answer.status < 300:
        if answer.body.strip() not in (b"", b"null") and answer.json() is None:
            raise _strange(request, answer)
        return answer
    if answer.status in also:
        return answer
    raise refusal(request, answer)


def made(request: Request, key: str = "id") -> Talk[str]:
    """
    What stands at *key* of the object that *request* made or changed.

    Raises:
        LeeroyError: As `ask`; Later also where the answer has no such object,
            for then no forge gave it, and nothing was made.
    """
    return named(request, (yield from ask(request)), key)


def named(request: Request, answer: Answer, key: str = "id") -> str:
    """What stands at *key* of the object in the *answer*; raises Later where there is none."""
    value = answer.json()
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, (str, int)) or found == "":
        raise _strange(request, answer)
    return str(found)


def _strange(request: Request, answer: Answer) -> Later:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()[:60]
    return Later(
        f"{request.who} answers {answer.status} to {request.what}, but what it says"
        f"{f' ({kind})' if kind.isprintable() and kind else ''} is no answer of that API; does "
        "the address lead to a proxy's or a login's page? Look at api in the pipeline"
    )


def refusal(request: Request, answer: Answer) -> LeeroyError:
    """What an answer that is no success means."""
    said = answer.said()
    words = f"{answer.status}{f' ({said})' if said else ''}"
    sentence = f"{request.who} answers {words} to {request.what}"
    status = answer.status
    if status in (408, 429) or status >= 500 or (status == 403 and _limited(answer)):
        return Later(sentence, retry_at(answer))
    if status == 401:
        remedy = (
            f"; it takes a token that is known and has {request.needs}" if request.needs else ""
        )
        return DeadToken(f"{sentence}{remedy}")
    if status == 403:
        remedy = f"; the token needs {request.needs}" if request.needs else ""
        return NotAllowed(f"{sentence}{remedy}")
    if status in (404, 410):
        remedy = f", or it lacks {request.needs}" if request.needs else ""
        return NotFound(f"{sentence}; the token does not see it{remedy}")
    return Invalid(sentence)


def retry_at(answer: Answer) -> datetime | None:
    """When a forge that had enough wants to be asked again; None when it does not say."""
    headers = answer.headers
    wish = headers.get("retry-after", "").strip()
    seconds: float | None = None
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", wish):
        seconds = float(wish)
    elif wish:
        try:
            then = parsedate_to_datetime(wish)
        except ValueError:
            then = None
        if then is not None:
            then = then if then.tzinfo else then.replace(tzinfo=UTC)
            seconds = (then - answer.at).total_seconds()
    if seconds is None and _used_up(headers):
        reset = headers.get("x-ratelimit-reset") or headers.get("ratelimit-reset") or ""
        if re.fullmatch(r"[0-9]{1,12}", reset.strip()):
            seconds = float(reset) - answer.at.timestamp()
    if seconds is None:
        return None
    return answer.at + timedelta(seconds=math.ceil(min(max(seconds, 1.0), LONGEST_PAUSE_S)))


def _limited(answer: Answer) -> bool:
    """Whether a 403 is GitHub's way to say `too fast` (its docs name these three signs)."""
    if "retry-after" in answer.headers or _used_up(answer.headers):
        return True
    return "rate limit" in answer.said().lower()


def _used_up(headers: Mapping[str, str]) -> bool:
    left = headers.get("x-ratelimit-remaining") or headers.get("ratelimit-remaining") or ""
    return left.strip() == "0"


def _sentences(value: Mapping[str, Any]) -> Generator[str, None, None]:
    """The sentences in the shapes in which the forges write their errors."""
    for key in ("message", "error", "error_description"):
        yield from _texts(value.get(key))
    errors = value.get("errors")
    for one in errors if isinstance(errors, list) else [errors]:
        if isinstance(one, dict):
            yield from _texts(one.get("message") or one.get("code"))
        else:
            yield from _texts(one)


def _texts(value: Any) -> Generator[str, None, None]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            for text in _texts(one):
                yield text if key in ("message", "detail") else f"{key}: {text}"
