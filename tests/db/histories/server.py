"""The server whose processes are played: transactions, and the crash of one."""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
)
from sqlalchemy import Connection

from leeroy import config, context, operations, shelf
from leeroy.clock import Clock
from leeroy.db import schema
from leeroy.db.engine import Database
from leeroy.db.picture import Picture, look
from leeroy.errors import LeeroyError, Unavailable
from leeroy.model import Build, Event, Step
from leeroy.proof.history import Answer, History, Mark, Taken
from leeroy.scheduler import recovering
from leeroy.scheduler.acts import (
    Act,
    DropWatch,
    Launch,
    StartTrying,
    StartWatch,
    Stop,
    TryKey,
    WatchKey,
)
from leeroy.terms import Stage, State, StepState
from tests.db.histories.shelves import SETTINGS, TEXTS
from tests.db.story import START

GRACE_S = 30.0
ANY = st.integers(0, 10**6)
CRASH = st.sampled_from([None, None, None, None, None, "before", "after"])
"""Before the commit (nothing happened), or after it (nobody acts on it, or hears the answer)."""


class Crash(Exception):
    """The process dies."""


@cache
def template() -> Path:
    """A SQLite file with the schema, made once."""
    folder = Path(tempfile.mkdtemp(prefix="leeroy-template-"))
    schema.ensure(f"sqlite:///{folder}/leeroy.db", migrate=True)
    return folder / "leeroy.db"


def sqlite(folder: Path) -> str:
    """The address of an empty database in *folder*."""
    shutil.copy(template(), folder / "leeroy.db")
    return f"sqlite:///{folder}/leeroy.db"


