"""A hash index from 64-bit hashes to row numbers, whose every operation costs as much as the batch it is given.

Chains hang on buckets, and there is about one bucket per row: *linear hashing*. Where a batch adds a thousand rows, a
thousand buckets are split, and the others stay as they are; there is no moment at which all rows are hashed again. A
removed row leaves its chain at once, so nothing gathers that would have to be cleaned up.

Equal hashes are told apart by whoever asks: `find` shows candidates to a function that compares what was hashed.

Memory: 8 bytes per row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from meterfold_processor.columns.distinct import distinct
from meterfold_processor.columns.rows import grown

UInt64s = npt.NDArray[np.uint64]
RowNumbers = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

NONE = -1
"""In place of a row that is not in the index."""
_REMOVED = -2


class RowIndex:
    """`hash_of` gives the hashes of rows that are in the index. Not for several threads at once."""

    def __init__(self, hash_of: Callable[[RowNumbers], UInt64s], buckets: int = 1024) -> None:
        """`buckets`, a power of two, at the beginning."""
        self._hash_of = hash_of
        self._heads = np.full(buckets, NONE, dtype=np.int32)  # bucket -> the first row of its chain
        self._next = np.empty(0, dtype=np.int32)  # row -> the next one of the chain
        self._low = buckets  # the number of buckets with which this round of splits began
        self._buckets = buckets
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        return self._heads.nbytes + self._next.nbytes

    def find(self, hashes: UInt64s, matches: Callable[[RowNumbers, RowNumbers], Bools]) -> RowNumbers:
        """The row of each hash, or NONE. `matches(rows, which)` compares candidate rows with the entries `which` of
        `hashes`."""
        rows = self._heads[self._bucket(hashes)].astype(np.intp)
        which = np.flatnonzero(rows >= 0)
        while len(which):
            candidates = rows[which]
            which = which[~matches(candidates, which)]
            following = self._next[rows[which]].astype(np.intp)
            rows[which] = following
            which = which[following >= 0]
        return rows

    def insert(self, hashes: UInt64s, rows: RowNumbers) -> None:
        """Add rows, none of which is in the index; `hash_of` must know them already."""
        if len(rows) == 0:
            return
        grown(self._next, int(rows.max()) + 1)
        self._size += len(rows)
        self._split()
        self._link(hashes, rows)

    def remove(self, hashes: UInt64s, rows: RowNumbers) -> None:
        """Take out rows that are in the index, with their hashes."""
        if len(rows) == 0:
            return
        members = self._take_out(distinct(self._bucket(hashes)))
        self._next[rows] = _REMOVED
        left = members[self._next[members] != _REMOVED]
        self._link(self._hash_of(left), left)
        self._size -= len(rows)

    def _bucket(self, hashes: UInt64s) -> RowNumbers:
        bucket = (hashes & np.uint64(2 * self._low - 1)).astype(np.intp)
        bucket[bucket >= self._buckets] -= self._low
        return bucket

    def _link(self, hashes: UInt64s, rows: RowNumbers) -> None:
        """Put rows before the chains of their buckets: in each round one of those that belong to the same."""
        bucket = self._bucket(hashes)
        while len(rows):
            following = self._heads[bucket]
            self._heads[bucket] = rows
            is_first = self._heads[bucket] == rows
            self._next[rows[is_first]] = following[is_first]
            bucket, rows = bucket[~is_first], rows[~is_first]

    def _take_out(self, buckets: RowNumbers) -> RowNumbers:
        """Empty distinct buckets; returns the rows that were in them."""
        rows = self._heads[buckets].astype(np.intp)
        self._heads[buckets] = NONE
        found = []
        while len(rows := rows[rows >= 0]):
            found.append(rows)
            rows = self._next[rows].astype(np.intp)
        return np.concatenate(found) if found else np.empty(0, dtype=np.intp)

    def _split(self) -> None:
        """Split as many buckets as there will be rows above one per bucket."""
        while (count := min(self._size - self._buckets, 2 * self._low - self._buckets)) > 0:
            first = self._buckets - self._low
            grown(self._heads, self._buckets + count, fill=NONE)
            moved = self._take_out(np.arange(first, first + count))
            self._buckets += count
            self._link(self._hash_of(moved), moved)
            if self._buckets == 2 * self._low:
                self._low *= 2
