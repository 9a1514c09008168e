"""A frame, slice by slice, as runs of messages, and what became of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from meterfold.batch import BatchResults, Recorded
from meterfold.frames import columns
from meterfold.frames.repeats import earlier_rows
from meterfold.frames.sources import Source
from meterfold.tables import rows
from meterfold_schemas.avro_columns import bytes_list
from meterfold_schemas.errors import MeterfoldError

if TYPE_CHECKING:
    from meterfold.recorder import Recorder

__all__ = ["FrameBatch", "Run"]


@dataclass(frozen=True, slots=True)
class Run:
    """Messages to be sent in this order. `rows`: the row of each in the frame."""

    rows: Sequence[int]
    keys: list[bytes]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.keys)


class FrameBatch:
    """`runs` gives the messages; say with `refuse` which of them were not taken; then `results`."""

    def __init__(
        self,
        source: Source,
        recorder: Recorder,
        *,
        header: bytes,
        default_org: str,
        clock: Callable[[], columns.Clock],
        new_ids: Callable[[int], Any],
        is_defined: Callable[[str, str], bool] | None = None,
    ) -> None:
        self._source = source
        self._recorder = recorder
        self._header = header
        self._default_org = default_org
        self._clock = clock
        self._new_ids = new_ids
        self._is_defined = is_defined
        self._earlier = earlier_rows(source.table, default_org)
        self._later = {earlier: row for row, earlier in self._earlier.items()}
        self._held: dict[int, tuple[bytes, bytes]] = {}
        self._freed: list[int] = []
        self._others: dict[int, Recorded] = {}
        self._ids = _Ids()

    def runs(self, slice_rows: int) -> Iterator[Run]:
        """The messages. A row that repeats an earlier one follows in a run of its own if that one was refused."""
        start = 0
        for batch in self._source.table.to_batches(max_chunksize=slice_rows):
            if batch.num_rows:
                yield self._run(batch, start)
                yield from self._freed_runs()
                start += batch.num_rows

    def refuse(self, row: int, error: MeterfoldError) -> None:
        """A message was not taken."""
        self._others[row] = Recorded("refused", self._ids[row], error)
        later = self._later.get(row)
        if later is not None and later in self._held:
            self._freed.append(later)

    def results(self) -> BatchResults:
        return BatchResults(self._ids, self._others)

    def _freed_runs(self) -> Iterator[Run]:
        while self._freed:
            row = self._freed.pop()
            key, value = self._held.pop(row)
            del self._others[row]
            yield Run([row], [key], [value])

    def _run(self, batch: Any, start: int) -> Run:
        found = columns.encoded(batch, self._header, self._default_org, self._clock(), self._new_ids, self._is_defined)
        self._ids.add(found.ids)
        keys, values = bytes_list(found.keys), bytes_list(found.values)
        places = np.flatnonzero(~found.valid).tolist()
        unsent = set[int]()
        for place, (event_id, event) in zip(places, self._one_by_one([start + place for place in places]), strict=True):
            self._ids.replace(start + place, event_id)
            if isinstance(event, MeterfoldError):
                self._others[start + place] = Recorded("refused", event_id, event)
                unsent.add(place)
            else:
                keys[place], values[place] = event
        if self._earlier:
            for place in range(len(keys)):
                if place not in unsent and self._repeats(start + place):
                    self._others[start + place] = Recorded("repeated", self._ids[start + place])
                    self._held[start + place] = keys[place], values[place]
                    unsent.add(place)
        if not unsent:
            return Run(range(start, start + len(keys)), keys, values)
        kept = [place for place in range(len(keys)) if place not in unsent]
        return Run([start + place for place in kept], [keys[i] for i in kept], [values[i] for i in kept])

    def _one_by_one(self, places: list[int]) -> Iterator[tuple[str | None, tuple[bytes, bytes] | MeterfoldError]]:
        if places:
            for row in rows(self._source.rows_at(places)):
                event_id, event = self._recorder.encoded_row(row)
                yield event_id, event if isinstance(event, MeterfoldError) else event[1:]

    def _repeats(self, row: int) -> bool:
        """Whether an earlier row with the same identity was taken, or repeats one that was."""
        earlier = self._earlier.get(row)
        while earlier is not None:
            other = self._others.get(earlier)
            if other is None or other.status == "repeated":
                return True
            earlier = self._earlier.get(earlier)
        return False


class _Ids(Sequence[str | None]):
    """The ids of the rows so far; a text is made when it is asked for."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._parts: list[Any] = []
        self._replaced: dict[int, str | None] = {}
        self._size = 0

    def add(self, ids: Any) -> None:
        self._starts.append(self._size)
        self._parts.append(ids)
        self._size += len(ids)

    def replace(self, row: int, event_id: str | None) -> None:
        self._replaced[row] = event_id

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str | None] | None:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(self._size))]
        row = range(self._size)[index]
        if row in self._replaced:
            return self._replaced[row]
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        text: str | None = self._parts[part][row - self._starts[part]].as_py()
        return text
