"""Slots of subjects: hostile strings, foreign keys, foreign partitions."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
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


def slots_of(subjects: Subjects, events: pl.DataFrame) -> list[int]:
    """The slot of each event, or MISROUTED; the subjects are held, as by a window of each."""
    placed = subjects.place(events)
    right = placed.slots[placed.slots != MISROUTED]
    subjects.hold(right)
    assert len(set(right.tolist())) == len(right)
    slots = np.where(placed.subject == MISROUTED, MISROUTED, np.append(placed.slots, MISROUTED)[placed.subject])
    named = placed.names[placed.subject[placed.subject != MISROUTED]]
    assert named.equals(events.filter(pl.Series(placed.subject != MISROUTED)).select(named.columns))
    return [int(slot) for slot in slots]


@given(st.lists(PARTS, min_size=1), st.integers(1, 4))
def test_one_slot_per_subject_of_this_partition(parts: list[Parts], partition_count: int) -> None:
    subjects = Subjects(0, partition_count)
    events = keyed(parts)
    slots = slots_of(subjects, events)
    for part, slot in zip(parts, slots, strict=True):
        assert (slot == MISROUTED) == (partition_of(subject_key(*part), partition_count) != 0)
    placed = {part: slot for part, slot in zip(parts, slots, strict=True) if slot != MISROUTED}
    assert sorted(placed.values()) == list(range(len(placed)))
    assert len(subjects) == len(placed)
    assert slots_of(subjects, events) == slots, "a subject keeps its slot"


NAMES = [("", "m", "user", text) for text in [*HOSTILE, *map(str, range(20)), "long" * 40]]
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["place", "hold", "release"]), st.lists(st.sampled_from(NAMES), max_size=30)), max_size=12
)


@pytest.mark.parametrize("colliding", [False, True])
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_subjects_come_and_go(
    colliding: bool, monkeypatch: pytest.MonkeyPatch, actions: list[tuple[str, list[Parts]]]
) -> None:
    """Against a dict of the windows of each subject; also where the hashes of all keys are equal."""
    if colliding:
        monkeypatch.setattr(pl.Series, "hash", lambda self, *_: pl.Series(np.zeros(len(self), dtype=np.uint64)))
    subjects = Subjects(0, 1)
    windows, slot = dict[Parts, int](), dict[Parts, int]()
    for action, parts in actions:
        if action == "release":
            gone = [part for number, part in enumerate(parts) if parts[:number].count(part) < windows.get(part, 0)]
            subjects.release(np.array([slot[part] for part in gone], dtype=np.int64))
            for part in gone:
                windows[part] -= 1
        else:
            placed = subjects.place(keyed(parts))
            slots = dict(zip(parts, placed.slots[placed.subject].tolist(), strict=True))
            for part in slots:
                if windows.get(part, 0):
                    assert slots[part] == slot[part]
            taken = {slot[part] for part, count in windows.items() if count and part not in slots}
            assert len({*slots.values(), *taken}) == len(slots) + len(taken)
            slot.update(slots)
            if action == "hold":
                subjects.hold(np.array([slots[part] for part in parts], dtype=np.int64))
                for part in parts:
                    windows[part] = windows.get(part, 0) + 1
    subjects.place(keyed([]))
    assert len(subjects) == sum(count > 0 for count in windows.values())


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
        assert sorted(slots_of(subjects, keyed([A, B]))) == [0, 1]
    slots = slots_of(subjects, frame([stray, (subject_key(*A), A), stray]))
    assert slots == [MISROUTED, *slots_of(subjects, keyed([A])), MISROUTED]
    assert len(subjects) == 1 + known_before


def test_a_quotation_mark_too_many_is_not_made_up_for_by_another_key() -> None:
    """Both keys together have as many as two keys without escapes."""
    quoted: Parts = ("org", "m", "user", 'a"b')
    unescaped = b'["org","m","user","a"b"]'
    events = frame([(unescaped, quoted), (b'["org","m","user","x]', A), (subject_key(*B), B)])
    assert slots_of(Subjects(0, 1), events) == [MISROUTED, MISROUTED, 0]
    assert slots_of(Subjects(0, 1), keyed([quoted])) == [0]
    control: Parts = ("org", "m", "user", "a\nb")
    assert slots_of(Subjects(0, 1), frame([(b'["org","m","user","a\nb"]', control)])) == [MISROUTED]
    slash: Parts = ("org", "m", "user", "a\\b")
    assert slots_of(Subjects(0, 1), frame([(b'["org","m","user","a\\b"]', slash)])) == [MISROUTED]


def test_another_partition_count_makes_another_partition() -> None:
    moved = next(p for n in range(99) if partition_of(subject_key(*(p := ("", "m", "user", str(n)))), 6) == 5)
    assert slots_of(Subjects(5, 6), keyed([moved])) == [0]
    assert slots_of(Subjects(5, 4), keyed([moved])) == [MISROUTED]


def test_only_strays() -> None:
    assert slots_of(Subjects(0, 1), frame([(None, A), (b"x", B)])) == [MISROUTED, MISROUTED]
    assert slots_of(Subjects(0, 1), frame([])) == []


def test_subjects_read_from_windows_meet_those_of_events() -> None:
    subjects = Subjects(0, 1)
    hostile = [("", "m", text, "x") for text in HOSTILE]
    stored = keyed(hostile).select(SUBJECT)
    slots = subjects.slots_of_stored(pl.concat([stored, stored]), once=False).tolist()
    subjects.hold(np.array(slots))
    first = slots[: len(HOSTILE)]
    assert sorted(first) == [*range(len(HOSTILE))]
    assert slots == first * 2
    assert slots_of(subjects, keyed([*reversed(hostile), A])) == [*reversed(first), len(HOSTILE)]


def test_many_additions() -> None:
    subjects = Subjects(0, 1)
    known = dict[Parts, int]()
    for number in range(60):
        parts: list[Parts] = [("", "m", "user", str(n)) for n in range(number, number + 3)]
        slots = dict(zip(parts, slots_of(subjects, keyed(parts)), strict=True))
        assert {**slots, **known} == {**known, **slots}
        known |= slots
    assert sorted(known.values()) == list(range(62))
    assert slots_of(subjects, keyed(list(known))) == list(known.values())


def test_bytes_per_subject_are_those_of_the_documentation() -> None:
    subjects = Subjects(0, 1)
    for begin in range(0, 200_000, 50_000):
        slots_of(subjects, keyed([("org-01", "api.calls", "user", f"u-{n:07d}") for n in range(begin, begin + 50_000)]))
    assert len(subject_key("org-01", "api.calls", "user", "u-0000001")) == 41
    assert 24 + 48 <= subjects.nbytes / len(subjects) < (24 + 48) * 1.08
