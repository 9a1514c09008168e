"""Identities of a time that is over, in about 2.5 bytes each: a table that never misses one and sometimes claims one.

The first bits of an identity's hash number a bucket, the next 16 are kept in it, sorted. A hash that was added is
always found. Another one is found with a probability of (identities per bucket) / 65,536, 0.01 to 0.02 %: a hit is
only a candidate, which is looked up exactly.

A table is stored in pieces, each a range of buckets: small enough to be read alone, so that `rests`, the last 32
bits of each hash, can dismiss most false hits without a look at the records. Only counts and remainders are kept in
memory.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]
UInt16s = npt.NDArray[np.uint16]
Bools = npt.NDArray[np.bool_]

_HASH_BITS = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """How tables are made: a bucket holds `load` to 2 x `load` identities on average, and a piece has 2 ** piece_bits
    buckets."""

    remainder_bits: int = 16
    rest_bits: int = 32
    load: float = 6.8
    piece_bits: int = 10


SHAPE = Shape()
"""At most 2 + 4 / 6.8 = 2.59 bytes per identity, and pieces of 7,000 to 14,000 identities."""


@dataclass(frozen=True, slots=True)
class Version:
    """A table of one partition that was stored: the identities counted with a broker stamp from `week`, the start of a
    week, to `until` (UTC microseconds; exclusive) and at an offset below `through`, and perhaps some more."""

    week: int
    until: int
    through: int
    bits: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One range of buckets. `counts` has the identities of each bucket, the other two one value per identity, in the
    same order."""

    number: int
    counts: UInt32s
    remainders: UInt16s
    rests: UInt32s

    def checksum(self, bits: int) -> int:
        """Of all that is kept in memory, and of how it was made."""
        made = f"{bits}/{self.number}/{SHAPE.remainder_bits}/{SHAPE.piece_bits}".encode()
        return zlib.crc32(self.remainders.tobytes(), zlib.crc32(self.counts.tobytes(), zlib.crc32(made)))

    def is_sound(self, bits: int, checksum: int) -> bool:
        """Whether the piece is what was stored."""
        return (
            self.checksum(bits) == checksum
            and len(self.counts) == 1 << min(bits, SHAPE.piece_bits)
            and int(self.counts.sum()) == len(self.remainders)
        )


def bucket_bits(identities: int) -> int:
    """The number of buckets for this many identities, as a power of two."""
    return max(0, int(math.log2(max(1, identities) / SHAPE.load)))


def piece_count(bits: int) -> int:
    return 1 << max(0, bits - SHAPE.piece_bits)


def piece_of(hashes: UInt64s, bits: int) -> npt.NDArray[np.int64]:
    """The number of the piece of each hash."""
    return _first_bits(hashes, max(0, bits - SHAPE.piece_bits))


def hash_range(bits: int, first: int, end: int) -> tuple[int, int]:
    """The lowest and the highest hash of the pieces [first, end)."""
    shift = _HASH_BITS - max(0, bits - SHAPE.piece_bits)
    return first << shift, (end << shift) - 1


def pieces_of(hashes: UInt64s, bits: int, first: int, end: int) -> list[Piece]:
    """The pieces [first, end) of a table. `hashes` are all of their range: they rise, and none comes twice."""
    size = 1 << min(bits, SHAPE.piece_bits)
    buckets = _first_bits(hashes, bits) - first * size
    counts = np.bincount(buckets, minlength=(end - first) * size).astype(np.uint32)
    remainders, rests = _remainders(hashes, bits), last_bits(hashes)
    edges = np.searchsorted(buckets, np.arange(0, (end - first + 1) * size, size))
    return [
        Piece(
            first + number,
            counts[number * size : (number + 1) * size],
            remainders[edges[number] : edges[number + 1]],
            rests[edges[number] : edges[number + 1]],
        )
        for number in range(end - first)
    ]


@dataclass(frozen=True, slots=True)
class IdentityTable:
    """2 ** bits buckets: the remainders of bucket b are remainders[starts[b] : starts[b + 1]], and rise."""

    bits: int
    starts: UInt32s
    remainders: UInt16s
    _steps: int

    @classmethod
    def of(cls, bits: int, counts: Sequence[UInt32s], remainders: Sequence[UInt16s]) -> Self:
        """From the counts and remainders of all its pieces, in order."""
        starts = np.zeros((1 << bits) + 1, dtype=np.uint32)
        place, largest = 1, 0
        for part in counts:
            starts[place : place + len(part)] = part
            place += len(part)
            largest = max(largest, int(part.max(initial=0)))
        np.cumsum(starts, dtype=np.uint32, out=starts)
        joined = np.concatenate(remainders) if remainders else np.empty(0, dtype=np.uint16)
        return cls(bits, starts, joined, largest.bit_length())

    def __len__(self) -> int:
        return len(self.remainders)

    @property
    def nbytes(self) -> int:
        return self.starts.nbytes + self.remainders.nbytes

    def contains(self, sorted_hashes: UInt64s) -> Bools:
        """Which of the hashes, which rise, may be in the table: all that are, and few that are not.

        One binary search in the bucket of each, all at once. Hashes that rise walk through the table once: in any
        other order most steps would wait for memory.
        """
        if not len(self.remainders):
            return np.zeros(len(sorted_hashes), dtype=np.bool_)
        buckets = _first_bits(sorted_hashes, self.bits)
        wanted = _remainders(sorted_hashes, self.bits)
        low = self.starts.take(buckets)
        end = self.starts.take(buckets + 1)
        high = end.copy()
        for _ in range(self._steps):
            middle = (low + high) >> np.uint32(1)
            less = self.remainders.take(middle, mode="clip") < wanted
            less &= low < high
            np.copyto(low, middle + np.uint32(1), where=less)
            np.copyto(high, middle, where=~less)
        found: Bools = (low < end) & (self.remainders.take(low, mode="clip") == wanted)
        return found


def last_bits(hashes: UInt64s) -> UInt32s:
    """What `rests` keep of hashes."""
    return (hashes & np.uint64((1 << SHAPE.rest_bits) - 1)).astype(np.uint32)


def _first_bits(hashes: UInt64s, bits: int) -> npt.NDArray[np.int64]:
    if bits == 0:  # a shift by 64 is not defined
        return np.zeros(len(hashes), dtype=np.int64)
    return (hashes >> np.uint64(_HASH_BITS - bits)).astype(np.int64)


def _remainders(hashes: UInt64s, bits: int) -> UInt16s:
    shifted = hashes >> np.uint64(_HASH_BITS - bits - SHAPE.remainder_bits)
    return (shifted & np.uint64((1 << SHAPE.remainder_bits) - 1)).astype(np.uint16)
