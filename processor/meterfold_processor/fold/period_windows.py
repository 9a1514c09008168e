"""The windows of one partition and one period: those in memory, and what is known about the others.

A batch looks for its windows in memory. Those that are not there are looked up in ClickHouse, for this batch and in one
query, unless it is known that they cannot be stored. That is known of a *bucket*, the windows of one hour, day or
month, when everything that is stored of it is in memory: it was empty or small when it was touched first, and nothing
of it was evicted. So the windows of a new hour cost no query.

Windows leave memory by a hand that goes round: each time over some rows more than were added, never over all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from meterfold_processor.columns.limbs import from_arrow
from meterfold_processor.columns.row_index import NONE
from meterfold_processor.fold import calendar
from meterfold_processor.fold.grouping import WindowRows
from meterfold_processor.fold.store import WindowHistory
from meterfold_processor.fold.subjects import SUBJECT, Placed, Subjects
from meterfold_processor.fold.windows import WindowTable
from meterfold_schemas.periods import Period
from meterfold_schemas.totals import AMOUNTS

Int64s = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

WHOLE_BUCKET = 20_000
"""Stored windows of buckets that a batch touches first which are read at once, instead of those it needs."""
SCANNED = 1_024
"""Windows at which an eviction looks, in addition to four for each that was added since the last one."""

_SAMPLE = 512
_OLDEST = 1 / 3
"""Where there are too many windows, a hand that has gone round once has dropped this share of them. Four looked at for
each that is added, and a third of those dropped: more leave than come."""


@dataclass(frozen=True, slots=True)
class Evictable:
    """What may leave memory: windows whose `folded_through` is below `acknowledged` and that

    - ended at `ended_at` (UTC microseconds) or earlier, and folded nothing at the offset `late` or above,
    - or folded nothing at the offset `quiet` or above,
    - or, where there are `too_many`, folded nothing for longer than others.
    """

    acknowledged: int
    ended_at: int
    late: int
    quiet: int
    too_many: bool


class PeriodWindows:
    """Not for several threads at once."""

    def __init__(
        self,
        period: Period,
        subjects: Subjects,
        history: WindowHistory,
        *,
        empty: bool,
        whole_bucket: int = WHOLE_BUCKET,
    ) -> None:
        """`empty`: nothing is stored yet."""
        self._period = period
        self._subjects = subjects
        self._history = history
        self._empty = empty
        self._whole_bucket = whole_bucket
        self._is_complete: dict[int, bool] = {}  # bucket -> whether all that is stored of it is in memory
        self._hand = 0
        self._added = 0
        self.table = WindowTable()

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, touched: WindowRows, placed: Placed) -> RowNumbers:
        """The row of each window that a batch touches; those that are stored and not in memory are fetched. May raise
        Retryable, and can then be called again."""
        slots = placed.slots[touched.slot]
        rows = self.table.find(slots, touched.ordinal)
        missing = np.flatnonzero(rows == NONE)
        if len(missing):
            self._fetch(touched.ordinal[missing], touched.slot[missing], placed)
            rows[missing] = self.table.find(slots[missing], touched.ordinal[missing])
            new = missing[rows[missing] == NONE]
            rows[new] = self.table.add(slots[new], touched.ordinal[new])
            self._hold(slots[new])
        return rows

    def evict(self, what: Evictable) -> None:
        """Drop some of the windows that may leave memory."""
        count = SCANNED + 4 * self._added
        self._added = 0
        rows, ordinals, through, self._hand = self.table.scan(self._hand, count)
        stored = through < what.acknowledged
        gone = through < what.quiet
        if self._period is not Period.LIFETIME:  # it never ends
            gone |= (through < what.late) & (calendar.starts(self._period, ordinals + 1) <= what.ended_at)
        if what.too_many and len(sample := self.table.sampled_through(_SAMPLE)):
            gone |= through <= np.quantile(sample, _OLDEST)
        gone &= stored
        if gone.any():
            self._is_complete.update(dict.fromkeys(_distinct(ordinals[gone]).tolist(), False))
            self._subjects.release(self.table.forget(rows[gone]))

    def _fetch(self, ordinals: Int64s, subjects: Int64s, placed: Placed) -> None:
        """Read windows that are not in memory, where something of their bucket may be stored. `subjects` are rows of
        `placed`."""
        buckets = _distinct(ordinals)
        if not self._empty:
            self._look_at([bucket for bucket in buckets.tolist() if bucket not in self._is_complete])
        partial = buckets[[not self._is_complete.get(bucket, True) for bucket in buckets.tolist()]]
        if len(partial) == 0:
            return
        asked = np.flatnonzero(np.isin(ordinals, partial))
        wanted = placed.names[subjects[asked]].with_columns(
            start=pl.Series(calendar.starts(self._period, ordinals[asked])), subject=pl.Series(subjects[asked])
        )
        found = self._history.find_windows(self._period, wanted).with_columns(
            start=pl.col("period_start").to_physical()
        )
        if not found.is_empty():
            found = found.join(wanted.drop("key"), on=[*SUBJECT, "start"], how="inner")
            self._load(found, placed.slots[found["subject"].to_numpy()])

    def _look_at(self, buckets: list[int]) -> None:
        """Find out how much is stored of buckets that are touched first; read the small ones."""
        if not buckets:
            return
        starts = calendar.starts(self._period, np.array(buckets, dtype=np.int64)).tolist()
        stored = self._history.count_windows(self._period, starts)
        sizes = sorted((stored.get(start, 0), bucket, start) for bucket, start in zip(buckets, starts, strict=True))
        small, total = list[int](), 0
        is_complete = {}
        for size, bucket, start in sizes:
            total += size
            is_complete[bucket] = total <= self._whole_bucket
            if size and is_complete[bucket]:
                small.append(start)
        if small:
            found = self._history.load_windows(self._period, np.array(small, dtype=np.int64))
            self._load(found, self._subjects.slots_of_stored(found.select(SUBJECT)))
        self._is_complete.update(is_complete)

    def _load(self, stored: pl.DataFrame, slots: Int64s) -> None:
        self.table.load(_from_stored(self._period, stored, slots))
        self._hold(slots)

    def _hold(self, slots: Int64s) -> None:
        self._added += len(slots)
        self._subjects.hold(slots)


def _distinct(numbers: Int64s) -> Int64s:
    rising = np.sort(numbers)
    distinct: Int64s = rising[np.append(True, rising[1:] != rising[:-1])]
    return distinct


def _from_stored(period: Period, stored: pl.DataFrame, slots: Int64s) -> WindowRows:
    start = stored["period_start"].to_physical().to_numpy()
    decimals = {name: from_arrow(stored[name].cast(pl.Decimal(38, 9)).to_arrow()) for name in AMOUNTS}
    return WindowRows(
        slot=slots,
        ordinal=calendar.ordinals(period, start),
        count=stored["record_count"].to_numpy(),
        last_time=stored["last_timestamp"].to_physical().to_numpy(),
        last_offset=stored["last_offset"].to_numpy(),
        through=stored["folded_through"].to_numpy(),
        **decimals,
    )
