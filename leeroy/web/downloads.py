"""A build's artifacts, one file at a time: only what the list says, and only as it says."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncIterator
from urllib.parse import quote

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from leeroy import files, views
from leeroy.db import artifacts
from leeroy.db.artifacts import Artifact
from leeroy.errors import NotFound, NotPossible
from leeroy.web.access import Visitor
from leeroy.web.state import Site

log = logging.getLogger(__name__)

_PIECE = 1 << 20


class Changed(Exception):
    """The file is not what the build left: the answer is broken off before its last bytes."""


async def artifact(site: Site, request: Request, visitor: Visitor) -> Response:
    """
    One file that a build left, as a download.

    The bytes are compared with the list on their way: of a file that has
    changed, no whole answer is ever given.
    """
    build_id, path = int(request.path_params["id"]), str(request.path_params["path"])

    def find(conn: Connection) -> tuple[int, Artifact | None]:
        owner = artifacts.owner(conn, views.find(conn, build_id))
        return owner, artifacts.get(conn, owner, path)

    owner, found = await site.read(find)
    if found is None:
        raise NotFound(f"build {build_id} left no artifact {path!r}; its page lists them")
    folder = site.context.config.data / "artifacts" / str(owner)
    try:
        at = await run_in_threadpool(files.open_, folder, found.path)
    except (OSError, files.NotPlain) as exc:
        text = f"the artifact {path!r} of build {build_id} is not on this server any more"
        raise NotFound(text) from exc
    if os.fstat(at).st_size != found.size:
        os.close(at)
        raise NotPossible(f"the artifact {path!r} has changed since build {owner} left it")
    name = quote(found.path.rpartition("/")[2], safe="")
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Length": str(found.size),
    }
    kind = "application/octet-stream"
    if request.method == "HEAD":
        os.close(at)
        return Response(headers=headers, media_type=kind)
    return StreamingResponse(_pieces(at, found), headers=headers, media_type=kind)


async def _pieces(at: int, expected: Artifact) -> AsyncIterator[bytes]:
    """The file's bytes; each piece is held back until the next one, or the whole, is known."""
    digest, kept, left = hashlib.sha256(), b"", expected.size
    with os.fdopen(at, "rb") as reading:
        while left and (piece := await run_in_threadpool(reading.read, min(_PIECE, left))):
            digest.update(piece)
            left -= len(piece)
            if kept:
                yield kept
            kept = piece
    if left or digest.hexdigest() != expected.sha256:
        log.error("the artifact %s has changed since its build left it", expected.path)
        raise Changed(expected.path)
    yield kept
