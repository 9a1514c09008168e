"""Windows of one partition as rows of numpy columns, without their names.

A *pane* is one period at one start: all its windows end together, so they are closed and forgotten together. A window
in it is found by 96 bits of its subject's hash (64 of one function, 32 of another), through a table with open
addressing: among a billion windows of one pane the chance of two with equal bits is 1 in 10^11. A batch costs the same
however many windows there are, and a window takes about 30 bytes, plus 25 where it is aggregated. Names are kept only
where a level was crossed or an aggregate waits (judge.py, waiting.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from meterfold_processor.checker.rules import PERIODS, end_of
from meterfold_schemas.periods import Period

__all__ = ["NOTHING", "Int64s", "Pane", "Panes", "SubjectHashes", "Window", "grown"]

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
A = TypeVar("A", bound=np.generic)

Subject = tuple[str, str, str, str]
"""org_id, metric_key, subject_type, subject_id."""

NOTHING: Final = -1

_SMALLEST: Final = 64
_SLOWLY: Final = 1 << 16
"""Columns longer than this grow by an eighth instead of doubling."""
_FULL: Final = 0.70
"""The load at which a hash table is built again, with a load of _FRESH."""
_FRESH: Final = 0.56


@dataclass(frozen=True, slots=True)
class Window:
    """Identity of one window; times in UTC microseconds, `end` is rules.NEVER for a lifetime."""

    subject: Subject
    period: Period
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SubjectHashes:
    """Two independent hashes of each row's subject."""

    key: npt.NDArray[np.uint64]
    check: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.key)

    def take(self, at: npt.NDArray[np.intp] | Int64s) -> SubjectHashes:
        return SubjectHashes(self.key[at], self.check[at])


class Pane:
    """All windows of one period with one start; `columns` of the judge and, if it is aggregated, of the aggregates.

    `through` and `state` (a place in the judge's states) belong to the judge, `emitted` (a revision), `total`, `flags`
    and `waits` (a place in the waiting windows) to the aggregates. Row numbers are dense and never change.
    """

    __slots__ = ("_check", "_key", "_table", "aggregated", "columns", "end", "huge", "period", "size", "start")

    def __init__(self, code: int, start: int, *, aggregated: bool) -> None:
        self.period = PERIODS[code]
        self.start = start
        self.end = end_of(code, start)
        self.aggregated = aggregated
        self.size = 0
        self.huge: dict[int, int] = {}
        """Emitted totals that need more than 64 bits, by row."""
        self._key = np.empty(0, np.uint64)
        self._check = np.empty(0, np.uint32)
        self._table = np.full(_SMALLEST, NOTHING, np.int32)
        self.columns: dict[str, npt.NDArray[Any]] = {
            "through": np.empty(0, np.int64),
            "state": np.empty(0, np.int32),
        }
        if aggregated:
            self.columns |= {
                "emitted": np.empty(0, np.int64),
                "total": np.empty(0, np.int64),
                "flags": np.empty(0, np.uint8),
                "waits": np.empty(0, np.int32),
            }

    def locate(self, subjects: SubjectHashes, create: Bools) -> Int64s:
        """The row of each subject, or -1; where `create` holds, a missing one is made. `create` is the same for equal
        subjects."""
        rows = self._find(subjects)
        missing = np.flatnonzero(create & (rows < 0))
        if len(missing):
            wanted = subjects.take(missing)
            order = np.lexsort((wanted.check, wanted.key))
            key, check = wanted.key[order], wanted.check[order]
            is_first = np.ones(len(order), np.bool_)
            is_first[1:] = (key[1:] != key[:-1]) | (check[1:] != check[:-1])
            self._add(key[is_first], check[is_first])
            rows[missing] = self.size - int(is_first.sum()) + np.cumsum(is_first)[np.argsort(order)] - 1
        return rows

    @property
    def memory(self) -> int:
        """Bytes."""
        own: list[npt.NDArray[Any]] = [self._key, self._check, self._table, *self.columns.values()]
        return sum(column.nbytes for column in own) + 100 * len(self.huge)

    def _find(self, subjects: SubjectHashes) -> Int64s:
        rows = np.full(len(subjects), NOTHING, np.int64)
        left = np.arange(len(subjects))
        places = self._home(subjects.key)
        while len(left):
            rows_here = self._table[places]
            taken = rows_here >= 0
            left, places, rows_here = left[taken], places[taken], rows_here[taken]
            same = (self._key[rows_here] == subjects.key[left]) & (self._check[rows_here] == subjects.check[left])
            rows[left[same]] = rows_here[same]
            left, places = left[~same], places[~same] + 1
            places[places == len(self._table)] = 0
        return rows

    def _add(self, key: npt.NDArray[np.uint64], check: npt.NDArray[np.uint32]) -> None:
        first = self.size
        self.size += len(key)
        self._key, self._check = grown(self._key, self.size, 0), grown(self._check, self.size, 0)
        self._key[first : self.size], self._check[first : self.size] = key, check
        for name, column in self.columns.items():
            self.columns[name] = grown(column, self.size, 0 if name in ("total", "flags") else NOTHING)
        if self.size > len(self._table) * _FULL:
            self._table = np.full(max(_SMALLEST, int(self.size / _FRESH)), NOTHING, np.int32)
            first = 0
        self._place(np.arange(first, self.size, dtype=np.int32))

    def _place(self, rows: npt.NDArray[np.int32]) -> None:
        places = self._home(self._key[rows])
        while len(rows):
            free = np.flatnonzero(self._table[places] < 0)
            self._table[places[free]] = rows[free]
            # Of several rows for one place the last one got it.
            left = self._table[places] != rows
            rows, places = rows[left], places[left] + 1
            places[places == len(self._table)] = 0

    def _home(self, key: npt.NDArray[np.uint64]) -> Int64s:
        upper = key >> np.uint64(32)
        return ((upper * np.uint64(len(self._table))) >> np.uint64(32)).astype(np.int64)


