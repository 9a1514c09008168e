"""Remembered hashes against a set per day."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.fold.remembered import EVERYTHING, Remembered
from meterfold_schemas.periods import DAY

HASHES = st.sampled_from([0, 1, 2, 3, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
STAMPS = st.integers(-3 * DAY, 5 * DAY) | st.sampled_from([-DAY, 0, DAY - 1, DAY, 2 * DAY])
ADDITIONS = st.lists(st.tuples(HASHES, STAMPS), max_size=30)
ACTIONS = st.lists(st.tuples(st.just("add"), ADDITIONS) | st.tuples(st.just("forget"), STAMPS), max_size=10)


def arrays(rows: list[tuple[int, int]]) -> tuple[Any, Any]:
    return np.array([h for h, _ in rows], np.uint64), np.array([stamp for _, stamp in rows], np.int64)


@given(ACTIONS, st.lists(HASHES, max_size=20))
def test_a_set_per_day(actions: list[tuple[str, Any]], asked: list[int]) -> None:
    remembered, naive = Remembered(), dict[int, list[int]]()
    for action, rows in actions:
        if action == "add":
            remembered.add(*arrays(rows))
            for value, stamp in rows:
                naive.setdefault(stamp // DAY, []).append(value)
        else:
            before = remembered.loaded_from
            remembered.forget_before(rows)
            gone = [day for day in naive if (day + 1) * DAY <= rows]
            for day in gone:
                del naive[day]
            assert remembered.loaded_from == max([before, *((day + 1) * DAY for day in gone)])
        known = {value for values in naive.values() for value in values}
        rising = sorted(set(asked) | known)
        found = remembered.contains(np.array(rising, np.uint64))
        assert found.tolist() == [value in known for value in rising]
        assert len(remembered) == sum(map(len, naive.values()))


def test_what_was_forgotten_is_no_longer_claimed() -> None:
    remembered = Remembered()
    remembered.add(*arrays([(1, 0), (2, DAY), (3, 2 * DAY)]))
    remembered.forget_before(2 * DAY - 1)
    assert remembered.loaded_from == DAY
    remembered.forget_before(2 * DAY)
    assert remembered.loaded_from == 2 * DAY
    assert remembered.contains(np.array([1, 2, 3], np.uint64)).tolist() == [False, False, True]


def test_nothing_to_forget_claims_everything() -> None:
    remembered = Remembered()
    remembered.forget_before(10 * DAY)
    assert remembered.loaded_from == EVERYTHING


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
