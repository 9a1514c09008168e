"""Remembered identities against a plain dictionary of stamps by hash."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.fold import compact
from meterfold_processor.fold.compact import IdentityTable, Version
from meterfold_processor.fold.remembered import EVERYTHING, FOREVER, Remembered, end_of_week, week_of, without
from meterfold_schemas.periods import DAY, micros

HASHES = st.sampled_from([0, 1, 2, 3, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
STAMPS = st.integers(-3 * DAY, 20 * DAY) | st.sampled_from([-DAY, 0, DAY - 1, DAY, 2 * DAY, 4 * DAY, 11 * DAY])
ADDITIONS = st.lists(st.tuples(HASHES, STAMPS), max_size=30)
ACTIONS = st.lists(
    st.tuples(st.just("add"), ADDITIONS)
    | st.tuples(st.just("forget"), STAMPS)
    | st.tuples(st.just("set aside"), STAMPS)
    | st.tuples(st.just("install"), STAMPS),
    max_size=12,
)
SPANS = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted).map(tuple)


def arrays(rows: list[tuple[int, int]]) -> tuple[Any, Any]:
    return np.array([h for h, _ in rows], np.uint64), np.array([stamp for _, stamp in rows], np.int64)


def table_of(hashes: set[int]) -> IdentityTable:
    bits = compact.bucket_bits(len(hashes))
    rising = np.array(sorted(hashes), np.uint64)
    pieces = compact.pieces_of(rising, bits, 0, compact.piece_count(bits))
    return IdentityTable.of(bits, [piece.counts for piece in pieces], [piece.remainders for piece in pieces])


@given(ACTIONS, st.lists(HASHES, max_size=20), st.integers(-5 * DAY, 20 * DAY))
def test_a_dictionary(actions: list[tuple[str, Any]], asked: list[int], since: int) -> None:
    """Whatever was added and is not forgotten is a candidate in a span that holds its stamp."""
    remembered, naive = Remembered(), list[tuple[int, int]]()
    for action, rows in actions:
        if action == "add":
            remembered.add(*arrays(rows))
            naive += rows
        elif action == "forget":
            before = remembered.loaded_from
            remembered.forget_before(rows)
            assert before <= remembered.loaded_from <= max(before, rows)
        else:
            week, until = week_of(rows), rows - rows % DAY
            known = remembered.tables.get(week)
            until = until if known is None else max(until, known[0].until)
            remembered.set_aside(week, until)
            if action == "install":
                inside = {h for h, stamp in naive if week <= stamp < until}
                remembered.install(Version(week, until, 0, compact.bucket_bits(len(inside))), table_of(inside))
                assert not remembered.is_set_aside(week)
    rising = np.array(sorted({*asked, *(h for h, _ in naive)}), np.uint64)
    found = remembered.candidates(rising, np.full(len(rising), since))
    row_of = {value: row for row, value in enumerate(rising.tolist())}
    for value, stamp in naive:
        if stamp >= since:
            assert any(one.rows[row_of[value]] and one.span[0] <= stamp < one.span[1] for one in found), (value, stamp)
    exact = [one for one in found if one.version is None and one.span[0] >= remembered.loaded_from]
    days = {(value, stamp // DAY) for value, stamp in naive}
    for one in exact:
        for value in rising[one.rows].tolist():
            assert (value, one.span[0] // DAY) in days, "exact days claim nothing else"


def test_what_was_forgotten_is_looked_up() -> None:
    remembered = Remembered()
    remembered.add(*arrays([(1, 0), (2, DAY), (3, 2 * DAY)]))
    remembered.forget_before(2 * DAY - 1)
    assert remembered.loaded_from == DAY
    remembered.forget_before(2 * DAY)
    assert remembered.loaded_from == 2 * DAY
    hashes = np.array([1, 2, 3], np.uint64)
    (kept,) = remembered.candidates(hashes, np.full(3, 2 * DAY))
    assert (kept.span, kept.rows.tolist()) == ((2 * DAY, 3 * DAY), [False, False, True])
    earlier, _ = remembered.candidates(hashes, np.array([DAY, 2 * DAY, 2 * DAY]))
    assert (earlier.span, earlier.rows.tolist()) == ((DAY, 2 * DAY), [True, False, False])


def test_nothing_to_forget_claims_everything() -> None:
    remembered = Remembered()
    remembered.forget_before(10 * DAY)
    assert remembered.loaded_from == EVERYTHING


def test_a_table_goes_with_its_week() -> None:
    remembered = Remembered()
    week = week_of(10 * DAY)
    remembered.install(Version(week, end_of_week(week), 5, 0), table_of({7}))
    remembered.forget_before(end_of_week(week) - 1)
    assert len(remembered) == 1
    remembered.forget_before(end_of_week(week))
    assert (len(remembered), remembered.loaded_from, remembered.nbytes) == (0, end_of_week(week), 0)


def test_what_is_missing_claims_every_hash() -> None:
    remembered = Remembered(5 * DAY, [(5 * DAY, FOREVER)])
    hashes, since = np.array([1, 2], np.uint64), np.array([6 * DAY, 6 * DAY])
    (all_of_them,) = remembered.candidates(hashes, since)
    assert all_of_them.span == (5 * DAY, FOREVER)
    assert all_of_them.rows.all()
    remembered.loaded(7 * DAY, 8 * DAY)
    assert remembered.missing == [(5 * DAY, 7 * DAY), (8 * DAY, FOREVER)]
    remembered.loaded(5 * DAY, 7 * DAY)
    remembered.loaded(8 * DAY, FOREVER)
    assert remembered.candidates(hashes, since) == []


@given(SPANS, SPANS)
def test_a_span_without_another(span: tuple[int, int], cut: tuple[int, int]) -> None:
    left = {n for since, until in without(span, cut) for n in range(since, until)}
    assert left == set(range(*span)) - set(range(*cut))


@pytest.mark.parametrize("stamp", [datetime(2026, 11, 29, 23, 59, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC)])
def test_weeks_begin_on_monday(stamp: datetime) -> None:
    week = week_of(micros(stamp))
    assert (week // DAY + 3) % 7 == 0  # 1970-01-01 was a Thursday
    assert week <= micros(stamp) < end_of_week(week)
    assert week_of(week) == week
    assert week_of(week - 1) == week - 7 * DAY


def test_a_day_has_few_arrays() -> None:
    remembered = Remembered()
    rng = np.random.default_rng(1)
    for _ in range(300):
        hashes = rng.integers(0, 2**63, 50).astype(np.uint64)
        remembered.add(hashes, np.zeros(50, np.int64))
    assert len(remembered) == 15_000
    (runs,) = remembered._days.values()
    assert len(runs) <= 15
    assert all((np.diff(run) >= 0).all() for run in runs)
