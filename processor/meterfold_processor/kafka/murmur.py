"""Kafka's murmur2 over a whole column of keys: `meterfold_schemas.keys.murmur2`, without a Python loop per key."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Int64s = npt.NDArray[np.int64]
UInt32s = npt.NDArray[np.uint32]

_SEED = np.uint32(0x9747B28C)
_M = np.uint32(0x5BD1E995)
_ROWS_AT_ONCE = 8192


def partitions_of(keys: pl.Series, partition_count: int) -> Int64s:
    """The partition that Kafka's default partitioner gives each key (a Binary series without nulls)."""
    hashes = np.concatenate(
        [_murmur2(keys.slice(start, _ROWS_AT_ONCE)) for start in range(0, max(len(keys), 1), _ROWS_AT_ONCE)]
    )
    return (hashes & np.uint32(0x7FFF_FFFF)).astype(np.int64) % partition_count


def _murmur2(keys: pl.Series) -> UInt32s:
    if keys.is_empty():
        return np.empty(0, dtype=np.uint32)
    words, starts, lengths = _words(keys)
    whole, left = np.divmod(lengths, 4)
    h = _SEED ^ lengths.astype(np.uint32)
    for number in range(int(whole.max())):
        k = words[starts + 4 * number] * _M
        k ^= k >> np.uint32(24)
        k *= _M
        h = np.where(number < whole, (h * _M) ^ k, h)
    # The last one to three bytes.
    rest = words[starts + 4 * whole] & ((1 << 8 * left) - 1).astype(np.uint32)
    h = np.where(left > 0, (h ^ rest) * _M, h)
    h ^= h >> np.uint32(13)
    h *= _M
    return h ^ (h >> np.uint32(15))


def _words(keys: pl.Series) -> tuple[UInt32s, Int64s, Int64s]:
    """The little-endian 32-bit word from each byte on, where each key begins, and its length in bytes. Behind the last
    key there are as many words as the longest one has bytes."""
    array: Any = keys.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(offsets)
    text = np.zeros(int(offsets[-1] - offsets[0] + lengths.max()) + 4, dtype=np.uint8)
    text[: offsets[-1] - offsets[0]] = np.frombuffer(array.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    return np.ndarray(len(text) - 3, "<u4", text, strides=(1,)), offsets[:-1] - offsets[0], lengths
