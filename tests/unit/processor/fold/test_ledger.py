"""The windows of a partition: loaded by buckets, merged row by row, evicted when closed and acknowledged."""

from __future__ import annotations

import random
from collections import Counter, deque
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
from meterfold_processor.columns.row_index import NONE
from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.fold import ledger
from meterfold_processor.fold.grouping import Events
from meterfold_processor.fold.ledger import Ledger
from meterfold_processor.fold.period_windows import Evictable, Loading, PeriodWindows, _not_before
from meterfold_processor.fold.store import FIRST_NAME
from meterfold_processor.fold.subjects import SUBJECT, Placed, Subjects
from meterfold_schemas.keys import Name, subject_key
from meterfold_schemas.periods import DAY, HOUR, KEPT, Period, micros, period_start
from support.seeds import seed_of

BASE = 19_782 * DAY + 22 * HOUR  # 2024-02-29T22:00Z
NAMES = ["a", "b", *(f"c{n}" for n in range(5_100))]
PERIOD_OF = dict(zip((1, 2, 3, 4), KEPT, strict=True))

WHOLE = Loading(whole=10**6)
LOADINGS = st.builds(
    Loading,
    whole=st.sampled_from([0, 1, 10**6]),
    evidence=st.sampled_from([0, 1, 3]),
    shares=st.sampled_from([1, 3]),
    part=st.just(1),
)

Window = tuple[str, Period, int]
Row = tuple[int, ...]
Seen = tuple[int, int, int]  # subject, time, quantity; the offset is the place


def row_name(row: dict[str, Any]) -> Name:
    return row["org_id"], row["metric_key"], row["subject_type"], row["subject_id"]


class Stored:
    """Rows of windows that were written, newest first; counts what is asked for."""

    def __init__(self) -> None:
        self.rows: dict[Window, dict[str, Any]] = {}
        self.asked: list[tuple[Period, list[int]]] = []
        self.counted: list[tuple[Period, list[int]]] = []
        self.wanted: list[tuple[Period, int]] = []
        self.parts: list[tuple[Period, int]] = []

    def load_windows(self, period: Period, starts: Any) -> pl.DataFrame:
        self.asked.append((period, starts.tolist()))
        found = [row for (_, p, start), row in self.rows.items() if p == period and start in starts]
        return pl.DataFrame(pl.from_arrow(pa.Table.from_pylist(found, schema=WINDOWS)))

    def count_windows(self, period: Period, starts: list[int]) -> dict[int, int]:
        self.counted.append((period, starts))
        return dict(Counter(start for _, p, start in self.rows if p == period and start in starts))

    def find_windows(self, period: Period, wanted: pl.DataFrame, low: Name) -> pl.DataFrame:
        """What is wanted, and all other windows of the same names."""
        self.wanted.append((period, wanted.height))
        names = set(wanted["subject_id"])
        assert low <= min(wanted.select(SUBJECT).iter_rows())
        found = [row for (name, p, _), row in self.rows.items() if p == period and name in names]
        return pl.DataFrame(pl.from_arrow(pa.Table.from_pylist(found, schema=WINDOWS)))

    def names_apart(self, period: Period, start: int, size: int) -> list[Name]:
        return sorted(row_name(row) for (_, p, s), row in self.rows.items() if p == period and s == start)[::size]

    def load_part(self, period: Period, start: int, low: Name, high: Name | None) -> Iterator[pl.DataFrame]:
        found = [
            row
            for (_, p, s), row in self.rows.items()
            if p == period and s == start and low <= row_name(row) and (high is None or row_name(row) < high)
        ]
        self.parts.append((period, len(found)))
        yield from pl.DataFrame(pl.from_arrow(pa.Table.from_pylist(found, schema=WINDOWS))).iter_slices(2)

    def write(self, windows: pa.Table) -> None:
        for row in windows.to_pylist():
            key = (row["subject_id"], PERIOD_OF[row["period_type"]], micros(row["period_start"]))
            if key not in self.rows or row["folded_through"] > self.rows[key]["folded_through"]:
                self.rows[key] = row


