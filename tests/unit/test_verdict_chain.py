"""The chain of a record: whatever is edited in a saved one is found, and where."""

from __future__ import annotations

import copy
import json

from hypothesis import given
from hypothesis import strategies as st

from leeroy.verdict import chain, words

BARE = [
        {
            "kind": "build", "format": 1, "build": 12, "pipeline": "shop", "branch": "main",
            "tag": None, "commit": "a" * 40, "author": "Ada\u2028Lovelace \x85", "trigger": "push",
            "snapshot": "b" * 64, "created_at": "2026-01-01T12:00:00.000000Z",
        },
        {
            "kind": "move", "seq": 1, "move": "accept", "from": None, "to": "queued",
            "environment": None, "actor": "github", "reason": None,
            "at": "2026-01-01T12:00:00.000000Z",
        },
        {
            "kind": "gate", "environment": "production", "who": "open", "said": "watched",
            "number": 30_000_001, "at": "2026-01-01T12:00:40.000000Z",
        },
        {
            "kind": "end", "state": "done", "fault": "nobody", "cause": "it went well",
            "at": "2026-01-01T12:01:00.000000Z", "stop_at": None, "stop_actor": None,
            "stop_reason": None,
        },
]  # fmt: skip
FINISHED = {
    "kind": "move", "seq": 2, "move": "finish", "from": "deploying", "to": "done",
    "environment": "production", "actor": "scheduler@vm", "reason": None,
    "at": "2026-01-01T12:01:00.000000Z",
}  # fmt: skip
LINES = chain.chained([*BARE[:-1], FINISHED, BARE[-1]])
OPEN = {**BARE[-1], "kind": "open", "state": "queued", "fault": "open"}
WHOLE = words.as_object(LINES, "nobody", "it went well")

values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)
)


def found(edited: object) -> list[chain.Broken]:
    return words.verify(json.dumps(edited, indent=2, ensure_ascii=False)).broken


def test_a_saved_record_holds() -> None:
    """As JSON and as text, with the head hash or the start of it."""
    for saved in (json.dumps(WHOLE, indent=2), words.text(WHOLE), words.text(WHOLE) + "\n"):
        assert [] == words.verify(saved, WHOLE["head"]).broken
        assert [] == words.verify(saved, WHOLE["head"][:12]).broken
        assert words.verify(saved, "0" * 12).broken


@given(st.data())
def test_any_changed_value_is_found_in_its_line(data: st.DataObject) -> None:
    """One value of one line."""
    edited = copy.deepcopy(WHOLE)
    line = data.draw(st.integers(0, len(LINES) - 1))
    key = data.draw(st.sampled_from(sorted(edited["lines"][line])))
    value = data.draw(values)
    if chain.canonical(value) == chain.canonical(edited["lines"][line][key]):
        return
    edited["lines"][line][key] = value
    assert line + 1 in {b.line for b in found(edited)}


@given(st.data())
def test_any_added_or_removed_key_is_found(data: st.DataObject) -> None:
    """A line has exactly the keys it had."""
    edited = copy.deepcopy(WHOLE)
    line = data.draw(st.integers(0, len(LINES) - 1))
    if data.draw(st.booleans()):
        del edited["lines"][line][data.draw(st.sampled_from(sorted(edited["lines"][line])))]
    else:
        edited["lines"][line]["more"] = data.draw(values)
    assert line + 1 in {b.line for b in found(edited)}


@given(st.data())
def test_any_removed_doubled_or_moved_line_is_found(data: st.DataObject) -> None:
    """The chain names the place."""
    edited = copy.deepcopy(WHOLE)
    lines = edited["lines"]
    at = data.draw(st.integers(0, len(lines) - 1))
    to = data.draw(st.integers(0, len(lines) - 1))
    how = data.draw(st.sampled_from(["remove", "double", "move"]))
    if how == "move" and at == to:
        return
    line = lines.pop(at) if how != "double" else lines[at]
    if how != "remove":
        lines.insert(to, line)
    assert found(edited)


