"""The source log, the fold and ClickHouse, as far as the checker depends on them.

A window's row at any offset is a function of the source log, so every row that is stored or published is either the
truth as of some offset or it is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from meterfold_processor.checker.rules import CODES, end_of
from meterfold_processor.checker.sweeps import WindowKey
from meterfold_processor.columns.tables import WINDOWS
from meterfold_schemas.periods import KEPT, Period, period_start
from meterfold_schemas.quantities import UNIT, to_decimal

Subject = tuple[str, str, str, str]


class Name(NamedTuple):
    """A window's identity."""

    subject: Subject
    period: Period
    start: int

    @property
    def end(self) -> int:
        return end_of(CODES[self.period], self.start)


def key_of(name: Name) -> WindowKey:
    """The order in which windows are stored."""
    return (CODES[name.period], name.start, *name.subject)


@dataclass(frozen=True)
class Event:
    offset: int
    subject: Subject
    time: int
    quantity: int  # unscaled
    stamp: int


@dataclass(frozen=True)
class Row:
    name: Name
    count: int
    sum: int
    min: int
    max: int
    last: int
    through: int


class ModelStore:
    def __init__(self, partitions: int) -> None:
        self.events: dict[int, list[Event]] = {p: [] for p in range(partitions)}
        self.stored: dict[int, dict[Name, Row]] = {p: {} for p in range(partitions)}
        self.stamps: dict[int, int | None] = dict.fromkeys(range(partitions))
        self.folded = dict.fromkeys(range(partitions), 0)  # the progress row's next offset
        self.published: list[tuple[int, list[Row]]] = []
        self.down = False

    def append(self, partition: int, subject: Subject, time: int, quantity: int, now: int) -> int:
        log = self.events[partition]
        log.append(Event(len(log), subject, time, quantity * UNIT, now))
        return log[-1].offset

    def row(self, partition: int, name: Name, through: int) -> Row:
        """The truth: the window of all events up to `through`, inclusive."""
        inside = [
            e
            for e in self.events[partition]
            if e.offset <= through and e.subject == name.subject and period_start(name.period, e.time) == name.start
        ]
        amounts = [e.quantity for e in inside]
        last = max(inside, key=lambda e: (e.time, e.offset))
        return Row(
            name, len(inside), sum(amounts), min(amounts), max(amounts), last.quantity, max(e.offset for e in inside)
        )

    def fold(self, partition: int, count: int | None = None) -> Flush:
        """The touched windows of the next `count` events (or all); nothing is written yet."""
        begin = self.folded[partition]
        events = self.events[partition][begin:] if count is None else self.events[partition][begin : begin + count]
        names = dict.fromkeys(Name(e.subject, p, period_start(p, e.time)) for e in events for p in KEPT)
        stored = self.stored[partition]
        rows = []
        for name in names:
            row = self.row(partition, name, events[-1].offset)
            known = stored.get(name)
            rows.append(known if known is not None and known.through > row.through else row)
        return Flush(self, partition, rows, begin + len(events), events[-1].stamp if events else None)

    def table(self, partition: int, rows: list[Row]) -> pa.Table:
        columns = {
            "org_id": [r.name.subject[0] for r in rows],
            "metric_key": [r.name.subject[1] for r in rows],
            "subject_type": [r.name.subject[2] for r in rows],
            "subject_id": [r.name.subject[3] for r in rows],
            "period_type": [CODES[r.name.period] for r in rows],
            "period_start": [r.name.start for r in rows],
            "partition": [partition] * len(rows),
            "record_count": [r.count for r in rows],
            **{n: [to_decimal(getattr(r, n)) for r in rows] for n in ("sum", "min", "max", "last")},
            "last_timestamp": [0] * len(rows),
            "last_offset": [r.through for r in rows],
            "folded_through": [r.through for r in rows],
        }
        return pa.Table.from_pydict(columns, schema=WINDOWS)


@dataclass
class Flush:
    """One flush of the fold, step by step: insert, publish, progress. Each may be repeated, late, or never happen."""

    store: ModelStore
    partition: int
    rows: list[Row]
    next_offset: int
    stamp: int | None
    messages: list[list[Row]] = field(default_factory=list)

    def insert(self) -> None:
        stored = self.store.stored[self.partition]
        for row in self.rows:
            known = stored.get(row.name)
            if known is None or known.through <= row.through:
                stored[row.name] = row

    def progress(self) -> None:
        if self.next_offset > self.store.folded[self.partition]:
            self.store.folded[self.partition] = self.next_offset
            self.store.stamps[self.partition] = self.stamp
