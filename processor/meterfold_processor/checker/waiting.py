"""Windows that wait for their aggregate, with their newest values: the only windows whose names are in memory.

A place belongs to a window from its first change until it is emitted; further changes replace the values there, so that
a busy window neither loses its turn nor takes a second one. How many there may be is bounded for all partitions of a
process together: what does not fit is read from ClickHouse when there is room (aggregates.py).
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from meterfold_processor.checker.panes import Int64s, grown
from meterfold_processor.checker.rows import WindowColumns
from meterfold_processor.columns.limbs import Limbs
from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.totals import AMOUNTS

__all__ = ["Room", "Waiting"]

_NAME_BYTES: Final = 150
"""Of the four texts of a subject, about."""


class Room:
    """How many more windows may wait."""

    def __init__(self, windows: int) -> None:
        self.free = windows

    def take(self, wanted: int) -> int:
        """As many of the wanted as there is room for."""
        given = min(wanted, self.free)
        self.free -= given
        return given


class Waiting:
    """The waiting windows of one partition, and those of them whose turn has come, in order."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._free: list[int] = []
        self._size = 0
        self._ready: deque[Int64s] = deque()
        self.row = np.empty(0, np.int64)
        self.period = np.empty(0, np.int8)
        self.start = np.empty(0, np.int64)
        self.through = np.empty(0, np.int64)
        self.count = np.empty(0, np.int64)
        self._lo = {name: np.empty(0, np.uint64) for name in AMOUNTS}
        self._hi = {name: np.empty(0, np.int64) for name in AMOUNTS}
        self._names: dict[str, npt.NDArray[np.object_]] = {name: np.empty(0, np.object_) for name in SUBJECT}

    def __len__(self) -> int:
        return self._size - len(self._free)

    def add(self, windows: Int64s, rows: WindowColumns) -> Int64s:
        """The places of windows (rows of their pane) with these values: of the first ones, if there is not room for
        all."""
        given = self._room.take(len(windows))
        reused = [self._free.pop() for _ in range(min(given, len(self._free)))]
        fresh = np.arange(self._size, self._size + given - len(reused))
        self._size += len(fresh)
        self._grow()
        places = np.concatenate([np.array(reused, np.int64), fresh])
        kept = rows.take(np.arange(given))
        self.row[places], self.period[places], self.start[places] = windows[:given], kept.periods, kept.starts
        for name, column in self._names.items():
            column[places] = _texts(kept.text(name))
        self.replace(places, kept)
        return places

    def replace(self, places: Int64s, rows: WindowColumns) -> None:
        """Newer values."""
        self.through[places], self.count[places] = rows.through, rows.count
        for name in AMOUNTS:
            column: Limbs = getattr(rows, name)
            self._lo[name][places], self._hi[name][places] = column.lo, column.hi

    def enqueue(self, places: Int64s) -> None:
        """Their turn has come."""
        if len(places):
            self._ready.append(places)

    def next(self, most: int) -> Int64s:
        """At most so many places whose turn has come, those that came first."""
        found: list[Int64s] = []
        while self._ready and most > 0:
            first = self._ready.popleft()
            if len(first) > most:
                self._ready.appendleft(first[most:])
                first = first[:most]
            found.append(first)
            most -= len(first)
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def drop(self, places: Int64s) -> None:
        """Free places; they are in no queue."""
        for column in self._names.values():
            column[places] = None
        self._free.extend(places.tolist())
        self._room.free += len(places)

    def close(self) -> None:
        """Give all of the room back."""
        self._room.free += len(self)
        self._free = list(range(self._size))
        self._ready.clear()

    @property
    def is_ready(self) -> bool:
        """Whether any window's turn has come."""
        return bool(self._ready)

    def amount(self, name: str, places: Int64s) -> Limbs:
        return Limbs(self._lo[name][places], self._hi[name][places])

    def name(self, name: str, places: Int64s) -> npt.NDArray[np.object_]:
        return self._names[name][places]

    @property
    def memory(self) -> int:
        """Bytes."""
        columns: list[npt.NDArray[Any]] = [
            self.row,
            self.period,
            self.start,
            self.through,
            self.count,
            *self._names.values(),
        ]
        columns += [*self._lo.values(), *self._hi.values()]
        return sum(column.nbytes for column in columns) + _NAME_BYTES * len(self)

    def _grow(self) -> None:
        size = self._size
        self.row, self.period, self.start = (
            grown(self.row, size, 0),
            grown(self.period, size, 0),
            grown(self.start, size, 0),
        )
        self.through, self.count = grown(self.through, size, 0), grown(self.count, size, 0)
        for name in AMOUNTS:
            self._lo[name], self._hi[name] = grown(self._lo[name], size, 0), grown(self._hi[name], size, 0)
        for name, column in self._names.items():
            self._names[name] = grown(column, size, 0)


def _texts(column: Any) -> Any:
    """As Python strings; equal ones are one object where a column has few."""
    encoded = column.dictionary_encode()
    if 2 * len(encoded.dictionary) > len(column):
        return column.to_numpy(zero_copy_only=False)
    return encoded.dictionary.to_numpy(zero_copy_only=False)[encoded.indices.to_numpy()]
