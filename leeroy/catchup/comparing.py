"""
What a repository's answer means for a pipeline, against what was seen before it was asked.

Everything is decided in one transaction per pipeline, ref by ref with its tip
locked; a ref whose tip changed while the repository was asked is left for the
next look.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from leeroy.catchup.asking import Asks, NoAnswer, Wanted
from leeroy.context import Context
from leeroy.db import remotes
from leeroy.db.engine import Database
from leeroy.db.remotes import Remote, Tip
from leeroy.operations import arriving
from leeroy.operations.arriving import Head
from leeroy.pipelines import Pipeline
from leeroy.refs import address

log = logging.getLogger(__name__)

MOST_AT_ONCE = 100
"""So many new heads are looked into by one question; the others by the next, at once."""


@dataclass(frozen=True)
class Seen:
    """What was known of a pipeline's repository before it was asked."""

    remote: Remote
    tips: Mapping[str, Tip]

    def first(self, pipeline: Pipeline) -> bool:
        """Whether nothing was seen of this repository before."""
        known = self.remote.repository
        return (
            self.remote.first_at is None
            or known is None
            or pipeline.repository is None
            or address(known) != address(pipeline.repository)
        )


@dataclass(frozen=True)
class Change:
    """What differs: heads that moved and are tested, that moved and are not, and that are gone."""

    moved: Mapping[str, str]
    aside: Mapping[str, str]
    gone: Sequence[str]


@dataclass(frozen=True)
class Settled:
    """The builds made, with their refs; `left`: some tip changed while the repository was asked."""

    made: Sequence[tuple[str, int]]
    left: bool


def look(database: Database, context: Context, asks: Asks, pipelines: Sequence[Pipeline]) -> bool:
    """
    Ask the one repository of *pipelines*, and build what no delivery told of.

    Returns:
        Whether something was left for another look, at once.

    Raises:
        NoAnswer: The repository could not be asked; it is written down.
    """
    names = [pipeline.name for pipeline in pipelines]
    seen = database.read(partial(_seen, names=names))
    if any(one.remote.doubted for one in seen.values()):
        # before it is asked: who doubts later asks for another look
        database.transact(partial(_believe, names=names))
    try:
        return _compare(database, context, asks, pipelines, seen)
    except NoAnswer as exc:
        text = str(exc)
        fresh = all(one.remote.trouble is None for one in seen.values())
        database.transact(partial(_failed, context=context, names=names, trouble=text))
        if fresh:
            log.warning("%s: the repository cannot be asked: %s", ", ".join(names), text)
        raise


def _compare(
    database: Database,
    context: Context,
    asks: Asks,
    pipelines: Sequence[Pipeline],
    seen: Mapping[str, Seen],
) -> bool:
    refs = asks.refs(pipelines[0])
    differing: list[tuple[Pipeline, Change]] = []
    for pipeline in pipelines:
        before = seen[pipeline.name]
        if before.first(pipeline):
            work = partial(_first, context=context, pipeline=pipeline, refs=refs, seen=before)
            database.transact(work)
        else:
            change = differences(pipeline, before.tips, refs)
            if change.moved or change.aside or change.gone:
                differing.append((pipeline, change))
    wanted = _wanted(differing, seen)
    shown = asks.heads(pipelines[0], wanted[:MOST_AT_ONCE]) if wanted else {}
    left = len(wanted) > len(shown)
    for pipeline, change in differing:
        settled = database.transact(
            partial(
                _settle,
                context=context,
                pipeline=pipeline,
                change=change,
                tips=seen[pipeline.name].tips,
                shown=shown,
            )
        )
        left |= settled.left
        for ref, number in settled.made:
            log.info("build %d: no delivery told of %s of %s", number, ref, pipeline.name)
    names = [pipeline.name for pipeline in pipelines]
    database.transact(partial(_answered, context=context, names=names))
    return left


def _tip(tips: Mapping[str, Tip], ref: str) -> Tip:
    return tips.get(ref) or Tip(ref)


def _seen(conn: Connection, names: Iterable[str]) -> dict[str, Seen]:
    known = remotes.every(conn)
    return {
        name: Seen(known.get(name, Remote(name)), remotes.tips_of(conn, name)) for name in names
    }


