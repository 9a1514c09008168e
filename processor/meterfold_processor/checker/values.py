"""The totals of many windows as 128-bit columns: totals.total_of for columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from meterfold_processor.columns.limbs import Limbs, from_int64, from_ints
from meterfold_schemas.quantities import UNIT
from meterfold_schemas.totals import average
from meterfold_schemas.vocabulary import AggregationType

__all__ = ["TYPES", "TYPE_CODES", "values_of"]

TYPES = tuple(AggregationType)
TYPE_CODES = {kind: code for code, kind in enumerate(TYPES)}

_LARGEST_PLAIN_COUNT = (2**63 - 1) // UNIT


def values_of(
    types: npt.NDArray[np.int8],
    count: npt.NDArray[np.int64],
    total: Limbs,
    low: Limbs,
    high: Limbs,
    last: Limbs,
) -> Limbs:
    """`total_of` of each window; `types` holds TYPE_CODES."""
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
