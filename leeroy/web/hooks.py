"""
Deliveries from forges: verified on the raw body, then understood, then stored.

202 only after the commit; what cannot be stored is answered 503, so that the
forge sends it again, and never 4xx for a fault of ours.
"""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from leeroy.errors import ConfigError, LeeroyError, NotFound, Unavailable
from leeroy.hooks import FORGES, admits, meant
from leeroy.operations import receiving
from leeroy.pipelines import Pipeline
from leeroy.web.access import Unknown, Visitor
from leeroy.web.state import Site

LARGEST = 25 << 20


class TooLarge(LeeroyError):
    """The body is larger than any forge's."""

    code = "too_large"
    status = 413


async def deliver(site: Site, request: Request, visitor: Visitor) -> Response:
    """Take one delivery."""
    name = request.path_params["forge"]
    forge = FORGES.get(name)
    if forge is None:
        raise NotFound(f"there is no forge {name!r}; there are: {', '.join(FORGES)}")
    body = await _body(request)
    headers = {key.lower(): value for key, value in request.headers.items()}
    now = site.context.clock.now()
    signed: list[Pipeline] = []
    elsewhere: list[Pipeline] = []
    for pipeline in site.pipelines().values():
        secrets = _secrets(site, pipeline)
        if forge.verify(secrets, headers, body, now):
            here = admits(name, pipeline.forge, secrets)
            (signed if here else elsewhere).append(pipeline)
    if not signed and elsewhere:
        door = elsewhere[0].forge or "gitlab"
        raise Unknown(
            f"the pipelines with this secret take no deliveries at /hooks/{name}; deliver them to "
            f'/hooks/{door}, or set forge = "{name}" in the pipeline'
        )
    if not signed:
        raise Unknown(
            "no pipeline's secret made this signature; is the secret in the webhook's settings "
            "the one that the pipeline's file names?"
        )
    delivery = forge.parse(headers, body)
    chosen = [pipeline for pipeline in signed if meant(delivery, pipeline.repository)]
    if not chosen and delivery.ignored is None:
        where = next(iter(delivery.addresses))
        text = f"no pipeline with this secret is for the repository {where}"
        return JSONResponse({"builds": [], "reason": text})
    work = partial(receiving.receive, context=site.context, delivery=delivery, pipelines=chosen)
    try:
        made, reason = await site.ask(work)
    except Unavailable:
        site.missed()  # not every forge sends it again
        raise
    for pipeline in chosen:
        site.delivered(pipeline.name, delivery.forge)
    if reason is not None:
        return JSONResponse({"builds": made, "reason": reason})
    return JSONResponse({"builds": made}, status_code=202)


def _secrets(site: Site, pipeline: Pipeline) -> tuple[str, ...]:
    """A pipeline's webhook secrets that can be had; one that cannot verifies nothing."""
    found = []
    for reference in pipeline.secrets:
        try:
            found.append(site.context.secrets.get(reference))
        except ConfigError:
            continue
    return tuple(found)


async def _body(request: Request) -> bytes:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > LARGEST:
        raise TooLarge("the body is larger than 25 MiB")
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            raise TooLarge("the body is larger than 25 MiB")
        parts.append(part)
    return b"".join(parts)
