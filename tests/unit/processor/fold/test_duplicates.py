"""Duplicates against the rule: counted at a smaller offset, no longer ago than the look-back."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from meterfold_processor.fold.duplicates import COUNTED_SCHEMA, IDENTITY, UNIQUE, counted_before, counted_within

LOOKBACK = 10
Seen = tuple[str, int]  # id, stamp; the offset is the place
LOGS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), max_size=14)


def frame(log: list[Seen], first_offset: int = 0) -> pl.DataFrame:
    rows = [("o", "m", "t", "s", name, first_offset + n, stamp, ord(name)) for n, (name, stamp) in enumerate(log)]
    return pl.DataFrame(rows, schema=COUNTED_SCHEMA, orient="row")


def naive(log: list[Seen]) -> list[int]:
    """For each event the smallest offset that makes it a duplicate."""
    counted: dict[str, list[tuple[int, int]]] = {}
    answer = []
    for offset, (name, stamp) in enumerate(log):
        before = counted.setdefault(name, [])
        matching = [o for o, s in before if s >= stamp - LOOKBACK]
        answer.append(min(matching, default=UNIQUE))
        if not matching:
            before.append((offset, stamp))
    return answer


@hypothesis_settings(max_examples=200)
@given(LOGS)
def test_within_one_batch(log: list[Seen]) -> None:
    assert counted_within(frame(log), LOOKBACK).tolist() == naive(log)


@hypothesis_settings(max_examples=200)
@given(LOGS, st.data())
def test_the_same_however_the_log_is_cut(log: list[Seen], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(log)))
    expected = naive(log)
    counted = frame(log).filter(pl.Series([at == UNIQUE for at in expected], dtype=pl.Boolean))
    candidates = frame(log[cut:], cut)
    # What was counted may be found repeatedly, and with offsets that the candidates themselves have: a replay.
    before = counted_before(candidates, pl.concat([counted.filter(pl.col("offset") < cut), counted]), LOOKBACK)
    assert before.tolist() == expected[cut:]

    earlier = counted_before(candidates, counted.filter(pl.col("offset") < cut), LOOKBACK)
    new = pl.Series(earlier == UNIQUE)
    earlier[new.to_numpy()] = counted_within(candidates.filter(new), LOOKBACK)
    assert earlier.tolist() == expected[cut:]


@pytest.mark.parametrize(("stamp", "duplicate"), [(10, True), (11, False), (9, True), (-5, True)])
def test_the_edge_of_the_lookback(stamp: int, duplicate: bool) -> None:
    first, again = frame([("a", 0)]), frame([("a", stamp)], 1)
    assert counted_before(again, first, LOOKBACK).tolist() == [0 if duplicate else UNIQUE]
    both = pl.concat([first, again])
    assert counted_within(both, LOOKBACK).tolist() == [UNIQUE, 0 if duplicate else UNIQUE]


def test_the_same_offset_is_a_replay() -> None:
    one = frame([("a", 0)], 7)
    assert counted_before(one, one, LOOKBACK).tolist() == [UNIQUE]


@pytest.mark.parametrize("column", IDENTITY)
def test_every_part_of_the_identity_counts_and_equal_hashes_do_not(column: str) -> None:
    first = frame([("a", 0)])
    other = frame([("a", 0)], 1).with_columns(pl.lit("other").alias(column))
    assert counted_before(other, first, LOOKBACK).tolist() == [UNIQUE]
    assert counted_within(pl.concat([first, other]), LOOKBACK).tolist() == [UNIQUE, UNIQUE]


def test_nothing_to_compare() -> None:
    empty = frame([])
    assert counted_within(empty, LOOKBACK).tolist() == []
    assert counted_before(empty, frame([("a", 0)]), LOOKBACK).tolist() == []
    assert counted_before(frame([("a", 0)]), empty, LOOKBACK).tolist() == [UNIQUE]
