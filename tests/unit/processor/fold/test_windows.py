"""The table of windows against a dict of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from meterfold_processor.columns.limbs import LIMIT, from_ints
from meterfold_processor.columns.row_index import NONE
from meterfold_processor.fold.grouping import WindowRows
from meterfold_processor.fold.windows import NOTHING, WindowTable
from meterfold_processor.fold.windows import merged as merged_windows
from meterfold_schemas.errors import Fatal

Key = tuple[int, int]
Row = tuple[int, ...]  # count, sum, min, max, last, last_time, last_offset, through
EMPTY: Row = (0, 0, 0, 0, 0, 0, NOTHING, NOTHING)
NAMES = ("count", "sum", "min", "max", "last", "last_time", "last_offset", "through")
DECIMALS = ("sum", "min", "max", "last")

KEYS = st.tuples(st.integers(0, 3), st.sampled_from([-400_000, -1, 0, 1, 20_000, 500_000]))
AMOUNTS = st.integers(-3, 3) | st.integers(-(10**37), 10**37)
ROWS = st.tuples(
    st.integers(1, 3), AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, st.integers(-2, 2), st.integers(0, 9), st.integers(0, 99)
)
SHARES = st.dictionaries(KEYS, ROWS, min_size=1, max_size=8)
KEPT_KEYS = st.lists(KEYS, max_size=12)
ACTIONS = st.lists(
    st.tuples(st.just("merge"), SHARES) | st.tuples(st.just("load"), SHARES) | st.tuples(st.just("forget"), KEPT_KEYS),
    max_size=8,
)


def columns(kind: Any, rows: dict[Key, Row]) -> Any:
    values: dict[str, Any] = {
        "slot": np.array([slot for slot, _ in rows], dtype=np.int64),
        "ordinal": np.array([ordinal for _, ordinal in rows], dtype=np.int64),
    }
    for number, name in enumerate(NAMES):
        column = [row[number] for row in rows.values()]
        values[name] = from_ints(column) if name in DECIMALS else np.array(column, dtype=np.int64)
    return kind(**values)


def find(table: WindowTable, keys: list[Key]) -> Any:
    """The rows of windows; those that are not in memory are added."""
    slots, ordinals = np.array(keys, dtype=np.int64).reshape(-1, 2).T
    rows = table.find(slots, ordinals)
    new = rows == NONE
    rows[new] = table.add(slots[new], ordinals[new])
    return rows


def merge(table: WindowTable, rows: dict[Key, Row]) -> None:
    places = find(table, list(rows))
    table.write(places, merged_windows(table.read(places), columns(WindowRows, rows)))


def everything(table: WindowTable, at_once: int) -> list[tuple[int, int, int]]:
    """Row number, window number and `through` of all windows."""
    found, begin = list[tuple[int, int, int]](), 0
    while True:
        rows, ordinals, through, begin = table.scan(begin, at_once)
        found += zip(rows.tolist(), ordinals.tolist(), through.tolist(), strict=True)
        if begin == 0:
            return found


def contents(table: WindowTable, keys: list[Key]) -> dict[Key, Row]:
    state = table.read(find(table, keys))
    assert list(zip(state.slot.tolist(), state.ordinal.tolist(), strict=True)) == keys
    values = [getattr(state, name).to_ints() if name in DECIMALS else getattr(state, name).tolist() for name in NAMES]
    return dict(zip(keys, zip(*values, strict=True), strict=True))


def merged(old: Row | None, share: Row) -> Row:
    if old is None or old[0] == 0:
        return share
    count, total, low, high, last, time, offset, through = old
    newest = max((time, offset, last), (share[5], share[6], share[4]), key=lambda entry: entry[:2])
    return (
        count + share[0],
        total + share[1],
        min(low, share[2]),
        max(high, share[3]),
        newest[2],
        newest[0],
        newest[1],
        max(through, share[7]),
    )


@hypothesis_settings(max_examples=200)
@given(ACTIONS)
def test_find_merge_load_scan_and_forget(actions: list[tuple[str, Any]]) -> None:
    table, naive = WindowTable(), dict[Key, Row]()
    for action, rows in actions:
        if action == "merge":
            merge(table, rows)
            naive.update({key: merged(naive.get(key), row) for key, row in rows.items()})
        elif action == "load":
            fresh = {key: row for key, row in rows.items() if key not in naive}
            table.load(columns(WindowRows, fresh))
            naive.update(fresh)
        else:
            gone = sorted({key for key in rows if key in naive})
            slots = table.forget(find(table, gone))
            assert slots.tolist() == [slot for slot, _ in gone]
            naive = {key: row for key, row in naive.items() if key not in gone}
        assert len(table) == len(naive)
        seen = everything(table, 3)
        assert sorted((ordinal, through) for _, ordinal, through in seen) == sorted(
            (ordinal, row[7]) for (_, ordinal), row in naive.items()
        )
        assert sorted(row for row, _, _ in seen) == sorted(find(table, list(naive)).tolist())
        if naive:
            assert contents(table, list(naive)) == naive


def test_an_unknown_window_is_empty_and_stands_before_offset_zero() -> None:
    table = WindowTable()
    assert contents(table, [(0, 5)]) == {(0, 5): EMPTY}
    assert table.read(find(table, [(0, 5), (1, 5)])).through.tolist() == [-1, -1]


def test_equal_slots_and_ordinals_do_not_meet() -> None:
    keys = [(1, 2), (2, 1), (0, 1), (1, 0), (2**31 - 1, 0), (0, 2**31 - 1), (2**31 - 1, -1), (0, -(2**31))]
    rows = {key: (1, number, 0, 0, 0, 0, 0, number) for number, key in enumerate(keys)}
    table = WindowTable()
    merge(table, rows)
    assert contents(table, keys) == rows


def test_thousands_of_windows_in_any_order() -> None:
    rng = np.random.default_rng(1)
    table, naive = WindowTable(), dict[Key, Row]()
    for step in range(12):
        picked = rng.permutation(4000)[:700]
        rows = {(int(n) % 50, int(n) // 50 - 20): (1, int(n), 0, step, step, step, step, step) for n in picked}
        merge(table, rows)
        naive.update({key: merged(naive.get(key), row) for key, row in rows.items()})
    assert contents(table, list(naive)) == naive


def test_an_overflow_changes_no_row() -> None:
    table = WindowTable()
    keys = [(0, 0), (1, 0)]
    full = dict.fromkeys(keys, (1, LIMIT - 2, 0, 0, 0, 0, 0, 0))
    merge(table, full)
    more = {(0, 0): (1, 1, 0, 0, 0, 1, 1, 1), (1, 0): (1, 2, 0, 0, 0, 1, 1, 1)}
    with pytest.raises(Fatal):
        merge(table, more)
    assert contents(table, keys) == full


@pytest.mark.parametrize(
    "row",
    [
        (1, 2**63, 0, 0, 0, 0, 0, 0),
        (1, 0, -(2**63) - 1, 0, 0, 0, 0, 0),
        (2**31, 0, 0, 0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0, 0, 0, 2**32),
        (1, 0, 0, 0, 0, 0, 5, 4),
    ],
)
def test_what_does_not_fit_into_a_row_widens_the_table(row: Row) -> None:
    table = WindowTable()
    narrow = {(number, 1): (number + 1, -number, 1, 2, 3, 4, 5, 6) for number in range(20)}
    merge(table, narrow)
    narrow_bytes = table.nbytes
    merge(table, {(99, 1): row})
    merge(table, {(number, 2): row for number in range(2_000)})
    assert contents(table, list(narrow)) == narrow
    assert contents(table, [(99, 1), (1_999, 2)]) == {(99, 1): row, (1_999, 2): row}
    assert table.nbytes > narrow_bytes


def test_bytes_per_window_are_those_of_the_documentation() -> None:
    table = WindowTable()
    slots = np.arange(400_000)
    for begin in range(0, len(slots), 50_000):
        table.add(slots[begin : begin + 50_000], np.zeros(50_000, dtype=np.int64))
    assert 72 <= table.nbytes / len(table) < 72 * 1.08
