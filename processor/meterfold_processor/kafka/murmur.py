"""Kafka's murmur2 over a whole column of keys: `meterfold_schemas.keys.murmur2`, without a Python loop per key."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

UInt32s = npt.NDArray[np.uint32]

_SEED = np.uint32(0x9747B28C)
_M = np.uint32(0x5BD1E995)
_ROWS_AT_ONCE = 8192


def partitions_of(keys: pl.Series, partition_count: int) -> npt.NDArray[np.int64]:
    """The partition that Kafka's default partitioner gives each key (a Binary series without nulls)."""
    hashes = np.concatenate(
        [_murmur2(keys.slice(start, _ROWS_AT_ONCE)) for start in range(0, max(len(keys), 1), _ROWS_AT_ONCE)]
    )
    return (hashes & np.uint32(0x7FFF_FFFF)).astype(np.int64) % partition_count


def _murmur2(keys: pl.Series) -> UInt32s:
    if keys.is_empty():
        return np.empty(0, dtype=np.uint32)
    words, lengths = _padded(keys)
    whole = lengths // 4
    h = _SEED ^ lengths.astype(np.uint32)
    for number in range(words.shape[1]):
        k = words[:, number] * _M
        k ^= k >> np.uint32(24)
        k *= _M
        h = np.where(number < whole, (h * _M) ^ k, h)
    # The last one to three bytes; the padding is zero, so the word holds just them.
    rest = words[np.arange(len(lengths)), np.minimum(whole, words.shape[1] - 1)]
    h = np.where(lengths % 4 > 0, (h ^ rest) * _M, h)
    h ^= h >> np.uint32(13)
    h *= _M
    return h ^ (h >> np.uint32(15))


def _padded(keys: pl.Series) -> tuple[UInt32s, npt.NDArray[np.int64]]:
    """The keys as rows of little-endian 32-bit words, filled up with zeros, and their lengths in bytes."""
    array: Any = keys.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(array.buffers()[2] or b"", dtype=np.uint8)
    lengths = np.diff(offsets)
    width = 4 * (int(lengths.max()) // 4 + 1)
    column = np.arange(width)
    filled = column < lengths[:, None]
    matrix = np.zeros((len(lengths), width), dtype=np.uint8)
    matrix[filled] = data[(offsets[:-1, None] + column)[filled]]
    return matrix.view("<u4"), lengths
