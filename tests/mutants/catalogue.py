"""The errors: where, what becomes of it, and the test that must fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """In *file* the text *old* (which stands there once) becomes *new*; then *test* fails."""

    name: str
    file: str
    old: str
    new: str
    test: str

    def applied(self, text: str) -> str:
        """The file with the error; raises ValueError unless *old* is there exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has the text {text.count(self.old)} times")
        return text.replace(self.old, self.new)


MUTANTS = (
    Mutant(
        "drop the compare-and-swap condition",
        "leeroy/db/builds.py",
        'builds.c.id == bindparam("b_id"), builds.c.version == bindparam("b_version")',
        'builds.c.id == bindparam("b_id"), bindparam("b_version") > 0',
        "tests/db/test_history.py::test_a_lost_race_changes_nothing",
    ),
    Mutant(
        "execute before commit",
        "leeroy/scheduler/loop.py",
        "        futures = self._database.submit_all(jobs)\n",
        "        def early(conn: Connection, job: Callable[[Connection], list[Act]]) -> list[Act]:\n"
        "            self._doer.perform([acts := job(conn)])\n"
        "            return [act for act in acts if not isinstance(act, Launch)]\n\n"
        "        futures = self._database.submit_all([partial(early, job=job) for job in jobs])\n",
        "tests/crash/test_orders.py::test_nothing_runs_before_its_row_is_committed",
    ),
    Mutant(
        "skip the fsync of begin",
        "leeroy/runner/supervisor.py",
        "        if self.durable:\n            os.fsync(lock)\n            _sync(self.directory)\n        return True\n",
        "        return True\n",
        "tests/crash/test_orders.py::test_begin_is_on_the_disk_before_a_deploy_runs",
    ),
    Mutant(
        "drop the outbox insert",
        "leeroy/advance.py",
        "    outbox.add(conn, event, targets, urgent=event.to_state is State.deploy_pending)\n",
        "    del targets\n",
        "tests/db/test_orders.py::test_a_story_of_rows_breaks_no_rule",
    ),
    Mutant(
        "use the wall clock for the grace period",
        "leeroy/scheduler/waiting.py",
        "    grace = gates.grace(replace(facts, watched_s=watching.watched.get(key)))\n",
        "    by_the_wall = (now - (facts.deploy.heard_at or now)).total_seconds()\n"
        "    grace = gates.grace(replace(facts, watched_s=by_the_wall))\n",
        "tests/db/test_watching.py::test_a_clock_set_forward_shortens_no_grace_period",
    ),
    Mutant(
        "count a stop of the server as watched",
        "leeroy/scheduler/attention.py",
        "        if late <= SLACK_S:\n",
        "        if late <= AWAY_S:\n",
        "tests/unit/test_attention.py::test_a_short_stop_counts_for_nothing",
    ),
    Mutant(
        "free the environment on interruption",
        "leeroy/advance.py",
        '    if to not in HOLDING:\n        changes["holder"] = None\n',
        '    changes["holder"] = None\n',
        "tests/db/test_orders.py::test_a_story_of_rows_breaks_no_rule",
    ),
    Mutant(
        "check the gates outside the transaction",
        "leeroy/scheduler/waiting.py",
        "    facts = gates.facts(conn, build, plan, now=now, lock=True)\n",
        "    with conn.engine.connect() as another:\n"
        "        facts = gates.facts(another, build, plan, now=now)\n",
        "tests/db/test_orders.py::test_two_deploys_under_one_lock_are_decided_in_turn"
        "[postgresql]",  # SQLite has one writer, who would wait for itself
    ),
    Mutant(
        "take the clearing of an earlier loss for that of the last",
        "leeroy/scheduler/waiting.py",
        "    if deployed.run_id not in watching.cleared:\n",
        "    if not any(s.run_id in watching.cleared for s in steps.of(conn, build.id)):\n",
        "tests/db/test_repeats.py::test_what_is_known_of_one_loss_is_not_known_of_the_next",
    ),
    Mutant(
        "launch a deploy without the note of its directory",
        "leeroy/runner/rundir.py",
        '            _write(self._note(spec.run_id), b"", 0o600)\n',
        "",
        "tests/functional/test_runner.py::test_a_directory_that_was_there_is_known_to_have_been",
    ),
)