class Folding:
    """A ledger and its subjects, as a partition uses them."""

    def __init__(self, stored: Stored, *, complete: bool = False, loading: Loading = WHOLE) -> None:
        self.stored = stored
        self.subjects = Subjects(0, 1)
        self.ledger = Ledger(0, self.subjects, stored, complete=complete, loading=loading)

    def enter(self, log: list[Seen], first: int, end: int) -> pa.Table:
        """The windows that the events of these offsets touch; they are not written."""
        if first == end:
            return self.ledger.enter(events_of(log, first, end), self.subjects.place(keyed([])), first)
        placed = self.subjects.place(keyed([NAMES[subject] for subject, _, _ in log[first:end]]))
        events = events_of(log, first, end)
        return self.ledger.enter(Events(placed.subject, events.time, events.offset, events.quantity), placed, first)

    def fold(self, log: list[Seen], first: int, end: int) -> None:
        """The same, and they are written."""
        self.stored.write(self.enter(log, first, end))

    def evict(self, acknowledged: int, stamp: int, max_windows: int = 10**6) -> None:
        self.ledger.evict(acknowledged, stamp, max_windows)
        held = sum(len(windows) for windows in self.ledger._windows.values())
        assert len(self.ledger) == held
        assert (len(self.subjects) == 0) == (held == 0)


def keyed(names: list[str]) -> pl.DataFrame:
    parts = [("", "m", "user", name) for name in names]
    schema = {"key": pl.Binary, **dict.fromkeys(SUBJECT, pl.String)}
    return pl.DataFrame([(subject_key(*part), *part) for part in parts], schema=schema, orient="row")


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
    folding = Folding(stored, complete=complete, loading=data.draw(LOADINGS))
    for first, end in cuts(data, len(log)):
        folding.fold(log, first, end)
        if data.draw(st.booleans()):
            stamp = data.draw(st.sampled_from([BASE, BASE + DAY, BASE + 90 * DAY]))
            folding.evict(end, stamp, data.draw(st.sampled_from([0, 3, 10**6])))
    assert readable(stored.rows) == naive(log)


@hypothesis_settings(max_examples=40)
@given(LOGS, st.data())
def test_windows_that_hold_different_parts_of_a_batch(log: list[Seen], data: st.DataObject) -> None:
    """Each row takes what is above its own mark; every touched row is returned, also those that had it all."""
    whole = Stored()
    Folding(whole).fold(log, 0, len(log))
    marks = {key: data.draw(st.integers(-1, len(log) - 1)) for key in whole.rows}
    partly = Stored()
    for key, row in naive(log, marks).items():
        aside = Stored()
        Folding(aside).fold(log, 0, row[7] + 1)
        partly.rows[key] = aside.rows[key]
    returned = Folding(partly, loading=data.draw(LOADINGS)).enter(log, 0, len(log))
    assert returned.num_rows == len(whole.rows)
    partly.write(returned)
    assert readable(partly.rows) == naive(log)


def test_nothing_counted_nothing_touched() -> None:
    stored = Stored()
    assert Folding(stored).enter([], 0, 0).num_rows == 0
    assert stored.counted == []


LOG: list[Seen] = [(0, BASE, 1), (1, BASE + 1, 2), (0, BASE + HOUR, 3)]
FIRST_TOUCHES = sorted([Period.HOURLY, Period.HOURLY, Period.DAILY, Period.MONTHLY, Period.LIFETIME])


def test_an_empty_bucket_costs_one_question() -> None:
    stored = Stored()
    folding = Folding(stored)
    for offset in range(3):
        folding.fold(LOG, offset, offset + 1)
    assert sorted(period for period, starts in stored.counted for _ in starts) == FIRST_TOUCHES
    assert stored.asked == []
    assert stored.wanted == []


def test_a_small_bucket_is_read_once() -> None:
    stored = Stored()
    Folding(stored).fold(LOG, 0, 3)
    later = Folding(stored)
    log = LOG * 2
    for offset in range(3, 6):
        later.fold(log, offset, offset + 1)
    assert sorted(period for period, starts in stored.asked for _ in starts) == FIRST_TOUCHES
    assert stored.wanted == []
    assert readable(stored.rows) == naive(log)


