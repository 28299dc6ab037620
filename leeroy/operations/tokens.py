"""Who may ask a server."""

from __future__ import annotations

import hashlib
import re
import secrets

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from leeroy import views
from leeroy.context import Context
from leeroy.db import house
from leeroy.errors import Invalid, NotFound
from leeroy.operations import common
from leeroy.operations.common import Json
from leeroy.terms import Role

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,99}")


def token_add(conn: Connection, context: Context, actor: str, *, name: str, role: str) -> Json:
    """A new token; only its hash is kept, so this is the one time it is seen."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name; use letters, digits and . _ @ -")
    if role not in {str(r) for r in Role}:
        raise Invalid(f"{role!r} is no role; it is viewer, operator or admin")
    if any(token.name == name for token in house.all_tokens(conn)):
        raise Invalid(f"there is a token {name!r} already; remove it first")
    token = secrets.token_urlsafe(32)
    try:
        house.add_token(conn, name, Role(role), token_hash(token), context.clock.now())
    except IntegrityError as exc:
        raise Invalid(f"there is a token {name!r} already; remove it first") from exc
    common.note(conn, context, actor, "token add", name, role)
    return {"name": name, "role": role, "token": token}


def token_list(conn: Connection, context: Context, actor: str) -> list[Json]:
    """The tokens' names and roles."""
    return [
        {"name": t.name, "role": str(t.role), "created_at": views.instant(t.created_at)}
        for t in house.all_tokens(conn)
    ]


def token_remove(conn: Connection, context: Context, actor: str, *, name: str) -> Json:
    """Forget a token."""
    if not house.remove_token(conn, name):
        raise NotFound(f"there is no token {name!r}; `leeroy token list` shows them")
    common.note(conn, context, actor, "token remove", name)
    return {"name": name, "message": f"token {name} is of no use any more"}


def token_hash(token: str) -> str:
    """What is stored of a token: it has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