@given(st.data())
def test_any_edit_above_the_lines_is_found(data: st.DataObject) -> None:
    """The sentence and the head stand above the lines; they are the lines'."""
    edited = copy.deepcopy(WHOLE)
    key = data.draw(st.sampled_from(["build", "cause", "fault", "head", "over"]))
    value = data.draw(values)
    if chain.canonical(value) != chain.canonical(edited[key]):
        edited[key] = value
        assert found(edited)


@given(st.data())
def test_any_edited_letter_of_a_text_is_found(data: st.DataObject) -> None:
    """The sentences for people say what the lines say."""
    text = words.text(WHOLE)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("0a9 Z}\n\u2028"))
    if text[at] != letter:
        assert words.verify(text[:at] + letter + text[at + 1 :]).broken


def test_a_key_that_stands_twice_is_found() -> None:
    """Of two values one reader would see the first, another the last."""
    saved = json.dumps(WHOLE).replace('"seq": 1', '"seq": 7, "seq": 1')
    assert words.verify(saved).broken


def record(*bare: chain.Line) -> str:
    """A record whose keeper made every hash of it anew."""
    lines = chain.chained(bare)
    last = lines[-1]
    return json.dumps(
        words.as_object(lines, last.get("fault", "nobody"), last.get("cause", "well"))
    )


def test_a_cut_off_end_is_found() -> None:
    """Whatever is adapted above it: a record ends with its end, or says that it is open."""
    assert [] == words.verify(record(*BARE[:3], OPEN)).broken
    for wrong in (
        record(*BARE[:3], FINISHED),  # the end gone
        record(*BARE[:3], FINISHED, {**OPEN, "state": "done"}),  # open, and it was over
        record(*BARE[:3], FINISHED, OPEN),  # where it was before its last move
        record(*BARE[:3], {**OPEN, "fault": "nobody"}),  # open, and somebody's fault
        record(*BARE[:3], BARE[-1]),  # over, and no move led there
        record(*BARE[:3], OPEN, FINISHED, BARE[-1]),  # after what was to come, more
        record({"kind": "build", "format": 1, "build": 1}),
    ):
        assert words.verify(wrong).broken
    forged = words.as_object(LINES[:-1], "nobody", "it went well")
    assert words.verify(json.dumps(forged)).broken
    assert words.verify(words.text(forged)).broken
    told = json.loads(record(*BARE[:3], OPEN)) | {"fault": "nobody"}
    assert words.verify(json.dumps(told)).broken
    assert words.verify(words.text(told)).broken


def test_foreign_rows_in_a_sentence_make_no_row_of_the_record() -> None:
    """A reason with newlines and escapes: one row, and no line of the chain."""
    evil = 'x\n{"kind":"end"}\nhead 0\x1b[2J'
    lines = chain.chained([*BARE[:-1], FINISHED, {**BARE[-1], "cause": evil}])
    text = words.text(words.as_object(lines, "nobody", evil))
    assert [] == words.verify(text).broken
    assert "\x1b" not in text


def test_whoever_makes_all_hashes_anew_is_found_by_the_head_in_a_mail() -> None:
    """The chain alone proves nothing against its own keeper."""
    bare = [{k: v for k, v in line.items() if k not in ("n", "before", "hash")} for line in LINES]
    bare[1]["actor"] = "somebody else"
    forged = words.as_object(chain.chained(bare), "nobody", "it went well")
    saved = json.dumps(forged)
    assert [] == words.verify(saved).broken
    assert words.verify(saved, WHOLE["head"]).broken


def test_format_1_is_what_it_was() -> None:
    """A record saved years ago, and the mail with its head hash, still agree with the program."""
    assert GOLDEN == chain.head(chain.chained(BARE))


GOLDEN = "3efc9b45f44884ac54c88b6a5b26c19a43b08aa4c54b3e4bf8bc748d50587f00"
