"""One batch of counted events to its share of each window.

The events are sorted once, by subject, time and offset. In that order the hours of a subject are side by side, and so
do its days, its months and the subject itself: every period is a run of neighbours, and a day is the sum of its hours.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from meterfold_processor.columns.limbs import Limbs, group_extremes, group_sums
from meterfold_processor.fold import calendar
from meterfold_schemas.periods import Period

Int64s = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Events:
    """Counted events as columns of one length, by rising offset.

    `slot` is the number of the subject within its batch, `time` is UTC microseconds, `quantity` counts billionths.
    """

    slot: Int64s
    time: Int64s
    offset: Int64s
    quantity: Limbs

    def __len__(self) -> int:
        return len(self.slot)

    def take(self, rows: RowNumbers) -> Events:
        return Events(self.slot[rows], self.time[rows], self.offset[rows], self.quantity.take(rows))

    def in_order(self) -> Events:
        """Sorted by subject, time, offset (both sorts below are stable, so offsets keep rising)."""
        earliest = int(self.time.min())
        span = int(self.time.max()) - earliest + 1
        if (int(self.slot.max()) + 1) * span < 2**63:  # one integer sorts twice as fast as two columns
            return self.take(np.argsort(self.slot * span + (self.time - earliest), kind="stable"))
        return self.take(np.lexsort((self.time, self.slot)))


@dataclass(frozen=True, slots=True)
class WindowRows:
    """Windows of one period as columns of one length: what a batch adds to them, or what is stored in `usage_windows`.

    `slot` is the number of the subject: within its batch in what a batch adds, which has one row per touched window,
    sorted by subject and window; that of `Subjects` in what is in memory.
    """

    slot: Int64s
    ordinal: Int64s
    count: Int64s
    sum: Limbs
    min: Limbs
    max: Limbs
    last: Limbs
    last_time: Int64s
    last_offset: Int64s
    through: Int64s

    def __len__(self) -> int:
        return len(self.slot)

    def take(self, rows: RowNumbers) -> WindowRows:
        return WindowRows(**{name: getattr(self, name).take(rows) for name in _COLUMNS})

    def replaced(self, rows: RowNumbers, others: WindowRows) -> WindowRows:
        """These windows with `others` in place of some rows."""
        return WindowRows(**{name: _put(getattr(self, name), rows, getattr(others, name)) for name in _COLUMNS})


_COLUMNS = tuple(field.name for field in fields(WindowRows))


def share(period: Period, events: Events) -> WindowRows:
    """The shares of events that are `in_order`, each window from its own events."""
    ordinal = calendar.ordinals(period, events.time)
    first = _run_starts(events.slot, ordinal)
    final = _run_ends(first, len(events))
    low, high = group_extremes(events.quantity, first)
    return WindowRows(
        slot=events.slot[first],
        ordinal=ordinal[first],
        count=np.diff(first, append=len(events)),
        sum=group_sums(events.quantity, first),
        min=low,
        max=high,
        last=events.quantity.take(final),
        last_time=events.time[final],
        last_offset=events.offset[final],
        through=np.maximum.reduceat(events.offset, first),
    )


def roll_up(period: Period, finer: WindowRows, finer_period: Period) -> WindowRows:
    """The shares of `period` from those of a finer one.

    Right only where every event is new to the row of every period: an event that only the day has folded already must
    not reach the day through its hour.
    """
    ordinal = calendar.ordinals(period, calendar.starts(finer_period, finer.ordinal))
    first = _run_starts(finer.slot, ordinal)
    final = _run_ends(first, len(finer))
    return WindowRows(
        slot=finer.slot[first],
        ordinal=ordinal[first],
        count=np.add.reduceat(finer.count, first),
        sum=group_sums(finer.sum, first),
        min=group_extremes(finer.min, first)[0],
        max=group_extremes(finer.max, first)[1],
        last=finer.last.take(final),
        last_time=finer.last_time[final],
        last_offset=finer.last_offset[final],
        through=np.maximum.reduceat(finer.through, first),
    )


def _run_starts(slot: Int64s, ordinal: Int64s) -> RowNumbers:
    change = np.empty(len(slot), dtype=np.bool_)
    change[0] = True
    np.not_equal(slot[1:], slot[:-1], out=change[1:])
    change[1:] |= ordinal[1:] != ordinal[:-1]
    return np.flatnonzero(change)


def _run_ends(first: RowNumbers, size: int) -> RowNumbers:
    return np.append(first[1:], size) - 1


def _put(column: Any, rows: RowNumbers, values: Any) -> Any:
    if isinstance(column, Limbs):
        return Limbs(_put(column.lo, rows, values.lo), _put(column.hi, rows, values.hi))
    changed = column.copy()
    changed[rows] = values
    return changed
