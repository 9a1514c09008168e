"""The bytes of subject keys, packed into 64-bit words: a column in one Arrow buffer, a store of those in memory.

A key is padded with zeros to whole words, and its length is kept beside it. The blocks of the store have as many words
as their key; a freed block waits for another key of as many words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from meterfold_processor.columns.rows import FreeList, grown

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
RowNumbers = npt.NDArray[np.intp]

_WORD = 8
_PADDING = pa.array([bytes(size) for size in range(_WORD)], pa.large_binary())
_NO_SEPARATOR: Any = pa.scalar(b"", pa.large_binary())


@dataclass(frozen=True, slots=True)
class PackedKeys:
    """A column of keys: the words of key n begin at `starts[n]`; `lengths` in bytes."""

    words: UInt64s
    starts: Int64s
    lengths: Int64s

    @classmethod
    def of(cls, keys: pl.Series) -> PackedKeys:
        """`keys` is Binary; a null is packed as an empty key."""
        column: Any = keys.fill_null(b"").to_arrow(compat_level=pl.CompatLevel.oldest())
        lengths = pc.binary_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
        padding: Any = _PADDING.take(pa.array(-lengths % _WORD))
        padded: Any = pc.binary_join_element_wise(column, padding, _NO_SEPARATOR)
        sizes = words_of(lengths)
        words = np.frombuffer(padded.buffers()[2] or b"", dtype=np.uint64, count=int(sizes.sum()))
        return cls(words, np.cumsum(sizes) - sizes, lengths)


class KeyStore:
    """Not for several threads at once."""

    def __init__(self) -> None:
        self._words = np.empty(0, dtype=np.uint64)
        self._end = 0
        self._free: dict[int, FreeList] = {}  # words of a block -> where such blocks are free

    @property
    def nbytes(self) -> int:
        return self._words.nbytes

    def add(self, keys: PackedKeys, which: RowNumbers) -> Int64s:
        """Store the keys `which`; returns where the block of each begins."""
        starts = np.empty(len(which), dtype=np.int64)
        for size, members in _by_size(keys.lengths[which]):
            starts[members] = places = self._allocate(size, len(members))
            within = np.arange(size)
            self._words[places[:, None] + within] = keys.words[keys.starts[which[members], None] + within]
        return starts

    def same(self, starts: Int64s, keys: PackedKeys, which: RowNumbers) -> Bools:
        """Whether the block that begins at each of `starts` holds the key of `which`, which is as long."""
        answer = np.empty(len(which), dtype=np.bool_)
        for size, members in _by_size(keys.lengths[which]):
            within = np.arange(size)
            ours = self._words.take(starts[members, None] + within)
            answer[members] = (ours == keys.words.take(keys.starts[which[members], None] + within)).all(axis=1)
        return answer

    def free(self, starts: Int64s, lengths: Int64s) -> None:
        """Let blocks be used again."""
        for size, members in _by_size(lengths):
            self._free.setdefault(size, FreeList()).put(starts[members])

    def _allocate(self, size: int, count: int) -> Int64s:
        reused = self._free.setdefault(size, FreeList()).take(count)
        begin = self._end
        self._end += size * (count - len(reused))
        grown(self._words, self._end)
        return np.append(reused, np.arange(begin, self._end, size))


def words_of(lengths: Int64s) -> Int64s:
    """The words of keys of these lengths."""
    return -(-lengths // _WORD)


def _by_size(lengths: Int64s) -> list[tuple[int, RowNumbers]]:
    sizes = words_of(lengths)
    return [(size, np.flatnonzero(sizes == size)) for size in np.flatnonzero(np.bincount(sizes)).tolist()]
