"""The hash index and the rows that it finds, against a dict."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from meterfold_processor.columns.row_index import NONE, RowIndex
from meterfold_processor.columns.rows import Rows

KEYS = st.lists(st.integers(0, 60), unique=True, max_size=25)
ACTIONS = st.lists(st.tuples(st.sampled_from(["add", "add", "remove"]), KEYS), max_size=20)
HASHES = {
    "all equal": lambda keys: np.zeros(len(keys), dtype=np.uint64),
    "few": lambda keys: (keys % 3).astype(np.uint64),
    "spread": lambda keys: keys.astype(np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15),
}


class Table:
    """Keys in rows of (key, 7 * key), found by the index."""

    def __init__(self, hashes: Any, buckets: int = 1) -> None:
        self.hashes = hashes
        self.rows = Rows(2)
        self.index = RowIndex(lambda rows: hashes(self.rows.read_column(0, rows)), buckets)

    def find(self, keys: list[int]) -> Any:
        wanted = np.array(keys, dtype=np.int64)
        return self.index.find(self.hashes(wanted), lambda rows, which: self.rows.read_column(0, rows) == wanted[which])

    def add(self, keys: list[int]) -> list[int]:
        new = np.array(keys, dtype=np.int64)
        rows = self.rows.take(len(new))
        self.rows.write(rows, np.stack([new, 7 * new], axis=1))
        self.index.insert(self.hashes(new), rows)
        return [int(row) for row in rows]

    def remove(self, keys: list[int]) -> None:
        rows = self.find(keys)
        self.index.remove(self.hashes(np.array(keys, dtype=np.int64)), rows)
        self.rows.give_back(rows)


@hypothesis_settings(max_examples=150)
@given(st.sampled_from(sorted(HASHES)), ACTIONS)
def test_add_remove_and_find(hashes: str, actions: list[tuple[str, list[int]]]) -> None:
    table, naive = Table(HASHES[hashes]), dict[int, int]()
    for action, keys in actions:
        if action == "add":
            fresh = [key for key in keys if key not in naive]
            naive.update(zip(fresh, table.add(fresh), strict=True))
        else:
            gone = [key for key in keys if key in naive]
            table.remove(gone)
            for key in gone:
                del naive[key]
        everything = list(range(62))
        assert table.find(everything).tolist() == [naive.get(key, NONE) for key in everything]
        assert len(table.index) == len(table.rows) == len(naive)
        assert len(set(naive.values())) == len(naive)
        rows = np.array(list(naive.values()), dtype=np.intp)
        assert table.rows.read(rows).tolist() == [[key, 7 * key] for key in naive]


def test_freed_rows_are_used_before_new_ones() -> None:
    table = Table(HASHES["spread"])
    table.add(list(range(100)))
    table.remove(list(range(0, 100, 2)))
    assert max(table.add(list(range(200, 250)))) < 100
    assert table.add([999]) == [100]


def test_a_batch_works_on_its_own_buckets_alone() -> None:
    """With 200,000 rows a batch of 1,000 still hashes at most a few rows for each of its own again."""
    hashed = 0

    def counting(keys: Any) -> Any:
        nonlocal hashed
        hashed += len(keys)
        return HASHES["spread"](keys)

    table = Table(counting, 1024)
    for begin in range(0, 200_000, 1_000):
        hashed = 0
        table.add(list(range(begin, begin + 1_000)))
        assert hashed < 6_000
    hashed = 0
    table.remove(list(range(5_000, 6_000)))
    assert hashed < 8_000
    assert table.find([4_999, 5_000, 5_999, 6_000, 199_999, 200_000]).tolist() == [
        4_999,
        NONE,
        NONE,
        6_000,
        199_999,
        NONE,
    ]
