"""The windows of one partition, every period: which of them a batch touches, and what it adds to each.

Windows are read from ClickHouse by whole buckets, all windows of one hour, day or month, when the first event falls
into it, so that a window that is not in memory afterwards is known not to exist.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from meterfold_processor.columns.limbs import from_arrow
from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.fold import calendar, tables
from meterfold_processor.fold.grouping import Events, WindowRows, roll_up, share
from meterfold_processor.fold.store import WindowHistory
from meterfold_processor.fold.subjects import SUBJECT, Subjects
from meterfold_processor.fold.windows import WindowTable
from meterfold_schemas.periods import FINER, KEPT, Period
from meterfold_schemas.totals import AMOUNTS

Int64s = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.intp]

MAX_WINDOWS = 2_000_000
"""Windows that one partition keeps in memory at most (116 bytes each); the buckets used longest ago go first."""


class Ledger:
    """Not for several threads at once."""

    def __init__(
        self,
        partition: int,
        subjects: Subjects,
        history: WindowHistory,
        *,
        complete: bool,
        max_windows: int = MAX_WINDOWS,
    ) -> None:
        """`complete`: nothing is stored yet, so no bucket has to be read until it was evicted."""
        self._partition = partition
        self._subjects = subjects
        self._history = history
        self._complete = complete
        self._max_windows = max_windows
        self._tables = {period: WindowTable() for period in KEPT}
        self._used: dict[Period, dict[int, int]] = {period: {} for period in KEPT}  # bucket -> last batch
        self._evicted: dict[Period, set[int]] = {period: set() for period in KEPT}

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables.values())

    def enter(self, events: Events, first_offset: int, sequence: int) -> pa.Table:
        """Fold counted events; returns the rows of all touched windows, also of those that had the event already.

        An event at or below the `folded_through` of a row is skipped for that row, and for that row only.
        """
        if len(events) == 0:
            return WINDOWS.empty_table()
        events = events.in_order()
        shares = _shares_of_all(events)
        rows = {period: self._rows(period, shares[period], sequence) for period in KEPT}
        if all(int(self._tables[period].through(rows[period]).max()) < first_offset for period in KEPT):
            for period in KEPT:
                self._tables[period].merge(rows[period], shares[period])
        else:
            for period in KEPT:
                self._merge_carefully(period, events, shares[period], rows[period])
        return self._describe(rows)

    def evict(self, closed_at: int, acknowledged: int) -> None:
        """Forget windows that ended at `closed_at` (UTC microseconds) or earlier, and those above the limit, as far as
        the batch that used them last is acknowledged."""
        surplus = len(self) - self._max_windows
        for period in KEPT:
            if period is Period.LIFETIME:  # its one bucket never ends
                continue
            used = self._used[period]
            numbers = np.fromiter(used, dtype=np.int64, count=len(used))
            ends = calendar.starts(period, numbers + 1)
            gone = {int(n) for n in numbers[ends <= closed_at] if used[int(n)] <= acknowledged}
            if surplus > 0:
                by_age = sorted((last, number) for number, last in used.items() if last < acknowledged)
                for _, number in by_age:
                    if surplus <= 0:
                        break
                    gone.add(number)
                    surplus -= int((self._tables[period].ordinals() == number).sum())
            if gone:
                self._forget(period, gone)

    def _forget(self, period: Period, gone: set[int]) -> None:
        table = self._tables[period]
        table.keep_only(~np.isin(table.ordinals(), np.fromiter(gone, dtype=np.int64)))
        for number in gone:
            del self._used[period][number]
        if self._complete:
            self._evicted[period] |= gone

    def _rows(self, period: Period, shares: WindowRows, sequence: int) -> RowNumbers:
        numbers = np.unique(shares.ordinal).tolist()
        used = self._used[period]
        self._load(period, [number for number in numbers if number not in used])
        used.update(dict.fromkeys(numbers, sequence))
        return self._tables[period].find(shares.slot, shares.ordinal)

    def _load(self, period: Period, numbers: list[int]) -> None:
        if self._complete:
            numbers = [number for number in numbers if number in self._evicted[period]]
        if not numbers:
            return
        stored = self._history.load_windows(period, calendar.starts(period, np.array(numbers, dtype=np.int64)))
        self._evicted[period] -= set(numbers)
        if stored.is_empty():
            return
        slots = self._subjects.slots_of_stored(stored.select(SUBJECT))
        self._tables[period].load(_from_stored(period, stored, slots))

    def _merge_carefully(self, period: Period, events: Events, touched: WindowRows, rows: RowNumbers) -> None:
        """Some row holds a part of this batch already: take for each row only the events above its own mark."""
        table = self._tables[period]
        row_of_event = np.repeat(rows, touched.count)
        new = np.flatnonzero(events.offset > table.through(row_of_event))
        if len(new) == 0:
            return
        fresh = share(period, events.take(new))
        table.merge(table.find(fresh.slot, fresh.ordinal), fresh)

    def _describe(self, rows: dict[Period, RowNumbers]) -> pa.Table:
        states = {period: self._tables[period].read(rows[period]) for period in KEPT}
        slots = np.concatenate([state.slot for state in states.values()])
        return tables.windows(self._partition, states, self._subjects.describe(slots))


def _shares_of_all(events: Events) -> dict[Period, WindowRows]:
    shares: dict[Period, WindowRows] = {}
    for period in KEPT:
        finer = FINER.get(period)
        shares[period] = share(period, events) if finer is None else roll_up(period, shares[finer], finer)
    return shares


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