class Panes:
    """The panes of one partition. `aggregated`: the codes of the periods that usage.aggregated has."""

    def __init__(self, aggregated: frozenset[int] = frozenset()) -> None:
        self._panes: dict[tuple[int, int], Pane] = {}
        self._aggregated = aggregated

    def __iter__(self) -> Iterator[Pane]:
        yield from self._panes.values()

    def pane(self, code: int, start: int) -> Pane:
        """The pane of this period and start, made if there is none."""
        found = self._panes.get((code, start))
        if found is None:
            found = self._panes[code, start] = Pane(code, start, aggregated=code in self._aggregated)
        return found

    def groups(self, periods: npt.NDArray[np.int8], starts: Int64s) -> Iterator[tuple[int, int, Int64s]]:
        """(period code, start, places of its rows) of each pane among rows; makes none."""
        if not len(starts):
            return
        order = np.lexsort((starts, periods))
        ordered_periods, ordered_starts = periods[order], starts[order]
        differs = (ordered_periods[1:] != ordered_periods[:-1]) | (ordered_starts[1:] != ordered_starts[:-1])
        bounds = [0, *(np.flatnonzero(differs) + 1).tolist(), len(order)]
        for begin, end in pairwise(bounds):
            yield int(ordered_periods[begin]), int(ordered_starts[begin]), order[begin:end]

    def find(self, code: int, start: int) -> Pane | None:
        return self._panes.get((code, start))

    def drop(self, pane: Pane) -> None:
        """Forget a pane with all its windows."""
        self._panes = {name: kept for name, kept in self._panes.items() if kept is not pane}

    @property
    def windows(self) -> int:
        return sum(pane.size for pane in self._panes.values())

    @property
    def memory(self) -> int:
        """Bytes."""
        return sum(pane.memory for pane in self._panes.values())


def grown(column: npt.NDArray[A], size: int, fill: int) -> npt.NDArray[A]:
    """The column, at least `size` long. Growing costs a constant per row in all."""
    if len(column) >= size:
        return column
    spare = len(column) if len(column) < _SLOWLY else len(column) // 8
    longer = np.full(max(size, len(column) + spare, _SMALLEST), fill, dtype=column.dtype)
    longer[: len(column)] = column
    return longer