def differences(pipeline: Pipeline, tips: Mapping[str, Tip], refs: Mapping[str, str]) -> Change:
    """
    What differs between the tips that were seen and the refs that are there.

    Raises:
        NoAnswer: No branch is there any more at all.  Sooner than that
            somebody deleted them all, the server is not well.
    """
    moved: dict[str, str] = {}
    aside: dict[str, str] = {}
    for ref, commit in refs.items():
        if _tip(tips, ref).commit != commit:
            branch, tag = arriving.parts(ref)
            wanted = arriving.tests(pipeline, branch, tag)
            (moved if wanted else aside)[ref] = commit
    gone = [ref for ref, tip in tips.items() if tip.commit is not None and ref not in refs]
    if gone and not any(ref.startswith("refs/heads/") for ref in refs):
        raise NoAnswer(
            f"{pipeline.repository} shows no branch any more; if they are deleted on purpose, "
            "remove the pipeline; until then nothing is concluded from it"
        )
    return Change(moved, aside, gone)


def _wanted(differing: Sequence[tuple[Pipeline, Change]], seen: Mapping[str, Seen]) -> list[Wanted]:
    before: dict[tuple[str, str], list[str]] = {}
    for pipeline, change in differing:
        for ref, commit in change.moved.items():
            known = _tip(seen[pipeline.name].tips, ref).commit
            before.setdefault((ref, commit), []).extend([known] if known else [])
    return [
        Wanted(ref, commit, tuple(dict.fromkeys(known)))
        for (ref, commit), known in sorted(before.items())
    ]


def _first(
    conn: Connection,
    context: Context,
    pipeline: Pipeline,
    refs: Mapping[str, str],
    seen: Seen,
) -> None:
    now = context.clock.now()
    if seen.remote.repository is not None:
        remotes.forget(conn, pipeline.name)  # it was another repository
    remotes.first_sight(conn, pipeline.name, refs, now)
    remotes.change(conn, pipeline.name, repository=pipeline.repository, first_at=now)


def _settle(
    conn: Connection,
    context: Context,
    pipeline: Pipeline,
    change: Change,
    tips: Mapping[str, Tip],
    shown: Mapping[str, Head],
) -> Settled:
    """Write down what differs and build it, in the order of the commits' times."""
    now = context.clock.now()
    heads = [shown[ref] for ref in change.moved if ref in shown]
    made: list[tuple[str, int]] = []
    left = False

    def unchanged(ref: str) -> bool:
        """Lock a tip; False when it changed meanwhile, and the answer may be the older news."""
        nonlocal left
        same = remotes.locked(conn, pipeline.name, ref, now).version == _tip(tips, ref).version
        left |= not same
        return same

    for ref in filter(unchanged, sorted(change.gone)):
        arriving.note_gone(conn, context, pipeline, ref, actor=f"poll@{context.host_name}")
    for ref in filter(unchanged, sorted(change.aside)):
        remotes.see(conn, pipeline.name, ref, change.aside[ref], None, now)
    for head in sorted(heads, key=lambda one: (one.at, one.ref)):
        if not unchanged(head.ref):
            continue
        if head.commit is None:  # a tag of something that is no commit
            remotes.see(conn, pipeline.name, head.ref, change.moved[head.ref], None, now)
            continue
        number = arriving.catch_up(conn, context, pipeline, head)
        if number is not None:
            made.append((head.ref, number))
    return Settled(made, left)


def _believe(conn: Connection, names: Iterable[str]) -> None:
    for name in names:
        remotes.change(conn, name, doubted=False)


def _answered(conn: Connection, context: Context, names: Iterable[str]) -> None:
    for name in names:
        remotes.change(
            conn,
            name,
            asked_at=context.clock.now(),
            failed_at=None,
            failures=0,
            trouble=None,
        )


def _failed(conn: Connection, context: Context, names: Iterable[str], trouble: str) -> None:
    known = remotes.every(conn)
    for name in names:
        before = known.get(name, Remote(name))
        remotes.change(
            conn,
            name,
            failed_at=before.failed_at or context.clock.now(),
            failures=before.failures + 1,
            trouble=trouble,
        )
