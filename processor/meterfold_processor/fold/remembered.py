"""The identities that one partition has counted lately, as 64-bit hashes by the day of arrival.

A hash that is not here was surely not counted in the days that are loaded; one that is here is looked up exactly. Each
day is a few sorted arrays: eight bytes per identity, no false hits but for equal hashes, and a batch is tested by one
binary search per array. Arrays of similar size are merged, so a day has few of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from meterfold_schemas.periods import DAY

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BYTES_PER_IDENTITY = 8

EVERYTHING = -(2**62)
"""`loaded_from` of a partition whose every identity is in memory."""


@dataclass(slots=True)
class Remembered:
    """Hashes of counted identities that arrived at `loaded_from` (UTC microseconds) or later."""

    loaded_from: int = EVERYTHING
    _days: dict[int, list[UInt64s]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(run) for runs in self._days.values() for run in runs)

    def add(self, hashes: UInt64s, stamps: Int64s) -> None:
        """Remember identities by their stamps (UTC microseconds)."""
        days = stamps // DAY
        for day in np.unique(days).tolist():
            self._add_to(day, np.sort(hashes[days == day]))

    def contains(self, sorted_hashes: UInt64s) -> Bools:
        """Which of the hashes, which rise, are remembered for any day."""
        found = np.zeros(len(sorted_hashes), dtype=np.bool_)
        for runs in self._days.values():
            for run in runs:
                place = np.searchsorted(run, sorted_hashes)
                place[place == len(run)] = 0
                found |= run[place] == sorted_hashes
        return found

    def forget_before(self, stamp: int) -> None:
        """Drop the days that ended at `stamp` or earlier; what arrived then is looked up from now on."""
        old = [day for day in self._days if (day + 1) * DAY <= stamp]
        for day in old:
            del self._days[day]
        if old:
            self.loaded_from = max(self.loaded_from, (max(old) + 1) * DAY)

    def _add_to(self, day: int, run: UInt64s) -> None:
        runs = self._days.setdefault(day, [])
        while runs and len(runs[-1]) <= 2 * len(run):
            merged = np.concatenate((runs.pop(), run))
            merged.sort(kind="stable")  # two sorted runs: the stable sort merges them in one pass
            run = merged
        if len(run):
            runs.append(run)