class Server(RuleBasedStateMachine):
    """
    A server without processes: real rows, real decisions; clocks and scripts of our own.

    The rows alone say which scripts run; `launched` are those that the server
    also started, so only they can have an end.  The invariants are checked
    after every rule, what one transaction may do after every transaction.
    """

    def __init__(self, address: Callable[[Path], str] = sqlite) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="leeroy-random-"))
        self.database = Database(address(self.folder))
        (self.folder / "leeroy.toml").write_text(SETTINGS)
        loaded = config.load(str(self.folder / "leeroy.toml"), {})
        loaded.data.mkdir()
        self.mono, self.wall = 0.0, START
        clock = Clock(self.now, lambda: self.mono)
        self.context = context.make(loaded, clock, {}, new=True)
        # the server's memory
        self.number = 0
        self.name, self.away_s, self.born = "server 0", 0.0, 0.0
        self.watches: dict[WatchKey, float] = {}
        self.tries: dict[TryKey, float] = {}
        self.cleared: set[str] = set()
        self.room: str | None = None
        # what the world knows
        self.launched: dict[str, float] = {}
        self.alive: dict[str, Step] = {}
        """What lives on of lost deploys, each under the name of its own run."""
        self.stopping: set[str] = set()
        self.deliveries = itertools.count(1)
        # what was seen, and what scripts and callers know themselves
        self.marks: list[Mark] = []
        self.answers: list[Answer] = []
        self.taken: list[Taken] = []
        self.moments: dict[tuple[int, int], tuple[Event, datetime]] = {}
        self.transactions = 0
        self.cancelled: dict[int, int] = {}
        self.announced: dict[tuple[int, str], float] = {}
        self.heard: dict[tuple[int, str], float] = {}
        self.starts: dict[tuple[str, str], int] = {}
        self.executed: Counter[tuple[int, str]] = Counter()
        self.picture: Picture = self.database.read(look)
        found = [shelf.File(name, text, None) for name, text in TEXTS.items()]
        self.do(partial(shelf.sync, context=self.context, found=found))
        self.do(partial(recovering.arrive, context=self.context, boot_id="boot"))

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.everything_ends()
        finally:
            self.database.close()
            shutil.rmtree(self.folder)

    # --- transactions

    def now(self) -> Any:
        return self.wall

    def do(self, work: Callable[[Connection], Any]) -> Any:
        """In a transaction; what it did is looked at, also when it raised."""
        try:
            return self.database.transact(work)
        finally:
            before, self.picture = self.picture, self.database.read(look)
            self.note_moment()
            self.one_transaction(before, self.picture)

    def dies(self, work: Callable[[Connection], Any]) -> None:
        """The work is done, then its process dies before the commit: nothing happened."""

        def dying(conn: Connection) -> None:
            work(conn)
            raise Crash

        with pytest.raises((Crash, LeeroyError)) as caught:
            self.database.transact(dying)
        assert not isinstance(caught.value, Unavailable), caught.value
        assert self.picture == self.database.read(look), "a trace of what was never committed"

    def decide(self, work: Callable[[Connection], list[Act]], crash: str | None = None) -> None:
        """What the loop does: decide, commit, act."""
        if crash == "before":
            self.dies(work)
            return
        acts = self.do(work)
        if crash == "after":
            self.start_again(1.0)
            return
        for act in acts:
            self.act(act)

    def act(self, act: Act) -> None:
        if isinstance(act, Launch):
            step = next(s for s in self.running() if s.id == act.step.id)
            assert step.run_id is not None and step.run_id == act.step.run_id
            assert step.run_id not in self.launched, "a run is started once"
            assert step.build_id not in self.cancelled or step.stage is not Stage.deploy
            if step.stage in (Stage.deploy, Stage.status):
                assert [] == self.beside(step), "what was lost lives on beside it"
            self.launched[step.run_id] = self.mono
        elif isinstance(act, Stop):
            self.stopping.add(act.run_id)
        elif isinstance(act, StartWatch):
            self.watches[act.key] = self.mono
        elif isinstance(act, StartTrying):
            self.tries[act.key] = self.mono
        elif isinstance(act, DropWatch):
            self.watches = {k: at for k, at in self.watches.items() if k[0] != act.build_id}

    def ask(self, what: str, crash: str | None = None, **arguments: Any) -> Any:
        """What a person asks; None where it was not possible, or nobody heard the answer."""
        work = partial(operations.DO[what], context=self.context, actor="ada", **arguments)
        if crash == "before":
            self.dies(work)
            return None
        try:
            answer = self.do(work)
        except Unavailable:
            raise
        except LeeroyError:
            return None
        return None if crash == "after" else answer

    # --- what is judged

    def note_moment(self) -> None:
        """The events of one transaction have one moment, later than those before it."""
        self.transactions += 1
        at = START + timedelta(microseconds=self.transactions)
        for number, events in self.picture.events.items():
            for event in events:
                self.moments.setdefault((number, event.seq), (event, at))

    def history(self, *, settled: bool = False) -> History:
        """All that is known now; times of rows order nothing, for the clock is set."""
        return History(
            rows=self.picture,
            house=self.context.house,
            marks=self.marks,
            answers=self.answers,
            taken=self.taken,
            seen={key: event for key, (event, _) in self.moments.items()},
            settled=settled,
        )

    def in_order(self) -> History:
        """The same with every event at the moment of its transaction."""
        events = {
            number: [replace(e, at=self.moments[number, e.seq][1]) for e in found]
            for number, found in self.picture.events.items()
        }
        rows = replace(self.picture, events=events)
        return replace(self.history(), rows=rows, wall_s=START.timestamp())

    def beside(self, step: Step) -> list[str]:
        """The runs of lost deploys that live on where this step's environment is."""
        lock = self.lock_of(step)
        return [run for run, lost in self.alive.items() if self.lock_of(lost) == lock]

    def lock_of(self, step: Step) -> str:
        build = self.picture.builds[step.build_id]
        return self.picture.environments[build.pipeline, step.environment or ""].lock

    def running(self) -> list[Step]:
        """The steps that run, as far as the rows say."""
        every = itertools.chain.from_iterable(self.picture.steps.values())
        return sorted((s for s in every if s.state is StepState.running), key=lambda s: s.id)

    def some(self, which: int, *states: State) -> Build | None:
        found = [b for b in self.picture.builds.values() if b.state in states]
        return found[which % len(found)] if found else None

    def any(self, *states: State) -> bool:
        return any(b.state in states for b in self.picture.builds.values())
