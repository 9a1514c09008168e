"""128-bit columns against Python's integers."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.columns import limbs
from meterfold_processor.columns.limbs import LIMIT, Limbs
from meterfold_schemas.errors import Fatal
from meterfold_schemas.quantities import to_decimal

EDGES = [0, 1, -1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**96, 10**29 - 1, LIMIT - 1]
SMALL = st.integers(-(10**6), 10**6)
STORED = st.integers(-LIMIT + 1, LIMIT - 1) | st.sampled_from([*EDGES, *(-edge for edge in EDGES)]) | SMALL
QUANTITIES = st.integers(-(10**29) + 1, 10**29 - 1) | SMALL
GROUPS = st.lists(st.lists(QUANTITIES, min_size=1, max_size=6), min_size=1, max_size=8)
SMALL_GROUPS = st.lists(st.lists(SMALL, min_size=1, max_size=6), min_size=1, max_size=8)


def starts_of(groups: list[list[int]]) -> np.ndarray:
    return np.cumsum([0, *(len(group) for group in groups[:-1])])


@given(st.lists(STORED))
def test_integers_there_and_back(values: list[int]) -> None:
    column = limbs.from_ints(values)
    assert column.to_ints() == values
    assert len(column) == len(values)
    arrow = limbs.to_arrow(column)
    assert arrow.type == pa.decimal128(38, 9)
    assert arrow.to_pylist() == [to_decimal(value) for value in values]
    assert limbs.from_arrow(arrow).to_ints() == values


@given(st.lists(STORED, min_size=3), st.data())
def test_from_a_slice_and_from_chunks(values: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    arrow = limbs.to_arrow(limbs.from_ints(values))
    assert limbs.from_arrow(arrow.slice(cut)).to_ints() == values[cut:]
    chunked = pa.chunked_array([arrow.slice(0, cut), arrow.slice(cut)])
    assert limbs.from_arrow(chunked).to_ints() == values


def test_nulls_are_refused() -> None:
    with pytest.raises(ValueError, match="nulls"):
        limbs.from_arrow(pa.array([Decimal(1), None], pa.decimal128(38, 9)))


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_plain_integers(values: list[int]) -> None:
    column = limbs.from_int64(np.array(values, dtype=np.int64))
    assert column.to_ints() == values
    assert column.fits_int64()


@given(st.lists(STORED))
def test_fits_int64(values: list[int]) -> None:
    assert limbs.from_ints(values).fits_int64() == all(-(2**63) <= value < 2**63 for value in values)


@given(st.lists(st.tuples(STORED, STORED), max_size=20))
def test_less(pairs: list[tuple[int, int]]) -> None:
    a, b = (limbs.from_ints([pair[side] for pair in pairs]) for side in (0, 1))
    assert limbs.less(a, b).tolist() == [left < right for left, right in pairs]


@given(st.lists(st.tuples(STORED, STORED), max_size=20))
def test_add_is_exact_or_fatal(pairs: list[tuple[int, int]]) -> None:
    a, b = (limbs.from_ints([pair[side] for pair in pairs]) for side in (0, 1))
    sums = [left + right for left, right in pairs]
    if all(abs(total) < LIMIT for total in sums):
        assert limbs.add(a, b).to_ints() == sums
    else:
        with pytest.raises(Fatal, match="29 integer digits"):
            limbs.add(a, b)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_limit_itself(sign: int) -> None:
    largest = limbs.from_ints([sign * (LIMIT - 2)])
    assert limbs.add(largest, limbs.from_ints([sign])).to_ints() == [sign * (LIMIT - 1)]
    for step in (2, LIMIT - 1):
        with pytest.raises(Fatal):
            limbs.add(largest, limbs.from_ints([sign * step]))


@given(GROUPS | SMALL_GROUPS)
def test_group_sums(groups: list[list[int]]) -> None:
    column = limbs.from_ints([value for group in groups for value in group])
    assert limbs.group_sums(column, starts_of(groups)).to_ints() == [sum(group) for group in groups]


def test_sums_of_64_bit_values_that_leave_64_bits() -> None:
    values = [2**63 - 1, 2**63 - 1, -(2**63), -(2**63), -1]
    sums = limbs.group_sums(limbs.from_ints(values), np.array([0, 2]))
    assert sums.to_ints() == [2**64 - 2, -(2**64) - 1]


def test_group_sum_beyond_decimal_38_is_fatal() -> None:
    with pytest.raises(Fatal):
        limbs.group_sums(limbs.from_ints([LIMIT - 1, 1]), np.array([0]))
    assert limbs.group_sums(limbs.from_ints([LIMIT - 1, 1]), np.array([0, 1])).to_ints() == [LIMIT - 1, 1]


@given(GROUPS | SMALL_GROUPS)
def test_group_extremes(groups: list[list[int]]) -> None:
    column = limbs.from_ints([value for group in groups for value in group])
    low, high = limbs.group_extremes(column, starts_of(groups))
    assert low.to_ints() == [min(group) for group in groups]
    assert high.to_ints() == [max(group) for group in groups]


@given(st.lists(st.tuples(STORED, STORED, st.booleans())))
def test_where_take_concat(rows: list[tuple[int, int, bool]]) -> None:
    a, b = (limbs.from_ints([row[side] for row in rows]) for side in (0, 1))
    mask = np.array([row[2] for row in rows], dtype=np.bool_)
    assert a.where(mask, b).to_ints() == [left if chosen else right for left, right, chosen in rows]
    backwards = np.arange(len(rows))[::-1]
    assert a.take(backwards).to_ints() == [row[0] for row in reversed(rows)]
    assert limbs.concat([a, b]).to_ints() == [row[0] for row in rows] + [row[1] for row in rows]


def test_empty() -> None:
    nothing = Limbs(np.empty(0, np.uint64), np.empty(0, np.int64))
    assert limbs.to_arrow(nothing).to_pylist() == []
    assert limbs.from_arrow(limbs.to_arrow(nothing)).to_ints() == []
