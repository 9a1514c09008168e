"""Rows of equal width in one block of memory that grows in place, with reuse of rows that were freed.

A row is a few 64-bit integers side by side, so that a batch which touches rows anywhere waits for the memory once per
row, not once per column. The block grows by a sixteenth: the C library moves the pages of a large block instead of
copying them, so no batch pays for all rows, and little memory lies idle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.intp]

_SPARE = 1024


def grown(array: npt.NDArray[Any], size: int, fill: int | None = None) -> None:
    """Make room for `size` entries along the first axis, in place. No view of the array may be in use."""
    old = len(array)
    if size <= old:
        return
    array.resize((size + size // 16 + _SPARE, *array.shape[1:]), refcheck=False)
    if fill is not None:
        array[old:] = fill


class FreeList:
    """Numbers that can be used again, the ones freed last first."""

    def __init__(self) -> None:
        self._parts: list[Int64s] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, numbers: Int64s) -> None:
        if len(numbers):
            self._parts.append(numbers)
            self._size += len(numbers)

    def take(self, count: int) -> Int64s:
        """At most `count` of them."""
        taken: list[Int64s] = []
        missing = count
        while missing and self._parts:
            part = self._parts.pop()
            if len(part) > missing:
                self._parts.append(part[missing:])
                part = part[:missing]
            taken.append(part)
            missing -= len(part)
        self._size -= count - missing
        return np.concatenate(taken) if taken else np.empty(0, dtype=np.int64)


class Rows:
    """Not for several threads at once."""

    def __init__(self, width: int) -> None:
        self._whole = np.dtype((np.void, 8 * width))  # a row as one value is written three times as fast
        self._cells = np.empty((0, width), dtype=np.int64)
        self._free = FreeList()
        self._end = 0

    def __len__(self) -> int:
        """The rows in use."""
        return self._end - len(self._free)

    @property
    def end(self) -> int:
        """No row number reaches it."""
        return self._end

    @property
    def nbytes(self) -> int:
        return self._cells.nbytes

    def take(self, count: int) -> RowNumbers:
        """Row numbers that are not in use; what is in these rows is undefined."""
        reused = self._free.take(count)
        begin = self._end
        self._end += count - len(reused)
        grown(self._cells, self._end)
        return np.append(reused, np.arange(begin, self._end))

    def give_back(self, rows: RowNumbers) -> None:
        """Let rows be used again."""
        self._free.put(rows)

    def read(self, rows: RowNumbers) -> Int64s:
        """A copy of these rows, one after the other."""
        return self._cells.take(rows, axis=0)

    def read_column(self, column: int, rows: RowNumbers) -> Int64s:
        values: Int64s = self._cells[:, column][rows]
        return values

    def read_slice(self, begin: int, end: int) -> Int64s:
        """A copy of the rows of a span of numbers, whether they are in use or not."""
        return self._cells[begin:end].copy()

    def write(self, rows: RowNumbers, cells: Int64s) -> None:
        """Replace whole rows; `cells` is contiguous."""
        self._cells.reshape(-1).view(self._whole)[rows] = cells.reshape(-1).view(self._whole)

    def write_column(self, column: int, rows: RowNumbers, values: Int64s | int) -> None:
        self._cells[rows, column] = values

    def add_to_column(self, column: int, rows: RowNumbers, value: int) -> None:
        """Add to the value of each row, as often as the row occurs."""
        np.add.at(self._cells[:, column], rows, value)
