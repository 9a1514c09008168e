"""Slots of subjects: hostile strings, foreign keys, foreign partitions."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.fold.subjects import MISROUTED, SUBJECT, Subjects, subject_keys
from meterfold_schemas.keys import partition_of, subject_key

Parts = tuple[str, str, str, str]
HOSTILE = ['"', "\\", "a\nb", "\x1f", "\x7f", "\u2028", "é", "😀", '","', '"]', "a,b", "[", "", " ", "\x00", "\\u0041"]
TEXT = st.sampled_from(HOSTILE) | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
PARTS = st.tuples(TEXT, TEXT, TEXT, TEXT)


def frame(rows: list[tuple[bytes | None, Parts]]) -> pl.DataFrame:
    schema = {"key": pl.Binary, **dict.fromkeys(SUBJECT, pl.String)}
    return pl.DataFrame([(key, *parts) for key, parts in rows], schema=schema, orient="row")


def keyed(parts: list[Parts]) -> pl.DataFrame:
    return frame([(subject_key(*part), part) for part in parts])


@given(st.lists(PARTS))
def test_keys_are_those_of_the_schemas(parts: list[Parts]) -> None:
    assert subject_keys(keyed(parts)).to_list() == [subject_key(*part) for part in parts]


@given(st.lists(PARTS, min_size=1), st.integers(1, 4))
def test_one_slot_per_subject_of_this_partition(parts: list[Parts], partition_count: int) -> None:
    subjects = Subjects(0, partition_count)
    events = keyed(parts)
    slots = subjects.slots(events).tolist()
    for part, slot in zip(parts, slots, strict=True):
        assert (slot == MISROUTED) == (partition_of(subject_key(*part), partition_count) != 0)
    placed = {part: slot for part, slot in zip(parts, slots, strict=True) if slot != MISROUTED}
    assert sorted(placed.values()) == list(range(len(placed)))
    assert len(subjects) == len(placed)
    assert subjects.slots(events).tolist() == slots, "a subject keeps its slot"
    assert subjects.describe(pl.Series(list(placed.values())).to_numpy()).rows() == list(placed)


A: Parts = ("org", "api.calls", "user", "a")
B: Parts = ("org", "api.calls", "user", "b")


@pytest.mark.parametrize("known_before", [False, True])
@pytest.mark.parametrize(
    "stray",
    [
        (None, A),
        (b"", A),
        (subject_key(*A), B),
        (subject_key(*B), A),
        (b'["org", "api.calls", "user", "a"]', A),
        (b'["org","api.calls","user","\\u0061"]', A),
        (b'{"org":1}', A),
        (b"\xff\xfe", A),
        (subject_key(*A) + b" ", A),
    ],
)
def test_a_key_that_is_not_the_subjects_own(stray: tuple[bytes | None, Parts], known_before: bool) -> None:
    subjects = Subjects(0, 1)
    if known_before:
        assert subjects.slots(keyed([A, B])).tolist() == [0, 1]
    slots = subjects.slots(frame([stray, (subject_key(*A), A), stray])).tolist()
    assert slots == [MISROUTED, 0, MISROUTED]


def test_another_partition_count_makes_another_partition() -> None:
    moved = next(p for n in range(99) if partition_of(subject_key(*(p := ("", "m", "user", str(n)))), 6) == 5)
    assert Subjects(5, 6).slots(keyed([moved])).tolist() == [0]
    assert Subjects(5, 4).slots(keyed([moved])).tolist() == [MISROUTED]


def test_only_strays() -> None:
    assert Subjects(0, 1).slots(frame([(None, A), (b"x", B)])).tolist() == [MISROUTED, MISROUTED]
    assert Subjects(0, 1).slots(frame([])).tolist() == []


def test_subjects_read_from_windows_meet_those_of_events() -> None:
    subjects = Subjects(0, 1)
    hostile = [("", "m", text, "x") for text in HOSTILE]
    stored = keyed(hostile).select(SUBJECT)
    slots = subjects.slots_of_stored(pl.concat([stored, stored])).tolist()
    assert slots == [*range(len(HOSTILE))] * 2
    assert subjects.slots(keyed([*reversed(hostile), A])).tolist() == [*reversed(range(len(HOSTILE))), len(HOSTILE)]


def test_many_additions() -> None:
    subjects = Subjects(0, 1)
    for number in range(60):
        subjects.slots(keyed([("", "m", "user", str(n)) for n in range(number, number + 3)]))
    assert subjects.slots(keyed([("", "m", "user", str(n)) for n in range(62)])).tolist() == list(range(62))
