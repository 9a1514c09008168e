"""What `usage.aggregated` says about the windows of one partition, and what it has to say next.

The emitted state is the topic itself. A window is due when its row is newer than what was emitted, or when it has
become final; at most once per emit interval. The newest row of every window stays here, as columns, so that a window
that is due later, or becomes final, needs no look-up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meterfold_processor.checker.definitions import Definitions
from meterfold_processor.checker.index import Window, WindowIndex, grown
from meterfold_processor.checker.rows import WindowColumns, newest
from meterfold_processor.checker.rules import CODES, WindowRules
from meterfold_processor.checker.subjects import SubjectSlots
from meterfold_schemas.periods import Period
from meterfold_schemas.totals import AMOUNTS, WindowValues, total_of
from meterfold_schemas.vocabulary import AggregationType

__all__ = ["Aggregate", "Aggregates"]

_NEVER = -np.inf
_NOTHING = -1
_EMPTY: npt.NDArray[np.int64] = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One event to emit. Amounts are unscaled integers; `previous_total` is None for the first event of a window."""

    window: Window
    values: WindowValues
    total: int
    revision: int
    is_final: bool
    previous_total: int | None


class Aggregates:
    """The emitted and the newest state of one partition's windows, for the periods that are aggregated."""

    def __init__(
        self,
        definitions: Definitions,
        subjects: SubjectSlots,
        rules: WindowRules,
        periods: frozenset[Period],
        interval: float,
    ) -> None:
        self._definitions = definitions
        self._subjects = subjects
        self._rules = rules
        self._codes = np.array([CODES[period] for period in periods], dtype=np.int8)
        self._interval = interval
        self._index = WindowIndex()
        self._numbers = {name: np.empty(0, np.int64) for name in ("through", "count", "emitted")}
        self._lo = {name: np.empty(0, np.uint64) for name in (*AMOUNTS, "total")}
        self._hi = {name: np.empty(0, np.int64) for name in (*AMOUNTS, "total")}
        self._emitted_at = np.empty(0, np.float64)
        self._final = np.empty(0, np.bool_)
        self._pending = np.empty(0, np.bool_)
        self._queue = _EMPTY
        self._swept: set[tuple[Period, int]] = set()

    @property
    def waiting(self) -> int:
        """Windows that have something to say, now or when their interval is over."""
        return len(self._queue)

    def restore(self, window: Window, revision: int, is_final: bool, total: int) -> None:
        """Take an emitted event from `usage.aggregated`."""
        row = self._index.locate_one(self._subjects.slot(window.subject), CODES[window.period], window.start)
        self._grow()
        self._set_emitted(row, revision, is_final, total)

    def take(self, rows: WindowColumns, mark: int) -> None:
        """Remember the newest row of each open window."""
        rows = rows.take(np.flatnonzero(np.isin(rows.periods, self._codes)))
        if not len(rows):
            return
        places = self._index.locate(rows.slots, rows.periods, rows.starts, np.ones(len(rows), np.bool_))
        self._grow()
        fresh = (rows.through >= self._numbers["through"][places]) & self._rules.is_open(self._index.end[places], mark)
        kept = np.flatnonzero(fresh)
        kept = kept[newest(places[kept], rows.through[kept])]
        rows, places = rows.take(kept), places[kept]
        self._numbers["through"][places] = rows.through
        self._numbers["count"][places] = rows.count
        for name in AMOUNTS:
            column = getattr(rows, name)
            self._lo[name][places], self._hi[name][places] = column.lo, column.hi
        self._enqueue(places)

    def due(self, now: float, mark: int, budget: int) -> Iterator[Aggregate]:
        """At most `budget` events that are due at `now` (monotonic seconds), those that waited longest first.

        Consume the whole answer: memory counts them as emitted.
        """
        self._sweep(mark)
        if not len(self._queue):
            return
        rows = self._queue
        through, emitted = self._numbers["through"][rows], self._numbers["emitted"][rows]
        open_ = self._rules.is_open(self._index.end[rows], mark)
        newly_final = self._rules.is_final(self._index.end[rows], mark) & ~self._final[rows]
        wanted = open_ & ((through > emitted) | (newly_final & (through >= emitted) & (through >= 0)))
        self._pending[rows[~wanted]] = False
        rows = rows[wanted]
        ready = rows[self._emitted_at[rows] + self._interval <= now]
        if len(ready) > budget:
            ready = ready[np.argpartition(self._emitted_at[ready], budget)[:budget]]
        self._pending[ready] = False
        self._queue = rows[self._pending[rows]]
        self._emitted_at[ready] = now
        for row in ready.tolist():
            yield self._emit(row, mark)

    def forget(self, mark: int) -> Iterator[Window]:
        """Drop the windows that are past remembering; those that were emitted and need a tombstone."""
        for pane in [pane for pane in self._index.panes() if self._rules.is_forgotten(pane.end, mark)]:
            dropped = self._index.drop(pane)
            self._swept.discard((pane.period, pane.start))
            self._queue = self._queue[~np.isin(self._queue, dropped)]
            for row in dropped[self._numbers["emitted"][dropped] > _NOTHING].tolist():
                yield Window(self._subjects[int(self._index.slot[row])], pane.period, pane.start, pane.end)
            for name in ("through", "emitted"):
                self._numbers[name][dropped] = _NOTHING
            self._emitted_at[dropped] = _NEVER
            self._final[dropped] = self._pending[dropped] = False

    @property
    def memory(self) -> int:
        """Bytes: about 150 per window and 4 per subject and pane."""
        columns = [*self._numbers.values(), *self._lo.values(), *self._hi.values()]
        columns_bytes = sum(column.nbytes for column in columns) + self._emitted_at.nbytes
        return self._index.memory + columns_bytes + self._final.nbytes + self._pending.nbytes + self._queue.nbytes

    def _sweep(self, mark: int) -> None:
        """Windows whose time for a final event has come are due although no row of theirs arrives."""
        for pane in self._index.panes():
            name = (pane.period, pane.start)
            if name not in self._swept and self._rules.is_final(pane.end, mark):
                self._swept.add(name)
                self._enqueue(pane.taken())

    def _enqueue(self, rows: npt.NDArray[np.int64]) -> None:
        fresh = rows[~self._pending[rows]]
        self._pending[fresh] = True
        self._queue = np.concatenate([self._queue, fresh])

    def _emit(self, row: int, mark: int) -> Aggregate:
        pane = self._index.window(row)
        window = Window(self._subjects[int(self._index.slot[row])], pane.period, pane.start, pane.end)
        values = WindowValues(int(self._numbers["count"][row]), *(self._amount(name, row) for name in AMOUNTS))
        kind = self._definitions.aggregation_type(window.subject[0], window.subject[1]) or AggregationType.SUM
        total = total_of(kind, values)
        previous = self._amount("total", row) if self._numbers["emitted"][row] > _NOTHING else None
        revision = int(self._numbers["through"][row])
        is_final = bool(self._final[row] or self._rules.is_final(pane.end, mark))
        self._set_emitted(row, revision, is_final, total)
        return Aggregate(window, values, total, revision, is_final, previous)

    def _set_emitted(self, row: int, revision: int, is_final: bool, total: int) -> None:
        self._numbers["emitted"][row] = revision
        self._final[row] = is_final
        self._lo["total"][row] = total & 0xFFFF_FFFF_FFFF_FFFF
        self._hi["total"][row] = total >> 64

    def _amount(self, name: str, row: int) -> int:
        return (int(self._hi[name][row]) << 64) + int(self._lo[name][row])

    def _grow(self) -> None:
        size = self._index.size
        for name, column in self._numbers.items():
            self._numbers[name] = grown(column, size, _NOTHING)
        for name in self._lo:
            self._lo[name] = grown(self._lo[name], size, 0)
            self._hi[name] = grown(self._hi[name], size, 0)
        self._emitted_at = grown(self._emitted_at, size, _NEVER)
        self._final = grown(self._final, size, 0)
        self._pending = grown(self._pending, size, 0)
