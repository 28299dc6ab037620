"""F and G: no push is lost or built twice, and everybody who listens is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from leeroy.model import Build, Notice
from leeroy.proof.history import History, Violation
from leeroy.terms import State


def kept(history: History) -> Iterator[Violation]:
    """What was answered 2xx is stored."""
    stored = {taken.id: taken for taken in history.rows.deliveries}
    for taken in history.taken:
        for number in taken.builds:
            if number not in history.rows.builds:
                yield Violation("F1", number, "it was answered, and is not there")
        if taken.delivery is not None and taken.delivery not in stored:
            yield Violation("F1", None, f"delivery {taken.delivery} was answered, and is lost")


def not_twice(history: History) -> Iterator[Violation]:
    """One delivery makes at most one build per pipeline and ref, the same in every answer."""
    stored = {taken.id: taken.builds for taken in history.rows.deliveries}
    for taken in history.taken:
        builds = stored.get(taken.delivery or "")
        if builds is not None and builds != taken.builds:
            text = f"delivery {taken.delivery} was answered {taken.builds}, and made {builds}"
            yield Violation("F2", None, text)
    for delivery in history.rows.deliveries:
        found = [history.rows.builds[n] for n in delivery.builds if n in history.rows.builds]
        made = Counter((b.pipeline, b.branch, b.tag) for b in found)
        if any(count > 1 for count in made.values()):
            yield Violation("F2", delivery.builds[0], f"delivery {delivery.id} made it twice")


def together(history: History) -> Iterator[Violation]:
    """A delivery and its builds are stored together: neither is there without the other."""
    named = Counter(n for delivery in history.rows.deliveries for n in delivery.builds)
    for number, count in named.items():
        if count > 1 or number not in history.rows.builds:
            yield Violation("F3", number, "a delivery names it that has not made it")
    for number, build in history.rows.builds.items():
        if build.trigger == "push" and not named[number]:
            yield Violation("F3", number, "it came by a push, and no delivery names it")


def listeners(history: History, build: Build, state: State) -> set[str]:
    """The targets that are to hear that a build came there."""
    every = (*history.pipeline(build).notify, *history.house)
    return {
        target.to
        for target in every
        if target.hears(state) and (target.to != "author" or build.author_email)
    }


def one_each(history: History) -> Iterator[Violation]:
    """One notice for each event and target that listens; who heard more hears the end too."""
    told: dict[tuple[int, int], list[Notice]] = {}
    sent: dict[int, list[Notice]] = {}
    for notice in history.rows.notices:
        told.setdefault((notice.build_id, notice.seq), []).append(notice)
        if notice.urgent and notice.state == "sent":
            sent.setdefault(notice.build_id, []).append(notice)
    for number, events in history.rows.events.items():
        build = history.rows.builds[number]
        announced: set[str] = set()
        for event in events:
            notices = told.pop((number, event.seq), [])
            got = [notice.target for notice in notices]
            listening = listeners(history, build, event.to_state)
            end = event.to_state.over or event.to_state is State.interrupted
            more = announced if end else set()
            if len(got) != len(set(got)) or not listening <= set(got) <= listening | more:
                text = f"event {event.seq} ({event.move}) is told to {got}, not to {listening}"
                yield Violation("G1", number, text)
            if end and not {n.target for n in sent.get(number, ()) if n.seq < event.seq} <= set(
                got
            ):
                yield Violation("G1", number, f"event {event.seq}: who heard of it is not told")
            if event.to_state is State.deploy_pending:
                announced |= set(got)
    for number, seq in told:
        yield Violation("G1", number, f"a notice tells of event {seq}, which is not there")


def waiting(notices: Iterable[Notice]) -> Iterator[Notice]:
    """The notices that are to be sent."""
    return (notice for notice in notices if notice.state == "waiting")


def untried(notices: Iterable[Notice]) -> Iterator[Notice]:
    """Those that have had their turn and were not tried: no earlier one of their kind waits."""
    before: set[tuple[int, str]] = set()
    for notice in waiting(notices):
        turn = (notice.build_id, notice.target)
        if not notice.attempts and (notice.urgent or turn not in before):
            yield notice
        before.add(turn)


def each_ends(history: History) -> Iterator[Violation]:
    """Each notice ends as sent, dead (tried at least once, with its error) or obsolete."""
    for notice in untried(history.rows.notices) if history.settled else ():
        text = f"the notice of event {notice.seq} to {notice.target} was never tried"
        yield Violation("G2", notice.build_id, text)
    for notice in history.rows.notices:
        if notice.state == "dead" and not (notice.attempts and notice.last_error):
            text = f"the notice of event {notice.seq} was given up without being tried"
            yield Violation("G2", notice.build_id, text)


def in_turn(history: History) -> Iterator[Violation]:
    """A target hears of a build in the order of its events; announcements overtake the rest."""
    last: dict[tuple[int, str, bool], Notice] = {}
    if history.wall_s is None:
        return
    for notice in sorted(history.rows.notices, key=lambda n: (n.build_id, n.seq)):
        if notice.sent_at is None:
            continue
        key = (notice.build_id, notice.target, notice.urgent)
        before = last.get(key)
        if before is not None and before.sent_at is not None and before.sent_at > notice.sent_at:
            text = f"{notice.target} heard of event {notice.seq} before event {before.seq}"
            yield Violation("G3", notice.build_id, text)
        last[key] = notice
