"""The windows of one partition and one period: those in memory, and what is known about the others.

A batch looks for its windows in memory. Those that are not there are looked up in ClickHouse, for this batch and in one
query, unless it is known that they cannot be stored. That is known of a *bucket*, the windows of one hour, day or
month, when everything that is stored of it is in memory: it was empty or small when it was touched first, or it was
loaded since, and nothing of it was evicted. So the windows of a new hour cost no query.

A look-up reads the whole bucket, whether it wants one window in a hundred or all of them. After a restart every batch
would pay for that until the last subject has sent an event. So a bucket of which much is in use is loaded, in the order
of the names and a share of it with each batch. Only what comes later in that order is still looked up. How much is in
use shows in how many windows of a batch are in memory already: if few are, there are many (the estimate of a population
by capture and recapture). So what sleeps beside a few busy subjects costs no memory.

Windows leave memory by a hand that goes round: each time over some rows more than were added, never over all.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from meterfold_processor.columns.distinct import distinct
from meterfold_processor.columns.limbs import from_arrow
from meterfold_processor.columns.row_index import NONE
from meterfold_processor.fold import calendar
from meterfold_processor.fold.grouping import WindowRows
from meterfold_processor.fold.store import FIRST_NAME, WindowHistory
from meterfold_processor.fold.subjects import SUBJECT, Placed, Subjects
from meterfold_processor.fold.windows import WindowTable
from meterfold_schemas.keys import Name
from meterfold_schemas.periods import Period
from meterfold_schemas.totals import AMOUNTS

Int64s = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

SCANNED = 1_024
"""Windows at which an eviction looks, in addition to four for each that was added since the last one."""

_IN_USE = 4
"""A bucket is loaded if at least one in four of its windows is in use."""
_SAMPLE = 512
_OLDEST = 1 / 3
"""Where there are too many windows, a hand that has gone round once has dropped this share of them. Four looked at for
each that is added, and a third of those dropped: more leave than come."""


@dataclass(frozen=True, slots=True)
class Loading:
    """When and how buckets come into memory."""

    whole: int = 20_000
    """Stored windows of buckets that a batch touches first which are read at once, instead of those it needs."""
    evidence: int = 3
    """Windows of the batches so far that should have been in memory already, if no more of a bucket than a quarter were
    in use, and were not: from there on it is loaded."""
    shares: int = 8
    """The number of batches in which a bucket is loaded."""
    part: int = 200_000
    """Windows that are read at once, roughly."""


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


@dataclass(slots=True)
class _Bucket:
    """What is known of a bucket that is not in memory as a whole.

    `known_below`: every stored window whose name comes before it is in memory. `size`: the rows stored of it, about.
    `in_memory`: the windows that batches have touched. Of each batch with a look-up, `tried` adds up how many windows
    it touched times `in_memory` then, and `hits` how many of them were in memory. `ends`: where the parts end that are
    still to be loaded, None at the end; empty where no loading has begun. `evicted`: what was in memory did not stay,
    so nothing more is loaded.
    """

    known_below: Name
    size: int = 0
    in_memory: int = 0
    tried: int = 0
    hits: int = 0
    ends: deque[Name | None] = field(default_factory=deque)
    parts: int = 0
    evicted: bool = False

    def count(self, touched: int, missing: int) -> None:
        """A batch touches windows, of which some are not in memory."""
        self.tried += touched * self.in_memory
        self.hits += touched - missing
        self.in_memory += missing

    def is_in_use(self, evidence: int) -> bool:
        """If a quarter of it were in use, `tried / (size / 4)` windows would have been in memory already."""
        return _IN_USE * self.tried >= self.size * (self.hits + evidence)


class PeriodWindows:
    """Not for several threads at once."""

    def __init__(
        self,
        period: Period,
        subjects: Subjects,
        history: WindowHistory,
        *,
        empty: bool,
        loading: Loading = Loading(),
    ) -> None:
        """`empty`: nothing is stored yet."""
        self._period = period
        self._subjects = subjects
        self._history = history
        self._empty = empty
        self._loading = loading
        self._buckets: dict[int, _Bucket | None] = {}  # those that were touched; None: all that is stored is in memory
        self._hand = 0
        self._added = 0
        self.table = WindowTable()

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, touched: WindowRows, placed: Placed, room: int) -> RowNumbers:
        """The row of each window that a batch touches; those that are stored and not in memory are fetched. A bucket is
        loaded only where it has no more than `room` windows. May raise Retryable, and can then be called again."""
        slots = placed.slots[touched.slot]
        rows = self.table.find(slots, touched.ordinal)
        missing = np.flatnonzero(rows == NONE)
        if len(missing):
            self._fetch(touched, missing, placed, room)
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
            for bucket in distinct(ordinals[gone]).tolist():
                self._buckets[bucket] = _Bucket(FIRST_NAME, evicted=True)
            self._subjects.release(self.table.forget(rows[gone]))

    def _fetch(self, touched: WindowRows, missing: RowNumbers, placed: Placed, room: int) -> None:
        """Read the windows that are not in memory, where something of their bucket may be stored."""
        ordinals, subjects = touched.ordinal[missing], touched.slot[missing]
        buckets = distinct(ordinals).tolist()
        if not self._empty:
            self._look_at([bucket for bucket in buckets if bucket not in self._buckets])
        for bucket in buckets:
            partial = self._buckets.get(bucket)
            if partial is not None and not partial.evicted:
                self._load_share(bucket, partial, room)
                partial.count(int(np.sum(touched.ordinal == bucket)), int(np.sum(ordinals == bucket)))
        partly = {bucket: partial for bucket in buckets if (partial := self._buckets.get(bucket)) is not None}
        asked = self._unknown(partly, ordinals, subjects, placed)
        if len(asked) == 0:
            return
        low = min(partial.known_below for partial in partly.values())
        wanted = placed.names[subjects[asked]].with_columns(
            start=pl.Series(calendar.starts(self._period, ordinals[asked])), subject=pl.Series(subjects[asked])
        )
        found = self._history.find_windows(self._period, wanted, low).with_columns(
            start=pl.col("period_start").to_physical()
        )
        if not found.is_empty():
            found = found.join(wanted.drop("key"), on=[*SUBJECT, "start"], how="inner")
            self._load(_from_stored(self._period, found, placed.slots[found["subject"].to_numpy()]))

    def _unknown(self, partly: dict[int, _Bucket], ordinals: Int64s, subjects: Int64s, placed: Placed) -> RowNumbers:
        """Which of some windows that are not in memory may be stored. `partly`: the buckets of them that are not in
        memory as a whole."""
        unknown = np.isin(ordinals, list(partly))
        for bucket, partial in partly.items():
            if partial.known_below != FIRST_NAME:
                within = np.flatnonzero(ordinals == bucket)
                unknown[within] = _not_before(placed.names[subjects[within]], partial.known_below)
        return np.flatnonzero(unknown)

    def _load_share(self, bucket: int, partial: _Bucket, room: int) -> None:
        """Load the next parts of a bucket, if it is in use and there is room for it. May raise Retryable between two
        parts."""
        if partial.size > room or not (partial.ends or partial.is_in_use(self._loading.evidence)):
            return
        start = int(calendar.starts(self._period, np.array([bucket], dtype=np.int64))[0])
        if not partial.ends:
            partial.ends.extend([*self._history.names_apart(self._period, start, self._loading.part), None])
            partial.parts = -(-len(partial.ends) // self._loading.shares)
        for _ in range(min(partial.parts, len(partial.ends))):
            self._load_part(start, partial.known_below, partial.ends[0])
            end = partial.ends.popleft()
            if end is None:
                self._buckets[bucket] = None
            else:
                partial.known_below = end

    def _load_part(self, start: int, low: Name, high: Name | None) -> None:
        """What is in memory already may be newer than what is stored."""
        for stored in self._history.load_part(self._period, start, low, high):
            rows = self._rows_of(stored, one_bucket=True)
            self._load(rows.take(np.flatnonzero(self.table.find(rows.slot, rows.ordinal) == NONE)))

    def _look_at(self, buckets: list[int]) -> None:
        """Find out how much is stored of buckets that are touched first; read the small ones."""
        if not buckets:
            return
        starts = calendar.starts(self._period, np.array(buckets, dtype=np.int64)).tolist()
        stored = self._history.count_windows(self._period, starts)
        sizes = sorted((stored.get(start, 0), bucket, start) for bucket, start in zip(buckets, starts, strict=True))
        small, total = list[int](), 0
        found = dict[int, _Bucket | None]()
        for size, bucket, start in sizes:
            total += size
            if total > self._loading.whole:
                found[bucket] = _Bucket(FIRST_NAME, size)
                continue
            found[bucket] = None
            if size:
                small.append(start)
        if small:
            windows = self._history.load_windows(self._period, np.array(small, dtype=np.int64))
            self._load(self._rows_of(windows, one_bucket=len(small) == 1))
        self._buckets.update(found)

    def _rows_of(self, stored: pl.DataFrame, *, one_bucket: bool) -> WindowRows:
        """`one_bucket`: a subject has one window in it."""
        slots = self._subjects.slots_of_stored(stored.select(SUBJECT), once=one_bucket)
        return _from_stored(self._period, stored, slots)

    def _load(self, rows: WindowRows) -> None:
        self.table.load(rows)
        self._hold(rows.slot)

    def _hold(self, slots: Int64s) -> None:
        self._added += len(slots)
        self._subjects.hold(slots)


def _not_before(names: pl.DataFrame, low: Name) -> Bools:
    """Whether each name is `low` or comes after it."""
    after = pl.lit(value=True)
    for name, value in zip(reversed(SUBJECT), reversed(low), strict=True):
        after = (pl.col(name) > value) | ((pl.col(name) == value) & after)
    found: Bools = names.select(after=after)["after"].to_numpy()
    return found


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
