"""Quantity columns as unscaled integers of scale 9, in one or two limbs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterfold_schemas.avro_columns import big_endian
from meterfold_schemas.quantities import MAX_UNSCALED, SCALE, UNIT

__all__ = ["is_quantity", "quantities"]

_STORED: Final = pa.decimal128(38, SCALE)
#: Integers up to here, times 10^9, fit 64 bits.
_SMALL: Final = (2**63 - 1) // UNIT
_LOW: Final = 2**64 - 1
#: A number of up to 15 significant digits is the shortest text of the float next to it, and no other one is.
_EXACT_DIGITS: Final = 10**15
_PLAIN: Final = r"^-?[0-9]{1,20}(\.[0-9]{1,9})?$"


def is_quantity(kind: Any) -> bool:
    """Whether `quantities` takes columns of this type."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_float32(kind)
        or pa.types.is_float64(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or (pa.types.is_decimal128(kind) and 0 <= kind.scale <= SCALE)
    )


def quantities(column: Any) -> tuple[Any, Any]:
    """(which rows are certainly valid, their encoded form). The others may be anything."""
    kind = column.type
    valid = np.ones(len(column), bool)
    if _is_text(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if column.null_count:
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        zero = Decimal(0) if pa.types.is_decimal(kind) else "0" if _is_text(kind) else 0
        column = column.fill_null(pa.scalar(zero, kind))
    if pa.types.is_integer(kind):
        right, high, low = _integers(column, kind)
    elif pa.types.is_floating(kind):
        right, high, low = _floats(column.to_numpy().astype(np.float64))
    elif _is_text(kind):
        plain = pc.match_substring_regex(column, _PLAIN)
        right, high, low = _decimals(pc.if_else(plain, column, "0").cast(_STORED))
        # RE2's $ is the end of the text, as fullmatch has it.
        right &= plain.to_numpy(zero_copy_only=False)
    else:
        right, high, low = _decimals(column)
    return valid & right, big_endian(high, low)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _integers(column: Any, kind: Any) -> tuple[Any, Any, Any]:
    numbers = column.to_numpy()
    if pa.types.is_unsigned_integer(kind):
        valid = numbers <= np.uint64(2**63 - 1)
        numbers = np.where(valid, numbers, 0)
    else:
        # The smallest int64 has no absolute value.
        valid = numbers > np.int64(-(2**63)) if kind == pa.int64() else np.ones(len(numbers), bool)
        numbers = np.where(valid, numbers, 0)
    numbers = numbers.astype(np.int64)
    if not len(numbers) or max(int(numbers.max()), -int(numbers.min())) <= _SMALL:
        return valid, None, numbers * UNIT
    # |number| x 10^9 in two halves of 32 bits each.
    size = np.abs(numbers).view(np.uint64)
    unit, half = np.uint64(UNIT), np.uint64(32)
    lower = (size & np.uint64(2**32 - 1)) * unit
    upper = (size >> half) * unit
    low = lower + (upper << half)
    high = ((upper >> half) + (low < lower)).view(np.int64)
    negative = numbers < 0
    low = np.where(negative, ~low + np.uint64(1), low)
    high = np.where(negative, ~high + (low == 0), high)
    return valid, high, low


def _floats(numbers: Any) -> tuple[Any, Any, Any]:
    """A float counts as its shortest text. One of up to 15 significant digits and 9 decimals is recognised by coming
    back from them unchanged: the division is correctly rounded, so the text of these digits reads as this float."""
    valid = np.zeros(len(numbers), bool)
    unscaled = np.zeros(len(numbers), np.int64)
    with np.errstate(all="ignore"):
        for decimals in range(SCALE, -1, -1):
            digits = np.rint(numbers * 10.0**decimals)
            fits = ~valid & (np.abs(digits) < _EXACT_DIGITS)
            # A size that needs fewer decimals to stay exact; its product must still fit 64 bits.
            fits &= (digits / 10.0**decimals == numbers) & (np.abs(numbers) < _SMALL)
            if fits.any():
                whole = np.where(fits, digits, 0).astype(np.int64)
                unscaled += whole * 10 ** (SCALE - decimals)
                valid |= fits
            if decimals == SCALE and valid.all():
                break
    return valid, None, unscaled


def _decimals(column: Any) -> tuple[Any, Any, Any]:
    if column.type.scale < SCALE:
        # Only what stays below 10^29 after scaling is valid; more could not even be stored with 9 decimals.
        most = pa.scalar(10 ** (20 + column.type.scale) - 1, pa.decimal128(38, 0))
        column, valid = _within(column, most)
        column = column.cast(_STORED)
    else:
        valid = np.ones(len(column), bool)
    limbs = np.frombuffer(column.buffers()[1], np.uint64, 2 * len(column), 16 * column.offset).reshape(-1, 2)
    low, high = limbs[:, 0], limbs[:, 1].view(np.int64)
    short = low.view(np.int64)
    if (high == short >> 63).all():
        return valid, None, np.ascontiguousarray(short)
    valid &= ~_above(high, low, MAX_UNSCALED) & ~_above(~high, ~low, MAX_UNSCALED - 1)
    return valid, np.where(valid, high, 0), np.where(valid, low, 0)


def _within(column: Any, most: Any) -> tuple[Any, Any]:
    """The column with 0 in place of what is larger than `most`, an unscaled integer, and which rows are not."""
    limbs = np.frombuffer(column.buffers()[1], np.uint64, 2 * len(column), 16 * column.offset).reshape(-1, 2)
    low, high = limbs[:, 0], limbs[:, 1].view(np.int64)
    limit = int(most.as_py())
    valid = ~_above(high, low, limit) & ~_above(~high, ~low, limit - 1)
    if valid.all():
        return column, valid
    zero = pa.scalar(0, pa.decimal128(38, 0)).cast(column.type)
    return pc.if_else(pa.array(valid), column, zero), valid


def _above(high: Any, low: Any, limit: int) -> Any:
    """Which 128-bit integers are larger than a limit of at least 0."""
    top, rest = np.int64(limit >> 64), np.uint64(limit & _LOW)
    return (high > top) | ((high == top) & (low > rest))
