"""128-bit integers as two 64-bit numpy columns.

A quantity is decimal(38,9): an integer of at most 38 digits that counts billionths. numpy has no such type, and a
Python integer per row costs more than the whole fold, so a column of them is a pair of arrays: `lo`, the lower 64
bits (uint64), and `hi`, the upper 64 bits (int64, two's complement). This is Arrow's own layout of decimal128, so
columns come from Arrow and go back to it without a conversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterfold_schemas.errors import Fatal

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DECIMAL = pa.decimal128(38, 9)
LIMIT = 10**38
"""The first magnitude that decimal(38,9) cannot hold; ClickHouse and polars wrap silently beyond it."""

_LIMIT_HI = LIMIT >> 64
_LOW_HALF = np.uint64(0xFFFF_FFFF)
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Limbs:
    """A column of 128-bit integers; both arrays have one length."""

    lo: UInt64s
    hi: Int64s

    def __len__(self) -> int:
        return len(self.lo)

    def take(self, rows: npt.NDArray[np.intp]) -> Limbs:
        return Limbs(self.lo[rows], self.hi[rows])

    def where(self, mask: Bools, other: Limbs) -> Limbs:
        """This column where `mask` holds, `other` elsewhere."""
        return Limbs(np.where(mask, self.lo, other.lo), np.where(mask, self.hi, other.hi))

    def fits_int64(self) -> bool:
        """Whether every value is a plain 64-bit integer: the case of nearly every real batch."""
        return bool(np.all(self.hi == (self.lo.view(np.int64) >> 63)))

    def to_ints(self) -> list[int]:
        return [(int(h) << 64) + int(low) for low, h in zip(self.lo, self.hi, strict=True)]


def from_ints(values: list[int]) -> Limbs:
    return Limbs(
        np.array([v & 0xFFFF_FFFF_FFFF_FFFF for v in values], dtype=np.uint64),
        np.array([v >> 64 for v in values], dtype=np.int64),
    )


def from_int64(values: Int64s) -> Limbs:
    return Limbs(values.view(np.uint64), values >> 63)


def concat(columns: list[Limbs]) -> Limbs:
    return Limbs(np.concatenate([c.lo for c in columns]), np.concatenate([c.hi for c in columns]))


def from_arrow(column: Any) -> Limbs:
    """The values of a decimal128 column (pyarrow Array or ChunkedArray) without nulls."""
    array: Any = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        raise ValueError("a decimal column with nulls has no 128-bit integers")
    size = len(array)
    if size == 0:
        return Limbs(np.empty(0, np.uint64), np.empty(0, np.int64))
    words = np.frombuffer(array.buffers()[1], dtype=np.uint64, count=2 * (size + array.offset))
    words = words[2 * array.offset :].reshape(size, 2)
    return Limbs(np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1]).view(np.int64))


def to_arrow(column: Limbs) -> Any:
    """A pyarrow decimal128(38, 9) array over a copy of the limbs."""
    words = np.empty((len(column), 2), dtype=np.uint64)
    words[:, 0] = column.lo
    words[:, 1] = column.hi.view(np.uint64)
    return pa.Array.from_buffers(DECIMAL, len(column), [None, pa.py_buffer(words.tobytes())])


def less(a: Limbs, b: Limbs) -> Bools:
    smaller: Bools = (a.hi < b.hi) | ((a.hi == b.hi) & (a.lo < b.lo))
    return smaller


def add(a: Limbs, b: Limbs) -> Limbs:
    """a + b; Fatal when a sum leaves decimal(38,9): a number that wrapped would be a wrong invoice."""
    lo = a.lo + b.lo
    carry = (lo < a.lo).astype(np.int64)
    hi = a.hi + b.hi
    wrapped = ((a.hi ^ hi) & (b.hi ^ hi)) < 0
    total = Limbs(lo, hi + carry)
    _refuse_overflow(total, wrapped)
    return total


def group_sums(values: Limbs, starts: npt.NDArray[np.intp]) -> Limbs:
    """The sum of each group of neighbours; `starts` holds the first row of each, rising, the first of them 0."""
    if values.fits_int64():
        plain = values.lo.view(np.int64)
        largest = max(int(plain.max()), -int(plain.min()))
        if largest * len(plain) < 2**63:
            return from_int64(np.add.reduceat(plain, starts))
    # Four 32-bit digits, each summed in 64 bits: exact for 2^31 rows, far more than a batch has.
    digit0 = np.add.reduceat(values.lo & _LOW_HALF, starts)
    digit1 = np.add.reduceat(values.lo >> _HALF, starts)
    upper = np.add.reduceat(values.hi, starts)
    digit1 += digit0 >> _HALF
    lo = (digit1 << _HALF) | (digit0 & _LOW_HALF)
    total = Limbs(lo, upper + (digit1 >> _HALF).view(np.int64))
    _refuse_overflow(total, np.zeros(len(total), dtype=np.bool_))
    return total


def group_extremes(values: Limbs, starts: npt.NDArray[np.intp]) -> tuple[Limbs, Limbs]:
    """The smallest and the largest value of each group of neighbours."""
    if values.fits_int64():
        plain = values.lo.view(np.int64)
        return from_int64(np.minimum.reduceat(plain, starts)), from_int64(np.maximum.reduceat(plain, starts))
    by_value = np.lexsort((values.lo, values.hi))
    rank = np.empty(len(values), dtype=np.int64)
    rank[by_value] = np.arange(len(values))
    smallest = by_value[np.minimum.reduceat(rank, starts)]
    largest = by_value[np.maximum.reduceat(rank, starts)]
    return values.take(smallest), values.take(largest)


def _refuse_overflow(total: Limbs, wrapped: Bools) -> None:
    suspect = wrapped | (total.hi >= _LIMIT_HI) | (total.hi <= -_LIMIT_HI - 1)
    if not suspect.any():
        return
    rows = np.flatnonzero(suspect)
    for row, value in zip(rows.tolist(), total.take(rows).to_ints(), strict=True):
        if wrapped[row] or abs(value) >= LIMIT:
            raise Fatal(
                "a window's sum left decimal(38,9): more than 29 integer digits. Nothing of this batch was written. "
                "Find the subject whose quantities are this large before you start the worker again"
            )
