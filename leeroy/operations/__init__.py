"""
What people ask for: trigger, cancel, hold, approve, retry, deploy, resolve, freeze, thaw.

Each is a function of an open connection and the process's context; the caller
owns the transaction, and nobody is answered before its commit.  `DO` names
them as `leeroy.calls` does.

    receiving   what a forge's delivery starts and stops
    arriving    where branches and tags are: told by a delivery, or found by asking
    beginning   a person's wish, once more, an older build put back
    stopping    cancel, hold, approve; what a stop link does
    resolving   how an interrupted deploy ended
    freezing    freeze and thaw
    looking     what is only looked at
    tokens      who may ask a server
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from leeroy.operations import beginning, freezing, looking, resolving, stopping, tokens

Operation = Callable[..., Any]

DO: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "list": looking.list_,
        "show": looking.show,
        "events": looking.events,
        "notices": looking.notices,
        "why": looking.why,
        "artifacts": looking.artifacts_,
        "verdict": looking.verdict,
        "replay": looking.replay_,
        "environments": looking.environments,
        "pipelines": looking.pipelines,
        "trigger": beginning.trigger,
        "cancel": stopping.cancel,
        "hold": stopping.hold,
        "approve": stopping.approve,
        "confirm": stopping.confirm,
        "retry": beginning.retry,
        "deploy": beginning.deploy,
        "resolve": resolving.resolve,
        "freeze": freezing.freeze,
        "thaw": freezing.thaw,
        "token_list": tokens.token_list,
        "token_add": tokens.token_add,
        "token_remove": tokens.token_remove,
    }
)
"""The operations by the names of `leeroy.calls.CALLS`."""