def test_small_buckets_that_are_read_together_have_their_subjects_once() -> None:
    stored, log = Stored(), [(who, BASE + hour * HOUR, 1) for hour in range(2) for who in range(3)]
    Folding(stored).fold(log, 0, 6)
    later, log = Folding(stored), [*log, (0, BASE, 1), (0, BASE + HOUR, 1), (1, BASE, 1), (1, BASE + HOUR, 1)]
    later.fold(log, 6, 8)
    assert [starts for period, starts in stored.asked if period is Period.HOURLY] == [[BASE, BASE + HOUR]]
    assert len(later.subjects) == 3
    later.fold(log, 8, 10)
    assert readable(stored.rows) == naive(log)


def test_of_a_large_bucket_only_the_windows_of_the_batch_are_read() -> None:
    stored = Stored()
    Folding(stored).fold(LOG, 0, 3)
    later = Folding(stored, loading=Loading(whole=1))
    log = [*LOG, (0, BASE, 4), (1, BASE, 5), (0, BASE, 6), (2, BASE, 7)]
    later.fold(log, 3, 4)
    assert stored.wanted == [(Period.HOURLY, 1), (Period.DAILY, 1), (Period.MONTHLY, 1), (Period.LIFETIME, 1)]
    assert len(later.ledger) == 4
    later.fold(log, 4, 6)
    assert stored.wanted[4:] == [(Period.HOURLY, 1), (Period.DAILY, 1), (Period.MONTHLY, 1), (Period.LIFETIME, 1)]
    later.fold(log, 6, 7)
    assert len(stored.wanted) == 12, "a new subject may be stored, too"
    assert stored.asked == []
    assert readable(stored.rows) == naive(log)


def test_a_new_partition_looks_up_only_what_it_evicted() -> None:
    log: list[Seen] = [(0, BASE, 1), (1, BASE + HOUR, 2), (0, BASE, 3), (2, BASE + DAY, 4)]
    stored = Stored()
    folding = Folding(stored, complete=True)
    folding.fold(log, 0, 1)
    folding.evict(1, BASE + HOUR)
    folding.evict(1, BASE + 2 * HOUR)
    assert len(folding.ledger) == 1 + 0, "the hour, the day and the month have ended; a lifetime never does"
    folding.fold(log, 1, 2)
    folding.fold(log, 2, 3)
    assert [period for period, _ in stored.wanted] == [
        Period.DAILY,
        Period.MONTHLY,
        Period.HOURLY,
        Period.DAILY,
        Period.MONTHLY,
    ]
    assert stored.counted == []
    assert readable(stored.rows) == naive(log[:3])


@pytest.mark.parametrize(("acknowledged", "left"), [(0, 4), (1, 1)])
def test_only_acknowledged_windows_are_evicted(acknowledged: int, left: int) -> None:
    folding = Folding(Stored())
    folding.enter([(0, BASE, 1)], 0, 1)
    for days in (90, 91):
        folding.evict(acknowledged, BASE + days * DAY)
    assert len(folding.ledger) == left


@pytest.mark.parametrize(("stamp", "left"), [(BASE + HOUR - 1, 4), (BASE + HOUR, 3), (BASE + 2 * HOUR, 1)])
def test_a_window_leaves_after_its_end(stamp: int, left: int) -> None:
    """BASE is 22:00 of the last day of a month: the day and the month end two hours later."""
    folding = Folding(Stored())
    folding.enter([(0, BASE, 1)], 0, 1)
    folding.evict(1, stamp - HOUR)
    folding.evict(1, stamp)
    assert len(folding.ledger) == left


def test_a_quiet_subject_leaves_with_its_lifetime() -> None:
    stored = Stored()
    folding = Folding(stored)
    log: list[Seen] = [(0, BASE, 1), (1, BASE + 36 * DAY, 2), (0, BASE + 36 * DAY, 4)]
    folding.fold(log, 0, 1)
    folding.evict(1, BASE)
    folding.fold(log, 1, 2)
    folding.evict(2, BASE + 36 * DAY)
    assert len(folding.ledger) == 4
    assert len(folding.subjects) == 1
    folding.fold(log, 2, 3)
    assert readable(stored.rows) == naive(log)


