"""The journal of a host: the newest whole entry, whatever was torn, and never one that lies ahead."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leeroy.journal import NAME, Entry, Journal

FIRST = Entry(era="e1", mark=7, incarnation=None, build=3)
SLOT = 512


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path)
    made.doubted = False
    return made


def test_without_a_file_there_is_no_entry(journal: Journal, tmp_path: Path) -> None:
    """Nothing is made by looking, noting or syncing."""
    assert journal.read() is None
    journal.note("e1", 8, 3)
    journal.sync()
    assert [] == list(tmp_path.iterdir())


def test_the_newest_entry_counts(journal: Journal) -> None:
    """Also in a new process."""
    journal.adopt(FIRST)
    for mark in (8, 9, 12):
        journal.note("e1", mark, mark)
    assert Entry("e1", 12, None, 12) == journal.read()


def test_a_mark_only_grows(journal: Journal) -> None:
    """Two commits noted in the other order: the higher one stays."""
    journal.adopt(FIRST)
    journal.note("e1", 9, 4)
    journal.note("e1", 8, 4)
    journal.note("e1", 9, 5)
    assert Entry("e1", 9, None, 4) == journal.read()


@pytest.mark.parametrize("era", ["e2", None])
def test_another_era_is_not_noted(journal: Journal, era: str | None) -> None:
    """A database that the journal is not of leaves it as it is; only `adopt` changes eras."""
    journal.adopt(FIRST)
    journal.note(era, 100, 9)
    assert FIRST == journal.read()
    other = Entry("e2", 1, "1.2.3.4", 9)
    journal.adopt(other)
    assert other == journal.read()


def test_while_it_is_doubted_nothing_is_noted(tmp_path: Path) -> None:
    """The entry is the evidence until the database was compared with it."""
    journal = Journal(tmp_path)
    journal.adopt(FIRST)
    journal.note("e1", 8, 4)
    assert FIRST == journal.read()
    journal.doubted = False
    journal.note("e1", 8, 4)
    assert Entry("e1", 8, None, 4) == journal.read()


@settings(deadline=None, max_examples=40)
@given(torn=st.integers(0, SLOT - 1), notes=st.integers(1, 5), garbage=st.binary(max_size=40))
def test_a_torn_write_leaves_the_entry_before(
    tmp_path_factory: pytest.TempPathFactory, torn: int, notes: int, garbage: bytes
) -> None:
    """A power cut in the middle of a write: one commit is forgotten, never two, and none made up."""
    folder = tmp_path_factory.mktemp("torn")
    journal = Journal(folder)
    journal.doubted = False
    journal.adopt(FIRST)
    marks = [FIRST.mark + number for number in range(notes + 1)]
    for mark in marks[1:]:
        journal.note("e1", mark, mark)
    before = (folder / NAME).read_bytes()
    journal.note("e1", marks[-1] + 1, 99)
    after = (folder / NAME).read_bytes()
    after += bytes(2 * SLOT - len(after))
    before += bytes(2 * SLOT - len(before))
    [at] = [at for at in (0, SLOT) if before[at : at + SLOT] != after[at : at + SLOT]]
    half = after[at : at + torn] + before[at + torn : at + SLOT]
    half = (half[: SLOT - len(garbage)] + garbage)[:SLOT] if garbage else half
    (folder / NAME).write_bytes(before[:at] + half + before[at + SLOT :])
    found = journal.read()
    assert found is not None
    assert found.mark in (marks[-1], marks[-1] + 1)


def test_nonsense_is_no_entry(journal: Journal, tmp_path: Path) -> None:
    """Without a whole slot there is no entry, and a new one can be adopted."""
    (tmp_path / NAME).write_bytes(b"\xff\x00nonsense" * 90)
    assert journal.read() is None
    journal.note("e1", 8, 4)
    assert journal.read() is None
    journal.adopt(FIRST)
    assert FIRST == journal.read()


def test_an_entry_fits_its_slot(journal: Journal) -> None:
    """The longest that there can be."""
    longest = Entry("f" * 32, 2**63 - 1, ".".join(["4294967295"] * 3 + ["1" * 20]), 2**63 - 1)
    journal.adopt(longest)
    assert longest == journal.read()


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Threads and processes note at once: the highest mark is what stands there."""
    Journal(tmp_path).adopt(FIRST)

    def write(start: int) -> None:
        journal = Journal(tmp_path)
        journal.doubted = False
        for mark in range(start, 400, 4):
            journal.note("e1", mark, 1)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Journal(tmp_path).read()
    assert found is not None and 399 == found.mark
