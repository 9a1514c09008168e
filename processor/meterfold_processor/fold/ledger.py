"""The windows of one partition, every period: which of them a batch touches, and what it adds to each."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.fold import tables
from meterfold_processor.fold.grouping import Events, WindowRows, roll_up, share
from meterfold_processor.fold.period_windows import Evictable, Loading, PeriodWindows
from meterfold_processor.fold.store import WindowHistory
from meterfold_processor.fold.subjects import SUBJECT, Placed, Subjects
from meterfold_processor.fold.windows import merged
from meterfold_schemas.periods import DAY, FINER, HOUR, KEPT, Period

RowNumbers = npt.NDArray[np.intp]

LATE = HOUR
"""How long, by brokers' stamps, a window that has ended stays in memory after its last event."""
QUIET = 35 * DAY
"""The same for a window that has not ended."""
_PLENTY = 2**62
"""Room for windows while nothing is in memory yet."""


class Ledger:
    """Not for several threads at once."""

    def __init__(
        self,
        partition: int,
        subjects: Subjects,
        history: WindowHistory,
        *,
        complete: bool,
        loading: Loading = Loading(),  # noqa: B008
    ) -> None:
        """`complete`: nothing is stored yet, so nothing has to be looked up until it was evicted."""
        self._partition = partition
        self._windows = {
            period: PeriodWindows(period, subjects, history, empty=complete, loading=loading) for period in KEPT
        }
        self._room = _PLENTY
        self._late = OffsetsBack(LATE)
        self._quiet = OffsetsBack(QUIET)

    def __len__(self) -> int:
        return sum(len(windows) for windows in self._windows.values())

    @property
    def nbytes(self) -> int:
        """Bytes of memory, whether they are in use or kept for more windows."""
        return sum(windows.table.nbytes for windows in self._windows.values())

    def enter(self, events: Events, placed: Placed, first_offset: int) -> pa.Table:
        """Fold counted events; returns the rows of all touched windows, also of those that had the event already.

        An event at or below the `folded_through` of a row is skipped for that row, and for that row only. May raise
        Retryable before anything is folded.
        """
        if len(events) == 0:
            return WINDOWS.empty_table()
        events = events.in_order()
        shares = _shares_of_all(events)
        rows = {period: self._windows[period].rows(shares[period], placed, self._room) for period in KEPT}
        states = {period: self._windows[period].table.read(rows[period]) for period in KEPT}
        if all(int(state.through.max()) < first_offset for state in states.values()):
            states = {period: merged(states[period], shares[period]) for period in KEPT}
        else:
            states = {period: self._merged_carefully(period, events, shares[period], states[period]) for period in KEPT}
        for period in KEPT:
            self._windows[period].table.write(rows[period], states[period])
        subjects = np.concatenate([shares[period].slot for period in KEPT])
        return tables.windows(self._partition, states, placed.names.select(SUBJECT)[subjects])

    def evict(self, acknowledged: int, stamp: int, max_windows: int) -> None:
        """Forget windows that folded nothing lately or have long ended, and what exceeds `max_windows`.

        `acknowledged`: everything below this offset can be read back. `stamp`: the broker's, of the event before it.
        """
        what = Evictable(
            acknowledged=acknowledged,
            ended_at=stamp,
            late=self._late.advance(stamp, acknowledged),
            quiet=self._quiet.advance(stamp, acknowledged),
            too_many=len(self) > max_windows,
        )
        for windows in self._windows.values():
            windows.evict(what)
        self._room = max_windows - len(self)

    def _merged_carefully(self, period: Period, events: Events, touched: WindowRows, state: WindowRows) -> WindowRows:
        """Some row holds a part of this batch already: take for each row only the events above its own mark."""
        window = np.repeat(np.arange(len(touched)), touched.count)
        new = np.flatnonzero(events.offset > state.through[window])
        if len(new) == 0:
            return state
        fresh = share(period, events.take(new))
        changed = window[new][_starts(window[new])]
        return state.replaced(changed, merged(state.take(changed), fresh))


class OffsetsBack:
    """The offsets that were next some time ago, by brokers' stamps, to a sixteenth of that time."""

    def __init__(self, span: int) -> None:
        self._span = span
        self._marks: deque[tuple[int, int]] = deque()

    def advance(self, stamp: int, offset: int) -> int:
        """`offset` is next after an event of this stamp. Returns an offset that was next `span` ago or earlier, -1
        where nothing is known of then."""
        marks = self._marks
        if not marks or stamp - marks[-1][0] >= self._span // 16:
            marks.append((stamp, offset))
        while len(marks) > 1 and marks[1][0] <= stamp - self._span:
            marks.popleft()
        return marks[0][1] if marks[0][0] <= stamp - self._span else -1


def _starts(numbers: RowNumbers) -> RowNumbers:
    return np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))


def _shares_of_all(events: Events) -> dict[Period, WindowRows]:
    shares: dict[Period, WindowRows] = {}
    for period in KEPT:
        finer = FINER.get(period)
        shares[period] = share(period, events) if finer is None else roll_up(period, shares[finer], finer)
    return shares