def test_too_many_windows_go_by_age_and_come_back() -> None:
    log: list[Seen] = [(0, BASE + n * HOUR, n) for n in range(40)] + [(0, BASE, 7)]
    stored = Stored()
    folding = Folding(stored)
    for offset in range(len(log)):
        folding.fold(log, offset, offset + 1)
        folding.evict(offset + 1, BASE, max_windows=10)
        assert len(folding.ledger) <= 10 + 4
    assert readable(stored.rows) == naive(log)


def test_of_too_many_windows_those_touched_lately_stay() -> None:
    """A few hundred subjects send all the time, thousands of others once: those leave, and memory stays bounded."""
    busy, others, step = 50, 5_000, 250
    stored = Stored()
    folding = Folding(stored, complete=True)
    log: list[Seen] = []
    for first in range(busy, busy + others, step):
        log += [(n, BASE, 1) for n in [*range(busy), *range(first, first + step)]]
        begin = len(log) - busy - step
        folding.fold(log, begin, len(log))
        folding.evict(len(log), BASE, max_windows=4_000)
        assert len(folding.ledger) <= 7_000
        lookups = len(stored.wanted)
        log += [(n, BASE, 1) for n in range(busy)]
        folding.fold(log, len(log) - busy, len(log))
        assert len(stored.wanted) == lookups, "the busy ones are still in memory"
    assert folding.ledger.nbytes < 4 * 80 * (7_000 + 2 * 1_024)
    assert readable(stored.rows) == naive(log)


class KnowsWhatWasLoaded(PeriodWindows):
    """Broken: what was loaded of a bucket is not looked up again after an eviction."""

    def evict(self, what: Evictable) -> None:
        known = dict(self._buckets)
        super().evict(what)
        self._buckets.update(known)


class LoadsWhatIsThere(PeriodWindows):
    """Broken: what is stored replaces what is in memory and may be newer."""

    def _load_part(self, start: int, low: Name, high: Name | None) -> None:
        for stored in self._history.load_part(self._period, start, low, high):
            rows = self._rows_of(stored, one_bucket=True)
            found = self.table.find(rows.slot, rows.ordinal)
            there = np.flatnonzero(found != NONE)
            self.table.write(found[there], rows.take(there))
        super()._load_part(start, low, high)


class KnowsTheEnd(PeriodWindows):
    """Broken: the first name of the part that comes next is taken for loaded."""

    def _unknown(self, partly: Any, ordinals: Any, subjects: Any, placed: Placed) -> Any:
        asked = super()._unknown(partly, ordinals, subjects, placed)
        lows = {partial.known_below for partial in partly.values()} - {FIRST_NAME}
        names = placed.names.select(SUBJECT).rows()
        return np.array([row for row in asked if names[subjects[row]] not in lows], dtype=np.intp)


def many_subjects(seed: int) -> None:
    """Twelve subjects in one hour, restarts, folds that are ahead of their rows, evictions: the same as the oracle."""
    rng = random.Random(seed)
    size = rng.choice([20, 60])
    log: list[Seen] = [(rng.randrange(12), BASE + rng.choice([0, 0, 1, HOUR]), rng.randint(-4, 4)) for _ in range(size)]
    stored = Stored()
    folding, written, ahead, first = Folding(stored, complete=True), 0, deque[tuple[int, pa.Table]](), 0
    while first < size:
        if rng.random() < 0.15:  # a restart: what is not written is folded again
            first = written
            ahead.clear()
            loading = Loading(
                whole=rng.choice([0, 2]),
                evidence=rng.choice([0, 1, 3]),
                shares=rng.choice([1, 2, 4]),
                part=rng.choice([1, 3]),
            )
            folding = Folding(stored, loading=loading)
        end = min(size, first + rng.choice([1, 2, 4, 8]))
        ahead.append((end, folding.enter(log, first, end)))
        first = end
        while ahead and rng.random() < 0.7:
            written, windows = ahead.popleft()
            stored.write(windows)
        if rng.random() < 0.3:
            stamp = rng.choice([BASE, BASE + HOUR, BASE + 2 * HOUR])
            folding.ledger.evict(written, stamp, rng.choice([0, 20, 60, 10**6]))
    for _, windows in ahead:
        stored.write(windows)
    assert readable(stored.rows) == naive(log)


