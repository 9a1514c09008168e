"""Columns of times to numbered windows: whole hours, days, weeks, months and years of UTC, and one window without end.

The `ordinal` of a window counts hours, days and so on since 1970; it is what the fold's memory indexes by, since it
fits into 32 bits. Half-open windows [start, end); times are UTC microseconds. periods.period_start says the same of one
time; a test compares the two.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from meterfold_schemas.periods import DAY, EPOCH_AFTER_MONDAY, HOUR, WEEK, Period

Int64s = npt.NDArray[np.int64]


def ordinals(period: Period, times: Int64s) -> Int64s:
    """The number of the window of `period` that holds each time."""
    match period:
        case Period.HOURLY:
            return times // HOUR
        case Period.DAILY:
            return times // DAY
        case Period.WEEKLY:
            return (times + EPOCH_AFTER_MONDAY) // WEEK
        case Period.MONTHLY:
            return (times // DAY).astype("M8[D]").astype("M8[M]").astype(np.int64)
        case Period.YEARLY:
            return (times // DAY).astype("M8[D]").astype("M8[Y]").astype(np.int64)
        case Period.LIFETIME:
            return np.zeros_like(times)


def starts(period: Period, numbers: Int64s) -> Int64s:
    """The first microsecond of each numbered window; 0 for a lifetime."""
    match period:
        case Period.HOURLY:
            return numbers * HOUR
        case Period.DAILY:
            return numbers * DAY
        case Period.WEEKLY:
            return numbers * WEEK - EPOCH_AFTER_MONDAY
        case Period.MONTHLY:
            return numbers.astype("M8[M]").astype("M8[D]").astype(np.int64) * DAY
        case Period.YEARLY:
            return numbers.astype("M8[Y]").astype("M8[D]").astype(np.int64) * DAY
        case Period.LIFETIME:
            return np.zeros_like(numbers)
