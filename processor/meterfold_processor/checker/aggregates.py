"""What `usage.aggregated` says about the windows of one partition, and what it has to say next.

The emitted state is the topic itself: it is read back after an assignment, behind everything that judges, and nothing
is emitted before (`restored`). A window is due when its row is newer than what was emitted, or when it has become
final; at most once per emit interval. A step costs what it emits, however many windows wait:

    a change            a window that neither waits nor was emitted within the interval joins the queue
    an emission         takes from the head of the queue, and puts the windows aside until their interval is over
    the interval ends   of those put aside, the ones that have changed meanwhile join the queue

Values are kept of waiting windows only. Where they do not fit, and for windows that become final without a new row, the
stored windows are read again, in pieces (`missed`, `newly_final`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from meterfold_processor.checker.definitions import Definitions
from meterfold_processor.checker.panes import NOTHING, Bools, Int64s, Pane, Panes, SubjectHashes
from meterfold_processor.checker.rows import WindowColumns, newest
from meterfold_processor.checker.rules import CODES, WindowRules
from meterfold_processor.checker.values import TYPE_CODES, values_of
from meterfold_processor.checker.waiting import Room, Waiting
from meterfold_processor.columns.limbs import Limbs
from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.periods import Period
from meterfold_schemas.totals import AMOUNTS
from meterfold_schemas.vocabulary import AggregationType

__all__ = ["AggregateColumns", "Aggregates", "EmittedColumns"]

_FINAL: Final = np.uint8(1)
"""The emitted event is final."""
_COOLING: Final = np.uint8(2)
"""Emitted within the interval."""


@dataclass(frozen=True, slots=True)
class EmittedColumns:
    """Events of `usage.aggregated`, as far as they are remembered; `total` unscaled."""

    subjects: SubjectHashes
    periods: npt.NDArray[np.int8]
    starts: Int64s
    revision: Int64s
    is_final: Bools
    total: Limbs


@dataclass(frozen=True, slots=True)
class AggregateColumns:
    """Events to emit. `ends` has rules.NEVER for a lifetime; amounts are unscaled. `previous` counts where
    `has_previous`: the total of the event before."""

    names: dict[str, npt.NDArray[np.object_]]
    periods: npt.NDArray[np.int8]
    starts: Int64s
    ends: Int64s
    count: Int64s
    amounts: dict[str, Limbs]
    total: Limbs
    revision: Int64s
    is_final: Bools
    has_previous: Bools
    previous: Limbs

    def __len__(self) -> int:
        return len(self.revision)


class Aggregates:
    """The emitted state of one partition's windows and those that wait, for the periods and metrics that are
    aggregated."""

    def __init__(
        self,
        definitions: Definitions,
        panes: Panes,
        rules: WindowRules,
        periods: frozenset[Period],
        is_wanted: Callable[[str], bool],
        interval: float,
        room: Room,
    ) -> None:
        self._definitions = definitions
        self._panes = panes
        self._rules = rules
        self._codes = np.array([CODES[period] for period in periods], dtype=np.int8)
        self._is_wanted = is_wanted
        self._wanted: dict[str, bool] = {}
        self._interval = interval
        self._waiting = Waiting(room)
        self._cooling: deque[tuple[float, Pane, Int64s]] = deque()
        self._swept: set[tuple[Period, int]] = set()
        self.restored = False
        """The emitted state is in memory; before that nothing waits."""
        self.missed = False
        """Windows that should wait do not: the stored ones have to be read again."""

    @property
    def waiting(self) -> int:
        """Windows that have something to say, now or when their interval is over."""
        return len(self._waiting)

    @property
    def is_ready(self) -> bool:
        """Whether a window's turn has come."""
        return self._waiting.is_ready

    @property
    def memory(self) -> int:
        """Bytes beside the panes."""
        return self._waiting.memory + sum(rows.nbytes for _, _, rows in self._cooling)

    def restore(self, emitted: EmittedColumns) -> None:
        """Take events from `usage.aggregated`, in any order."""
        for code, start, at in self._panes.groups(emitted.periods, emitted.starts):
            pane = self._panes.pane(code, start)
            if not pane.aggregated:
                continue
            rows = pane.locate(emitted.subjects.take(at), np.ones(len(at), np.bool_))
            # Of equal revisions the final one is newer.
            kept = newest(rows, emitted.revision[at] * 2 + emitted.is_final[at])
            rows, at = rows[kept], at[kept]
            known = pane.columns["emitted"][rows] * 2 + (pane.columns["flags"][rows] & _FINAL)
            newer = emitted.revision[at] * 2 + emitted.is_final[at] > known
            rows, at = rows[newer], at[newer]
            self._set_emitted(pane, rows, emitted.revision[at], emitted.is_final[at], emitted.total.take(at))

    def take(self, rows: WindowColumns, mark: int) -> None:
        """Rows of windows, stored or published: those that have something to say wait from now on."""
        if not self.restored:
            return
        rows = rows.take(np.flatnonzero(np.isin(rows.periods, self._codes)))
        rows = rows.take(np.flatnonzero(self._of_wanted_metrics(rows)))
        for code, start, at in self._panes.groups(rows.periods, rows.starts):
            pane = self._panes.pane(code, start)
            if not self._rules.is_open(pane.end, mark):
                continue
            places = pane.locate(rows.subjects.take(at), np.ones(len(at), np.bool_))
            kept = newest(places, rows.through[at])
            self._take(pane, places[kept], rows.take(at[kept]), mark)

    def due(self, now: float, mark: int, most: int) -> AggregateColumns | None:
        """At most so many events that are due at `now` (monotonic seconds), those whose turn came first. Memory counts
        them as emitted."""
        self._end_intervals(now)
        places = self._waiting.next(most)
        if not len(places):
            return None
        parts: list[_Part] = []
        for code, start, at in self._panes.groups(self._waiting.period[places], self._waiting.start[places]):
            pane = self._panes.find(code, start)
            part = None if pane is None else self._part(pane, places[at], mark)
            if pane is not None:
                pane.columns["waits"][self._waiting.row[places[at]]] = NOTHING
            if part is not None:
                parts.append(part)
        found = self._columns(parts) if parts else None
        if found is not None:
            first = 0
            for part in parts:
                until = first + len(part.rows)
                total = found.total.take(np.arange(first, until))
                self._set_emitted(part.pane, part.rows, found.revision[first:until], found.is_final[first:until], total)
                part.pane.columns["flags"][part.rows] |= _COOLING
                self._cooling.append((now + self._interval, part.pane, part.rows))
                first = until
        self._waiting.drop(places)
        return found

    def newly_final(self, mark: int) -> Iterator[Pane]:
        """Panes whose time for final events has come: once each."""
        for pane in self._panes:
            name = (pane.period, pane.start)
            if pane.aggregated and name not in self._swept and self._rules.is_final(pane.end, mark):
                self._swept.add(name)
                yield pane

    def emitted(self, rows: WindowColumns, pane: Pane) -> WindowColumns:
        """Those rows of a pane that something was emitted of."""
        places = pane.locate(rows.subjects, np.zeros(len(rows), np.bool_))
        known = np.flatnonzero(places >= 0)
        known = known[newest(places[known], rows.through[known])]
        return rows.take(known[pane.columns["emitted"][places[known]] > NOTHING])

    def close(self) -> None:
        """Nothing of this partition waits any more."""
        self._waiting.close()

    def _take(self, pane: Pane, windows: Int64s, rows: WindowColumns, mark: int) -> None:
        waits = pane.columns["waits"][windows].astype(np.int64)
        emitted, flags = pane.columns["emitted"][windows], pane.columns["flags"][windows]
        known = np.flatnonzero(waits >= 0)
        known = known[rows.through[known] >= self._waiting.through[waits[known]]]
        self._waiting.replace(waits[known], rows.take(known))
        due = rows.through > emitted
        if self._rules.is_final(pane.end, mark):
            due |= ((flags & _FINAL) == 0) & (rows.through >= emitted)
        fresh = np.flatnonzero(due & (waits < 0))
        if not len(fresh):
            return
        places = self._waiting.add(windows[fresh], rows.take(fresh))
        if len(places) < len(fresh):
            self.missed = True
            fresh = fresh[: len(places)]
        pane.columns["waits"][windows[fresh]] = places
        self._waiting.enqueue(places[(flags[fresh] & _COOLING) == 0])

    def _end_intervals(self, now: float) -> None:
        while self._cooling and self._cooling[0][0] <= now:
            _, pane, rows = self._cooling.popleft()
            pane.columns["flags"][rows] &= ~_COOLING
            waits = pane.columns["waits"][rows]
            self._waiting.enqueue(waits[waits >= 0].astype(np.int64))

    def _part(self, pane: Pane, places: Int64s, mark: int) -> _Part | None:
        if not self._rules.is_open(pane.end, mark):
            return None
        rows, through = self._waiting.row[places], self._waiting.through[places]
        emitted = pane.columns["emitted"][rows]
        was_final = (pane.columns["flags"][rows] & _FINAL) != 0
        is_final = was_final | self._rules.is_final(pane.end, mark)
        chosen = np.flatnonzero((through > emitted) | (is_final & ~was_final & (through >= emitted)))
        if not len(chosen):
            return None
        return _Part(pane, rows[chosen], places[chosen], is_final[chosen])

    def _columns(self, parts: list[_Part]) -> AggregateColumns:
        places = np.concatenate([part.places for part in parts])
        waiting = self._waiting
        sizes = [len(part.rows) for part in parts]
        names = {name: waiting.name(name, places) for name in SUBJECT}
        amounts = {name: waiting.amount(name, places) for name in AMOUNTS}
        count = waiting.count[places]
        previous = np.concatenate([part.pane.columns["total"][part.rows] for part in parts])
        lo, hi = previous.view(np.uint64).copy(), previous >> 63
        first = 0
        for part in parts:
            if part.pane.huge:
                for at, row in enumerate(part.rows.tolist(), first):
                    total = part.pane.huge.get(row)
                    if total is not None:
                        lo[at], hi[at] = total & 0xFFFF_FFFF_FFFF_FFFF, total >> 64
            first += len(part.rows)
        return AggregateColumns(
            names=names,
            periods=waiting.period[places],
            starts=waiting.start[places],
            ends=np.repeat(np.array([part.pane.end for part in parts]), sizes),
            count=count,
            amounts=amounts,
            total=values_of(self._types(names), count, *(amounts[name] for name in AMOUNTS)),
            revision=waiting.through[places],
            is_final=np.concatenate([part.is_final for part in parts]),
            has_previous=np.concatenate([part.pane.columns["emitted"][part.rows] > NOTHING for part in parts]),
            previous=Limbs(lo, hi),
        )

    def _types(self, names: dict[str, npt.NDArray[np.object_]]) -> npt.NDArray[np.int8]:
        known: dict[tuple[str, str], int] = {}
        codes = np.empty(len(names["org_id"]), np.int8)
        for at, pair in enumerate(zip(names["org_id"].tolist(), names["metric_key"].tolist(), strict=True)):
            code = known.get(pair)
            if code is None:
                kind = self._definitions.aggregation_type(*pair) or AggregationType.SUM
                code = known[pair] = TYPE_CODES[kind]
            codes[at] = code
        return codes

    def _set_emitted(self, pane: Pane, rows: Int64s, revision: Int64s, is_final: Bools, total: Limbs) -> None:
        pane.columns["emitted"][rows] = revision
        pane.columns["flags"][rows] = (pane.columns["flags"][rows] & ~_FINAL) | is_final.astype(np.uint8)
        pane.columns["total"][rows] = total.lo.view(np.int64)
        if pane.huge:
            for row in rows.tolist():
                pane.huge.pop(row, None)
        if not total.fits_int64():
            for at in np.flatnonzero(total.hi != (total.lo.view(np.int64) >> 63)).tolist():
                pane.huge[int(rows[at])] = (int(total.hi[at]) << 64) + int(total.lo[at])

    def _of_wanted_metrics(self, rows: WindowColumns) -> Bools:
        found = rows.text("metric_key").dictionary_encode()
        keys = found.dictionary.to_pylist()
        for key in keys:
            if key not in self._wanted:
                self._wanted[key] = self._is_wanted(key)
        wanted: Bools = np.array([self._wanted[key] for key in keys], np.bool_)[found.indices.to_numpy()]
        return wanted


@dataclass(frozen=True, slots=True)
class _Part:
    """The events of one pane: rows of the pane, places in the waiting windows."""

    pane: Pane
    rows: Int64s
    places: Int64s
    is_final: Bools