def run_seeds(seeds: range) -> None:
    for seed in seeds:
        many_subjects(seed)


def test_loading_a_bucket_in_shares_comes_to_the_same() -> None:
    first = seed_of("buckets that are loaded in shares")
    run_seeds(range(first, first + 40))


@pytest.mark.parametrize("broken", [KnowsWhatWasLoaded, LoadsWhatIsThere, KnowsTheEnd])
def test_loading_is_seen_to_go_wrong(broken: type[PeriodWindows], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "PeriodWindows", broken)
    with pytest.raises(AssertionError):
        run_seeds(range(150))


def restarted(loading: Loading, subjects: int) -> tuple[Folding, list[Seen]]:
    """A ledger that begins after each of these subjects has sent one event, and the log."""
    log: list[Seen] = [(2 + n, BASE, 1) for n in range(subjects)]
    stored = Stored()
    Folding(stored).fold(log, 0, subjects)
    return Folding(stored, loading=loading), log


def of_lifetimes(asked: list[tuple[Period, int]]) -> list[int]:
    return [count for period, count in asked if period is Period.LIFETIME]


def test_a_bucket_that_is_in_use_is_loaded_and_then_costs_nothing() -> None:
    later, log = restarted(Loading(whole=0, shares=2, part=20), 80)
    log += random.Random(3).sample(log, 80)
    for first in range(80, 160, 10):
        later.fold(log, first, first + 10)
        later.evict(first + 10, BASE)
    assert of_lifetimes(later.stored.parts) == [0, 20, 20, 20, 20]
    looked_up = of_lifetimes(later.stored.wanted)
    assert looked_up[:2] == [10, 10]
    assert len(looked_up) == 3, "of the third batch, what comes after the first half"
    assert 0 < looked_up[2] < 10
    assert readable(later.stored.rows) == naive(log)


def test_what_sleeps_beside_a_few_busy_subjects_is_not_loaded() -> None:
    later, log = restarted(Loading(whole=0, part=1), 400)
    rng = random.Random(5)
    for _ in range(40):
        first = len(log)
        log += [(2 + busy, BASE, 1) for busy in rng.sample(range(40), 5)]
        later.fold(log, first, len(log))
        later.evict(len(log), BASE)
    assert later.stored.parts == []
    assert 30 < sum(of_lifetimes(later.stored.wanted)) <= 40
    assert readable(later.stored.rows) == naive(log)


def test_a_bucket_is_not_loaded_where_there_is_no_room_for_it() -> None:
    later, log = restarted(Loading(whole=0, evidence=0, part=1), 24)
    later.evict(24, BASE, max_windows=20)
    log = log * 2
    for first in range(24, 48, 3):
        later.fold(log, first, first + 3)
        later.evict(first + 3, BASE, max_windows=20)
    assert later.stored.parts == []
    assert readable(later.stored.rows) == naive(log)


@given(st.lists(st.tuples(*[st.text(max_size=2)] * 4), min_size=1, max_size=8), st.tuples(*[st.text(max_size=2)] * 4))
def test_names_are_in_the_order_of_their_bytes(names: list[Name], low: Name) -> None:
    frame = pl.DataFrame(names, schema=dict.fromkeys(SUBJECT, pl.String), orient="row")

    def as_bytes(name: Name) -> tuple[bytes, ...]:
        return tuple(part.encode() for part in name)

    assert _not_before(frame, low).tolist() == [as_bytes(name) >= as_bytes(low) for name in names]
    assert [name >= low for name in names] == [as_bytes(name) >= as_bytes(low) for name in names]
