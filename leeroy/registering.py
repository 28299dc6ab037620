"""`leeroy hook add`: the webhook made on the forge itself, or brought up to date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from leeroy.config import Config, Secrets
from leeroy.errors import Invalid, LeeroyError
from leeroy.forges import FORGES, place
from leeroy.forges.talk import converse
from leeroy.forges.values import Hook, Registered
from leeroy.forges.wire import Wire
from leeroy.hooks import Chosen, chosen
from leeroy.notify.compose import is_loopback
from leeroy.pipelines import Pipeline


@dataclass(frozen=True)
class Added:
    """
    A webhook that is there now.

    On which forge, for which repository, where it delivers to, and with which secret.
    """

    forge: str
    repository: str
    url: str
    hook: Registered
    secret: Chosen


def add(pipeline: Pipeline, config: Config, secrets: Secrets, now: Callable[[], datetime]) -> Added:
    """
    Make the webhook of *pipeline* on its forge; one with the same address is brought up to date.

    Raises:
        LeeroyError: It cannot be asked for, or the forge refuses; the text says what to do.
    """
    file = f"pipelines/{pipeline.name}.toml"
    if not pipeline.secrets:
        raise Invalid(f'{file} has no secret, so no hook is accepted; write secret = "env:NAME"')
    if pipeline.token is None:
        raise Invalid(
            f"{file} has no token, so the forge cannot be asked; set token, or enter the webhook "
            f"by hand: `leeroy hook show {pipeline.name}`"
        )
    where = place.find(pipeline.repository, pipeline.api, pipeline.forge)
    if where is None:
        raise Invalid(
            f"which forge {pipeline.repository or 'no repository'} is on is not known; "
            'say forge = "github", "gitlab", "bitbucket" or "gitea" in the pipeline'
        )
    if is_loopback(config.url) and not is_loopback(where.api):
        raise Invalid(
            f"{where.who} cannot reach {config.url}; set url in leeroy.toml to the address at "
            "which this server is reached from outside"
        )
    door = "bitbucket" if where.forge == "datacenter" else where.forge
    url = f"{config.url.rstrip('/')}/hooks/{door}"
    forge, token = FORGES[where.forge], secrets.get(pipeline.token).strip()
    secret = chosen(pipeline.secrets, where.forge, secrets.get)
    hook = Hook(url=url, secret=secrets.get(secret.reference))
    try:
        made = converse(forge.register(where, hook), Wire(forge.headers(token), now))
    except LeeroyError as exc:
        text = str(exc)
        for hidden in (token, hook.secret):
            text = text.replace(hidden, "***")
        exc.args = (text,)
        raise
    return Added(place.LABELS[where.forge], where.path, url, made, secret)
