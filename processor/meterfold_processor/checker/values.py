"""The value of a window: what its metric's aggregation type makes of count, sum, min, max and last.

Unscaled integers (value x 10^9), for one window as Python integers and for many as 128-bit columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meterfold_processor.columns.limbs import Limbs, from_int64, from_ints
from meterfold_schemas.quantities import UNIT
from meterfold_schemas.vocabulary import AggregationType

__all__ = ["TYPES", "TYPE_CODES", "WindowValues", "average", "value_of", "values_of"]

TYPES = tuple(AggregationType)
TYPE_CODES = {kind: code for code, kind in enumerate(TYPES)}

_LARGEST_PLAIN_COUNT = (2**63 - 1) // UNIT


@dataclass(frozen=True, slots=True)
class WindowValues:
    """The state of one window for every aggregation type."""

    count: int
    sum: int
    min: int
    max: int
    last: int


def value_of(kind: AggregationType, window: WindowValues) -> int:
    """The unscaled value of one window."""
    match kind:
        case AggregationType.COUNT:
            return window.count * UNIT
        case AggregationType.SUM:
            return window.sum
        case AggregationType.AVG:
            return average(window.sum, window.count)
        case AggregationType.MAX:
            return window.max
        case AggregationType.MIN:
            return window.min
        case AggregationType.LAST:
            return window.last


def average(total: int, count: int) -> int:
    """total / count with 9 decimals, half away from zero. Python integers: decimal128 would wrap at 1e26 / 3."""
    magnitude = (2 * abs(total) + count) // (2 * count)
    return magnitude if total >= 0 else -magnitude


def values_of(
    types: npt.NDArray[np.int8],
    count: npt.NDArray[np.int64],
    total: Limbs,
    low: Limbs,
    high: Limbs,
    last: Limbs,
) -> Limbs:
    """`value_of` for columns; `types` holds TYPE_CODES."""
    values = total
    for kind, column in ((AggregationType.MIN, low), (AggregationType.MAX, high), (AggregationType.LAST, last)):
        chosen = types == TYPE_CODES[kind]
        if chosen.any():
            values = column.where(chosen, values)
    counted = types == TYPE_CODES[AggregationType.COUNT]
    if counted.any():
        values = _counts(count).where(counted, values)
    averaged = types == TYPE_CODES[AggregationType.AVG]
    if averaged.any():
        rows = np.flatnonzero(averaged)
        pairs = zip(total.take(rows).to_ints(), count[rows].tolist(), strict=True)
        means = from_ints([average(one, of) for one, of in pairs])
        lo, hi = values.lo.copy(), values.hi.copy()
        lo[rows], hi[rows] = means.lo, means.hi
        values = Limbs(lo, hi)
    return values


def _counts(count: npt.NDArray[np.int64]) -> Limbs:
    if len(count) and int(count.max()) > _LARGEST_PLAIN_COUNT:
        return from_ints([one * UNIT for one in count.tolist()])
    return from_int64(count * UNIT)
