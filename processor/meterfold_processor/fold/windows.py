"""The state of the windows of one partition and one period, in memory.

One row per window, found by subject and window number; a batch is merged by a handful of array operations that touch
its own rows and no others. A row holds everything that `usage_windows` stores. `through` is the highest offset folded
into the row: -1, and never 0, in a row that has folded nothing, since 0 is the offset of an event.

Memory: 72 bytes per window. 48 bytes more per window of a period in which one amount has reached 2^63 billionths (9.2
billion units), or one window 2^32 events.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from meterfold_processor.columns.limbs import Limbs, add, less
from meterfold_processor.columns.row_index import RowIndex
from meterfold_processor.columns.rows import Rows, grown
from meterfold_processor.fold.grouping import WindowRows
from meterfold_schemas.totals import AMOUNTS

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
RowNumbers = npt.NDArray[np.intp]

NOTHING = -1
"""`folded_through` of a window without events."""

_KEY, _COUNTS, _LAST_TIME, _THROUGH, _LOW = 0, 1, 2, 3, 4
_WIDTH = _LOW + len(AMOUNTS)
_COUNT, _LAST_OFFSET, _HIGH = 0, 1, 2
_WIDE_WIDTH = _HIGH + len(AMOUNTS)

_HALF = 32
_LOWER_HALF = (1 << _HALF) - 1
_FREE = -1
"""The key of a row that is not in use: the slot of a subject has 31 bits, so no window has this key."""
_SPREAD = np.uint64(0x9E37_79B9_7F4A_7C15)


class WindowTable:
    """Finds, adds, reads, writes and forgets windows. Not for several threads at once."""

    def __init__(self) -> None:
        self._rows = Rows(_WIDTH)
        self._index = RowIndex(lambda rows: _hashes(self._rows.read_column(_KEY, rows)))
        # What does not fit into a row of `_rows`, under the same row numbers: nearly no table needs it.
        self._wide: Int64s | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + self._index.nbytes + (0 if self._wide is None else self._wide.nbytes)

    def find(self, slot: Int64s, ordinal: Int64s) -> RowNumbers:
        """The row of each window, NONE where it is not in memory."""
        keys = _keys(slot, ordinal)
        return self._index.find(_hashes(keys), lambda rows, which: self._rows.read_column(_KEY, rows) == keys[which])

    def add(self, slot: Int64s, ordinal: Int64s) -> RowNumbers:
        """Rows for windows that are not in memory, which are distinct; nothing is folded into them yet."""
        keys = _keys(slot, ordinal)
        rows = self._rows.take(len(keys))
        cells = np.zeros((len(keys), _WIDTH), dtype=np.int64)
        cells[:, _KEY] = keys
        cells[:, _THROUGH] = NOTHING
        self._rows.write(rows, cells)
        if self._wide is not None:
            grown(self._wide, self._rows.end)
            self._wide[rows] = 0
        self._index.insert(_hashes(keys), rows)
        return rows

    def read(self, rows: RowNumbers) -> WindowRows:
        cells = np.ascontiguousarray(self._rows.read(rows).T)
        through, low = cells[_THROUGH], cells[_LOW:]
        if self._wide is None:
            count, last_offset = cells[_COUNTS] >> _HALF, through - (cells[_COUNTS] & _LOWER_HALF)
            high = low >> 63
        else:
            wide = np.ascontiguousarray(self._wide.take(rows, axis=0).T)
            count, last_offset, high = wide[_COUNT], wide[_LAST_OFFSET], wide[_HIGH:]
        amounts = {name: Limbs(low[n].view(np.uint64), high[n]) for n, name in enumerate(AMOUNTS)}
        return WindowRows(
            slot=cells[_KEY] & _LOWER_HALF,
            ordinal=cells[_KEY] >> _HALF,
            count=count,
            last_time=cells[_LAST_TIME],
            last_offset=last_offset,
            through=through,
            **amounts,
        )

    def write(self, rows: RowNumbers, state: WindowRows) -> None:
        """Replace what is in the rows by `state`, which is about the same windows."""
        amounts: list[Limbs] = [getattr(state, name) for name in AMOUNTS]
        lag = state.through - state.last_offset
        fits = bool(np.all((state.count <= _LOWER_HALF >> 1) & (lag >= 0) & (lag <= _LOWER_HALF)))
        if self._wide is None and not (fits and all(amount.fits_int64() for amount in amounts)):
            self._widen()
        cells = np.empty((len(rows), _WIDTH), dtype=np.int64)
        cells[:, _KEY] = _keys(state.slot, state.ordinal)
        cells[:, _COUNTS] = state.count << _HALF | lag & _LOWER_HALF
        cells[:, _LAST_TIME] = state.last_time
        cells[:, _THROUGH] = state.through
        for number, amount in enumerate(amounts, _LOW):
            cells[:, number] = amount.lo.view(np.int64)
        self._rows.write(rows, cells)
        if self._wide is not None:
            self._wide[rows] = np.stack([state.count, state.last_offset, *(amount.hi for amount in amounts)], axis=1)

    def load(self, stored: WindowRows) -> None:
        """Take over stored windows, none of which is in memory."""
        self.write(self.add(stored.slot, stored.ordinal), stored)

    def scan(self, begin: int, count: int) -> tuple[RowNumbers, Int64s, Int64s, int]:
        """Look at up to `count` rows from row number `begin` on: row numbers, window numbers and `through` of the
        windows among them, and where to go on; 0 after the last."""
        end = min(begin + count, self._rows.end)
        cells = self._rows.read_slice(begin, end)
        rows = np.flatnonzero(cells[:, _KEY] != _FREE)
        found = cells[rows]
        return rows + begin, found[:, _KEY] >> _HALF, found[:, _THROUGH], 0 if end == self._rows.end else end

    def sampled_through(self, count: int) -> Int64s:
        """`through` of about `count` windows, evenly spread over the rows."""
        if self._rows.end == 0:
            return np.empty(0, dtype=np.int64)
        cells = self._rows.read(np.linspace(0, self._rows.end - 1, min(count, self._rows.end)).astype(np.intp))
        sample: Int64s = cells[cells[:, _KEY] != _FREE, _THROUGH]
        return sample

    def forget(self, rows: RowNumbers) -> Int64s:
        """Drop rows, which are distinct; returns the slot of each."""
        keys = self._rows.read_column(_KEY, rows)
        self._index.remove(_hashes(keys), rows)
        self._rows.write_column(_KEY, rows, _FREE)
        self._rows.give_back(rows)
        return keys & _LOWER_HALF

    def _widen(self) -> None:
        every = np.arange(self._rows.end)
        state = self.read(every)
        self._wide = np.stack(
            [state.count, state.last_offset, *(getattr(state, name).hi for name in AMOUNTS)], axis=1, dtype=np.int64
        )


def merged(old: WindowRows, shares: WindowRows) -> WindowRows:
    """The windows `old` with a batch's shares of the same windows. Every event of a share is new to its window; Fatal
    when a sum overflows."""
    first = old.count == 0
    newer = first | (shares.last_time > old.last_time)
    newer |= (shares.last_time == old.last_time) & (shares.last_offset > old.last_offset)
    return replace(
        old,
        count=old.count + shares.count,
        sum=add(old.sum, shares.sum),
        min=shares.min.where(first | less(shares.min, old.min), old.min),
        max=shares.max.where(first | less(old.max, shares.max), old.max),
        last=shares.last.where(newer, old.last),
        last_time=np.where(newer, shares.last_time, old.last_time),
        last_offset=np.where(newer, shares.last_offset, old.last_offset),
        through=np.maximum(old.through, shares.through),
    )


def _keys(slot: Int64s, ordinal: Int64s) -> Int64s:
    """A window's number and subject in one integer."""
    return ordinal << _HALF | slot


def _hashes(keys: Int64s) -> UInt64s:
    spread = keys.view(np.uint64) * _SPREAD
    return spread ^ spread >> np.uint64(_HALF)
