"""The windows of a partition: loaded by buckets, merged row by row, evicted when closed and acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from meterfold_processor.columns.limbs import from_ints
from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.fold.grouping import Events
from meterfold_processor.fold.ledger import Ledger
from meterfold_processor.fold.subjects import SUBJECT, Subjects
from meterfold_schemas.keys import subject_key
from meterfold_schemas.periods import DAY, HOUR, KEPT, Period, micros, period_start

BASE = 19_782 * DAY + 22 * HOUR  # 2024-02-29T22:00Z
NAMES = ["a", "b"]
PERIOD_OF = dict(zip((1, 2, 3, 4), KEPT, strict=True))

Window = tuple[str, Period, int]
Row = tuple[int, ...]
Seen = tuple[int, int, int]  # subject, time, quantity; the offset is the place


class Stored:
    """Rows of windows that were written, newest first; counts what is asked for."""

    def __init__(self) -> None:
        self.rows: dict[Window, dict[str, Any]] = {}
        self.asked: list[tuple[Period, list[int]]] = []

    def find_records(self, hashes: Any) -> pl.DataFrame:
        raise AssertionError("windows need no records")

    def load_windows(self, period: Period, starts: Any) -> pl.DataFrame:
        self.asked.append((period, starts.tolist()))
        found = [row for (_, p, start), row in self.rows.items() if p == period and start in starts]
        return pl.DataFrame(pl.from_arrow(pa.Table.from_pylist(found, schema=WINDOWS)))

    def write(self, windows: pa.Table) -> None:
        for row in windows.to_pylist():
            key = (row["subject_id"], PERIOD_OF[row["period_type"]], micros(row["period_start"]))
            if key not in self.rows or row["folded_through"] > self.rows[key]["folded_through"]:
                self.rows[key] = row


def ledger_of(stored: Stored, *, complete: bool = False, max_windows: int = 10**6) -> Ledger:
    subjects = Subjects(0, 1)
    named = [("", "m", "user", name) for name in NAMES]
    schema = {"key": pl.Binary, **dict.fromkeys(SUBJECT, pl.String)}
    keyed = pl.DataFrame([(subject_key(*parts), *parts) for parts in named], schema=schema, orient="row")
    assert subjects.slots(keyed).tolist() == [0, 1]
    return Ledger(0, subjects, stored, complete=complete, max_windows=max_windows)


def events_of(log: list[Seen], first: int, end: int) -> Events:
    part = log[first:end]
    return Events(
        slot=np.array([subject for subject, _, _ in part], dtype=np.int64),
        time=np.array([time for _, time, _ in part], dtype=np.int64),
        offset=np.arange(first, first + len(part)),
        quantity=from_ints([quantity for _, _, quantity in part]),
    )


def naive(log: list[Seen], through: dict[Window, int] | None = None) -> dict[Window, Row]:
    """count, sum, min, max, last, its time and offset, folded_through; `through` cuts each window off."""
    groups: dict[Window, list[tuple[int, int, int]]] = {}
    for offset, (subject, time, quantity) in enumerate(log):
        for period in KEPT:
            key = (NAMES[subject], period, period_start(period, time))
            if through is None or offset <= through.get(key, -1):
                groups.setdefault(key, []).append((time, offset, quantity))
    answer = {}
    for key, rows in groups.items():
        amounts = [quantity for _, _, quantity in rows]
        time, offset, last = max(rows)
        answer[key] = (
            len(rows),
            sum(amounts),
            min(amounts),
            max(amounts),
            last,
            time,
            offset,
            max(o for _, o, _ in rows),
        )
    return answer


def readable(rows: dict[Window, dict[str, Any]]) -> dict[Window, Row]:
    return {
        key: (
            row["record_count"],
            *(int(row[name].scaleb(9)) for name in ("sum", "min", "max", "last")),
            micros(row["last_timestamp"]),
            row["last_offset"],
            row["folded_through"],
        )
        for key, row in rows.items()
    }


TIMES = st.sampled_from([0, 1, HOUR, 2 * HOUR, 3 * HOUR, DAY, 31 * DAY]).map(lambda time: BASE + time)
LOGS = st.lists(st.tuples(st.integers(0, 1), TIMES, st.integers(-4, 4)), min_size=1, max_size=12)


def cuts(data: st.DataObject, size: int) -> Iterator[tuple[int, int]]:
    first = 0
    while first < size:
        end = data.draw(st.integers(first + 1, size))
        yield first, end
        first = end


@hypothesis_settings(max_examples=40)
@given(LOGS, st.booleans(), st.data())
def test_any_cut_and_any_eviction_comes_to_the_same(log: list[Seen], complete: bool, data: st.DataObject) -> None:
    stored = Stored()
    ledger = ledger_of(stored, complete=complete)
    for sequence, (first, end) in enumerate(cuts(data, len(log))):
        stored.write(ledger.enter(events_of(log, first, end), first, sequence))
        if data.draw(st.booleans()):
            ledger.evict(data.draw(st.sampled_from([BASE, BASE + DAY, BASE + 90 * DAY])), acknowledged=sequence)
    assert readable(stored.rows) == naive(log)


@hypothesis_settings(max_examples=40)
@given(LOGS, st.data())
def test_windows_that_hold_different_parts_of_a_batch(log: list[Seen], data: st.DataObject) -> None:
    """Each row takes what is above its own mark; every touched row is returned, also those that had it all."""
    whole = Stored()
    whole.write(ledger_of(whole).enter(events_of(log, 0, len(log)), 0, 0))
    marks = {key: data.draw(st.integers(-1, len(log) - 1)) for key in whole.rows}
    partly = Stored()
    for key, row in naive(log, marks).items():
        written = ledger_of(Stored()).enter(events_of(log, 0, row[7] + 1), 0, 0)
        aside = Stored()
        aside.write(written)
        partly.rows[key] = aside.rows[key]
    returned = ledger_of(partly).enter(events_of(log, 0, len(log)), 0, 0)
    assert returned.num_rows == len(whole.rows)
    partly.write(returned)
    assert readable(partly.rows) == naive(log)


def test_nothing_counted_nothing_touched() -> None:
    stored = Stored()
    assert ledger_of(stored).enter(events_of([], 0, 0), 0, 0).num_rows == 0
    assert stored.asked == []


def test_a_bucket_is_read_once() -> None:
    log: list[Seen] = [(0, BASE, 1), (1, BASE + 1, 2), (0, BASE + HOUR, 3)]
    stored = Stored()
    ledger = ledger_of(stored)
    for offset in range(3):
        stored.write(ledger.enter(events_of(log, offset, offset + 1), offset, offset))
    asked = [period for period, starts in stored.asked for _ in starts]
    assert sorted(asked) == sorted([Period.HOURLY, Period.HOURLY, Period.DAILY, Period.MONTHLY, Period.LIFETIME])


def test_a_complete_partition_reads_only_what_it_evicted() -> None:
    log: list[Seen] = [(0, BASE, 1), (0, BASE, 2)]
    stored = Stored()
    ledger = ledger_of(stored, complete=True)
    stored.write(ledger.enter(events_of(log, 0, 1), 0, 0))
    assert stored.asked == []
    ledger.evict(BASE + HOUR, acknowledged=0)
    assert len(ledger) == 3, "day and month are still open, a lifetime never ends"
    stored.write(ledger.enter(events_of(log, 1, 2), 1, 1))
    assert [period for period, _ in stored.asked] == [Period.HOURLY]
    assert readable(stored.rows) == naive(log)


@pytest.mark.parametrize(("acknowledged", "left"), [(0, 4), (1, 1)])
def test_only_acknowledged_windows_are_evicted(acknowledged: int, left: int) -> None:
    ledger = ledger_of(Stored())
    ledger.enter(events_of([(0, BASE, 1)], 0, 1), 0, sequence=1)
    ledger.evict(BASE + 90 * DAY, acknowledged=acknowledged)
    assert len(ledger) == left


@pytest.mark.parametrize(("closed_at", "left"), [(BASE + HOUR - 1, 4), (BASE + HOUR, 3), (BASE + 2 * HOUR, 1)])
def test_a_window_is_closed_at_its_end(closed_at: int, left: int) -> None:
    """BASE is 22:00 of the last day of a month: the day and the month end two hours later."""
    ledger = ledger_of(Stored())
    ledger.enter(events_of([(0, BASE, 1)], 0, 1), 0, sequence=1)
    ledger.evict(closed_at, acknowledged=1)
    assert len(ledger) == left


def test_too_many_windows_go_by_age_and_come_back() -> None:
    log: list[Seen] = [(0, BASE + n * HOUR, n) for n in range(40)] + [(0, BASE, 7)]
    stored = Stored()
    ledger = ledger_of(stored, max_windows=10)
    for offset in range(len(log)):
        stored.write(ledger.enter(events_of(log, offset, offset + 1), offset, sequence=offset))
        ledger.evict(BASE - 90 * DAY, acknowledged=offset)
        assert len(ledger) <= 10 + 4
    assert readable(stored.rows) == naive(log)
