"""Columns of times to numbered windows: whole hours, days and months of UTC, and one window without end.

The `ordinal` of a window counts hours, days or months since 1970; it is what the fold's memory indexes by, since it
fits into 32 bits. Half-open windows [start, end); times are UTC microseconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from meterfold_schemas.periods import DAY, HOUR, Period

Int64s = npt.NDArray[np.int64]


def ordinals(period: Period, times: Int64s) -> Int64s:
    """The number of the window of `period` that holds each time."""
    if period is Period.HOURLY:
        return times // HOUR
    if period is Period.DAILY:
        return times // DAY
    if period is Period.MONTHLY:
        return (times // DAY).astype("M8[D]").astype("M8[M]").astype(np.int64)
    if period is Period.LIFETIME:
        return np.zeros_like(times)
    raise ValueError(f"{period} windows are derived when read, the fold keeps none")


def starts(period: Period, numbers: Int64s) -> Int64s:
    """The first microsecond of each numbered window; 0 for a lifetime."""
    if period is Period.HOURLY:
        return numbers * HOUR
    if period is Period.DAILY:
        return numbers * DAY
    if period is Period.MONTHLY:
        return numbers.astype("M8[M]").astype("M8[D]").astype(np.int64) * DAY
    if period is Period.LIFETIME:
        return np.zeros_like(numbers)
    raise ValueError(f"{period} windows are derived when read, the fold keeps none")
