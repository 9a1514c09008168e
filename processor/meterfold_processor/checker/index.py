"""Windows of one partition as row numbers into numpy columns.

A *pane* is one period at one start: all its windows end together, so they are closed and forgotten together. It maps
subject slots to rows with an int32 array: 4 bytes per subject and pane, and no Python object per window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from meterfold_processor.checker.rules import PERIODS, end_of
from meterfold_processor.checker.subjects import Subject
from meterfold_schemas.periods import Period

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
A = TypeVar("A", bound=np.generic)

_SMALLEST = 64
_CODE_BITS = 3


@dataclass(frozen=True, slots=True)
class Window:
    """Identity of one window; times in UTC microseconds, `end` is rules.NEVER for a lifetime."""

    subject: Subject
    period: Period
    start: int
    end: int


@dataclass(slots=True)
class Pane:
    """All windows of one period with one start; `rows[slot]` is -1 where a subject has none here."""

    period: Period
    start: int
    end: int
    rows: npt.NDArray[np.int32]

    def taken(self) -> Int64s:
        return self.rows[self.rows >= 0].astype(np.int64)


class WindowIndex:
    """Row numbers are dense, and used again after their pane was dropped."""

    def __init__(self) -> None:
        self._panes: dict[int, Pane] = {}
        self._free: list[int] = []
        self.size = 0
        self.slot = np.empty(0, np.int64)
        self.end = np.empty(0, np.int64)
        self._pane = np.empty(0, np.int64)

    def locate(self, slots: Int64s, periods: npt.NDArray[np.int8], starts: Int64s, create: Bools) -> Int64s:
        """The row of each window, or -1; where `create` holds a missing one is made."""
        rows = np.full(len(slots), -1, dtype=np.int64)
        panes = (starts << _CODE_BITS) | periods
        order = np.argsort(panes, kind="stable")
        bounds = np.flatnonzero(np.diff(panes[order])) + 1
        for at in np.split(order, bounds) if len(order) else ():
            code = int(panes[at[0]])
            pane = self._panes.get(code)
            wanted = create[at]
            if pane is None:
                if not wanted.any():
                    continue
                pane = self._open(code)
            here = slots[at]
            pane.rows = grown(pane.rows, int(here.max()) + 1, -1)
            found = pane.rows[here]
            missing = wanted & (found < 0)
            if missing.any():
                fresh = np.unique(here[missing])
                pane.rows[fresh] = self._allocate(fresh, code, pane.end)
                found = pane.rows[here]
            rows[at] = found
        return rows

    def locate_one(self, slot: int, period: int, start: int) -> int:
        """The row of one window, made if it is missing."""
        one = np.array([slot]), np.array([period], np.int8), np.array([start]), np.array([True])
        return int(self.locate(*one)[0])

    def window(self, row: int) -> Pane:
        """The pane of a row: its period, start and end."""
        return self._panes[int(self._pane[row])]

    def panes(self) -> Iterator[Pane]:
        yield from self._panes.values()

    def drop(self, pane: Pane) -> Int64s:
        """Forget a pane; its rows, free from now on."""
        rows = pane.taken()
        code = (pane.start << _CODE_BITS) | next(code for code, period in PERIODS.items() if period is pane.period)
        del self._panes[code]
        self._free.extend(rows.tolist())
        return rows

    @property
    def memory(self) -> int:
        """Bytes."""
        panes = sum(pane.rows.nbytes for pane in self._panes.values())
        return panes + self.slot.nbytes + self.end.nbytes + self._pane.nbytes

    def _open(self, code: int) -> Pane:
        period, start = code & ((1 << _CODE_BITS) - 1), code >> _CODE_BITS
        pane = Pane(PERIODS[period], start, end_of(period, start), np.empty(0, np.int32))
        self._panes[code] = pane
        return pane

    def _allocate(self, slots: Int64s, pane: int, end: int) -> Int64s:
        recycled = [self._free.pop() for _ in range(min(len(slots), len(self._free)))]
        fresh = np.arange(self.size, self.size + len(slots) - len(recycled))
        self.size += len(fresh)
        rows = np.concatenate([np.array(recycled, dtype=np.int64), fresh])
        self.slot = grown(self.slot, self.size, -1)
        self.end = grown(self.end, self.size, 0)
        self._pane = grown(self._pane, self.size, 0)
        self.slot[rows] = slots
        self.end[rows] = end
        self._pane[rows] = pane
        return rows


def grown(column: npt.NDArray[A], size: int, fill: float) -> npt.NDArray[A]:
    """The column, at least `size` long; it doubles, so that growing costs little in all."""
    if len(column) >= size:
        return column
    longer = np.full(max(size, 2 * len(column), _SMALLEST), fill, dtype=column.dtype)
    longer[: len(column)] = column
    return longer
