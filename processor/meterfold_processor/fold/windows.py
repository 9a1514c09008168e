"""The state of the windows of one partition and one period, in memory.

One row per window; numpy columns, so that a batch is merged by a handful of array operations. A row holds everything
that `usage_windows` stores. `through` is the highest offset folded into the row: -1, and never 0, in a row that has
folded nothing, since 0 is the offset of an event.

Memory: 116 bytes per window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from meterfold_processor.columns.limbs import Limbs, add, less
from meterfold_processor.fold.grouping import WindowRows
from meterfold_schemas.totals import AMOUNTS

Int64s = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

NOTHING = -1
"""`folded_through` of a window without events."""

_SLOT_BITS = 31
_INTEGERS = ("slot", "ordinal", "count", "last_time", "last_offset", "through")


class WindowTable:
    """Finds, adds, merges and evicts windows. Not for several threads at once."""

    def __init__(self) -> None:
        self._size = 0
        self._keys = np.empty(0, dtype=np.int64)  # sorted; ordinal and slot in one integer
        self._rows = np.empty(0, dtype=np.intp)  # the row of each key
        self._integers = {name: np.empty(0, dtype=np.int64) for name in _INTEGERS}
        self._low = {name: np.empty(0, dtype=np.uint64) for name in AMOUNTS}
        self._high = {name: np.empty(0, dtype=np.int64) for name in AMOUNTS}

    def __len__(self) -> int:
        return self._size

    def find(self, slot: Int64s, ordinal: Int64s) -> RowNumbers:
        """The row of each window; one that is not known yet gets an empty row. The windows named are distinct."""
        keys = (ordinal << _SLOT_BITS) | slot
        place = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), dtype=np.bool_)
        inside = place < len(self._keys)
        known[inside] = self._keys[place[inside]] == keys[inside]
        rows = np.empty(len(keys), dtype=np.intp)
        rows[known] = self._rows[place[known]]
        fresh = np.flatnonzero(~known)
        if len(fresh):
            added = self._extend(slot[fresh], ordinal[fresh])
            rows[fresh] = added
            order = np.argsort(keys[fresh])
            where = place[fresh][order]
            self._keys = np.insert(self._keys, where, keys[fresh][order])
            self._rows = np.insert(self._rows, where, added[order])
        return rows

    def through(self, rows: RowNumbers) -> Int64s:
        return self._integers["through"][rows]

    def merge(self, rows: RowNumbers, shares: WindowRows) -> None:
        """Add a batch's shares to their rows. Every event of a share is new to its row; Fatal when a sum overflows,
        and then no row has changed."""
        old = self.read(rows)
        first = old.count == 0
        total = add(old.sum, shares.sum)
        newer = first | (shares.last_time > old.last_time)
        newer |= (shares.last_time == old.last_time) & (shares.last_offset > old.last_offset)
        columns = {
            "sum": total,
            "min": shares.min.where(first | less(shares.min, old.min), old.min),
            "max": shares.max.where(first | less(old.max, shares.max), old.max),
            "last": shares.last.where(newer, old.last),
        }
        for name, column in columns.items():
            self._low[name][rows] = column.lo
            self._high[name][rows] = column.hi
        self._integers["count"][rows] = old.count + shares.count
        self._integers["last_time"][rows] = np.where(newer, shares.last_time, old.last_time)
        self._integers["last_offset"][rows] = np.where(newer, shares.last_offset, old.last_offset)
        self._integers["through"][rows] = np.maximum(old.through, shares.through)

    def read(self, rows: RowNumbers) -> WindowRows:
        columns: dict[str, Any] = {name: column[rows] for name, column in self._integers.items()}
        for name in AMOUNTS:
            columns[name] = Limbs(self._low[name][rows], self._high[name][rows])
        return WindowRows(**columns)

    def load(self, stored: WindowRows) -> None:
        """Take over stored windows, each of them not known yet."""
        rows = self.find(stored.slot, stored.ordinal)
        for name in _INTEGERS:
            self._integers[name][rows] = getattr(stored, name)
        for name in AMOUNTS:
            column: Limbs = getattr(stored, name)
            self._low[name][rows] = column.lo
            self._high[name][rows] = column.hi

    def keep_only(self, keep: Bools) -> None:
        """Forget the rows where `keep` is false (one flag per row, in the order of `ordinals`)."""
        kept = np.flatnonzero(keep)
        for columns in self._columns():
            for name, column in columns.items():
                columns[name] = column[kept]
        self._size = len(kept)
        keys = (self._integers["ordinal"] << _SLOT_BITS) | self._integers["slot"]
        order = np.argsort(keys)
        self._keys, self._rows = keys[order], order

    def ordinals(self) -> Int64s:
        """The window number of every row."""
        return self._integers["ordinal"][: self._size]

    def _columns(self) -> tuple[dict[str, Any], ...]:
        return self._integers, self._low, self._high

    def _extend(self, slot: Int64s, ordinal: Int64s) -> RowNumbers:
        begin, end = self._size, self._size + len(slot)
        if end > len(self._integers["slot"]):
            room = max(1024, end + end // 2)
            for columns in self._columns():
                for name, column in columns.items():
                    columns[name] = np.concatenate((column[:begin], np.zeros(room - begin, dtype=column.dtype)))
        self._size = end
        for name in _INTEGERS:
            self._integers[name][begin:end] = 0
        for name in AMOUNTS:
            self._low[name][begin:end] = 0
            self._high[name][begin:end] = 0
        self._integers["slot"][begin:end] = slot
        self._integers["ordinal"][begin:end] = ordinal
        self._integers["through"][begin:end] = NOTHING
        return np.arange(begin, end)
