"""The memory of a partition: what it needs, what it forgets, and when it refuses to go on."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.fold.compact import Piece, Version
from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.duplicates import COUNTED_SCHEMA
from meterfold_processor.fold.messages import Consumed
from meterfold_processor.fold.partition import Folded, PartitionFold
from meterfold_processor.fold.period_windows import Loading
from meterfold_processor.fold.remembered import EVERYTHING, FOREVER
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.store import Progress, Rests
from meterfold_processor.fold.subjects import SUBJECT
from meterfold_schemas.errors import Fatal, Retryable
from meterfold_schemas.keys import Name
from meterfold_schemas.periods import DAY, STORED_NUMBER, Period, from_micros
from meterfold_schemas.usage import UsageRecorded

RULES = Rules(horizon=10 * DAY, future_tolerance=3 * DAY, slack=5 * DAY, record_retention=60 * DAY, partition_count=1)
START = 19_800 * DAY


class Store:
    """Records and windows as they were inserted; fails while `down`."""

    def __init__(self) -> None:
        self.records: list[pl.DataFrame] = []
        self.windows: list[pl.DataFrame] = []
        self.down: set[str] = set()
        self.asked = 0
        self.pieces: dict[tuple[Version, int], Piece] = {}

    def insert(self, folded: Folded) -> None:
        self.records.append(pl.DataFrame(pl.from_arrow(folded.records)))
        self.windows.append(pl.DataFrame(pl.from_arrow(folded.windows)))

    def find_records(self, hashes: Any, spans: list[tuple[int, int]]) -> pl.DataFrame:
        if "records" in self.down:
            raise Retryable("records are away")
        self.asked += 1
        if not self.records:
            return pl.DataFrame(schema=COUNTED_SCHEMA)
        found = pl.concat(self.records).with_columns(
            stamp=pl.col("received_at").to_physical(), hash=pl.col("identity_hash")
        )
        inside = [pl.col("stamp").is_between(since, until, closed="left") for since, until in spans]
        return found.filter(pl.col("hash").is_in(hashes.tolist()), pl.any_horizontal(inside))

    def load_identities(self, span: tuple[int, int], from_offset: int) -> tuple[Any, Any]:
        if "records" in self.down:
            raise Retryable("records are away")
        if not self.records:
            return np.empty(0, np.uint64), np.empty(0, np.int64)
        stamps = pl.col("received_at").to_physical()
        found = pl.concat(self.records).filter(stamps >= span[0], stamps < span[1], pl.col("offset") >= from_offset)
        return found["identity_hash"].to_numpy(), found.select(stamps)["received_at"].to_numpy()

    def load_hashes(self, span: tuple[int, int], lowest: int, highest: int) -> Any:
        hashes, _ = self.load_identities(span, 0)
        return hashes[(hashes >= np.uint64(lowest)) & (hashes <= np.uint64(highest))]

    def count_records(self, span: tuple[int, int]) -> int:
        return len(self.load_identities(span, 0)[0])

    def table_versions(self) -> list[Version]:
        return list({version for version, _ in self.pieces})

    def load_pieces(self, version: Version, first: int, end: int) -> list[tuple[Piece, int]]:
        found = [self.pieces[version, number] for number in range(first, end)]
        return [(piece, piece.checksum(version.bits)) for piece in found]

    def load_rests(self, wanted: list[tuple[Version, int]]) -> list[Rests]:
        return [Rests(*key, self.pieces[key].rests, zlib.crc32(self.pieces[key].rests.tobytes())) for key in wanted]

    def save_pieces(self, version: Version, pieces: list[Piece]) -> None:
        self.pieces.update({(version, piece.number): piece for piece in pieces})

    def load_windows(self, period: Period, starts: Any) -> pl.DataFrame:
        if period.value in self.down:
            raise Retryable("windows are away")
        if not self.windows:
            return pl.DataFrame(pl.from_arrow(WINDOWS.empty_table()))
        code = STORED_NUMBER[period]
        rows = pl.concat(self.windows).filter(
            pl.col("period_type") == code, pl.col("period_start").to_physical().is_in(starts.tolist())
        )
        key = ["period_type", "period_start", "subject_id"]
        return rows.sort("folded_through").unique(key, keep="last", maintain_order=True)

    def count_windows(self, period: Period, starts: list[int]) -> dict[int, int]:
        found = self.load_windows(period, np.array(starts))["period_start"].to_physical()
        return dict(Counter(found.to_list()))

    def find_windows(self, period: Period, wanted: pl.DataFrame, low: Name) -> pl.DataFrame:
        return self.load_windows(period, wanted["start"].to_numpy())

    def names_apart(self, period: Period, start: int, size: int) -> list[Name]:
        names = self.load_windows(period, np.array([start])).select(SUBJECT).sort(SUBJECT)[::size]
        return [(row[0], row[1], row[2], row[3]) for row in names.iter_rows()]

    def load_part(self, period: Period, start: int, low: Name, high: Name | None) -> Iterator[pl.DataFrame]:
        found = self.load_windows(period, np.array([start]))
        names = list(found.select(SUBJECT).iter_rows())
        yield found.filter([low <= name and (high is None or name < high) for name in names])


class Partition:
    """A fold on a store, and a log that grows: one event per call, at day `r`."""

    def __init__(self, *, stored: bool = False, progress: Progress | None = None, now: float = 0) -> None:
        self.store = Store()
        self.now = now
        self.sequence = 0
        begun = progress or Progress(0, 0, 0, 0, 0, 0, None)
        self.fold = PartitionFold(
            begun, self.store, RULES, lambda: START + int(self.now * DAY), lambda: None, stored=stored
        )
        self.offset = begun.next_offset

    def send(self, *names: str, r: float, land: bool = True) -> Folded:
        stamp = START + int(r * DAY)
        self.now = max(self.now, r)
        events = [
            UsageRecorded(
                id=name, metric_key="m", subject_type="t", subject_id="s", quantity=1, timestamp=from_micros(stamp)
            )
            for name in names
        ]
        size = len(events)
        consumed = Consumed(
            np.zeros(size, np.int64),
            np.arange(size) + self.offset,
            np.full(size, stamp),
            [event.key for event in events],
            [event.to_bytes() for event in events],
        )
        folded = self.fold.fold(decode(consumed).frame, consumed.values, self.sequence + 1)
        assert folded is not None
        self.sequence += 1
        self.offset += size
        if land:
            self.store.insert(folded)
            self.fold.acknowledge(self.sequence, 10**6)
        return folded


def test_counters_add_up() -> None:
    partition = Partition()
    partition.send("a", "b", "a", r=0)
    folded = partition.send("c", "b", r=1)
    assert folded.progress == Progress(0, 5, 0, 3, 2, 0, START + DAY)
    assert partition.fold.progress == folded.progress


def test_the_flushed_stamp_is_that_of_the_newest_flushed_event() -> None:
    partition = Partition(stored=True, progress=Progress(0, 2, 0, 2, 0, 0, START))
    partition.send("a", "b", r=1)
    partition.send("c", r=2)
    fold = partition.fold
    assert (fold.flushed_to, fold.flushed_stamp) == (2, START), "folded is not flushed"
    fold.flushed(4)
    assert (fold.flushed_to, fold.flushed_stamp, fold.flushed_time) == (4, START + DAY, START + DAY)
    partition.send("d", r=3)
    fold.flushed(6)
    assert (fold.flushed_to, fold.flushed_stamp, fold.flushed_time) == (6, START + 3 * DAY, START + 3 * DAY)
    partition.send("d", r=4)  # a duplicate is no new event
    fold.flushed(7)
    assert (fold.flushed_stamp, fold.flushed_time) == (START + 4 * DAY, None)
    assert Partition().fold.flushed_stamp is None


def test_what_was_folded_is_not_folded_again() -> None:
    progress = Progress(0, 2, 0, 2, 0, 0, START)
    partition = Partition(stored=True, progress=progress)
    partition.offset = 0
    with pytest.raises(AssertionError):
        partition.send("a", "b", r=0)
    assert partition.fold.progress == progress
    assert partition.send("a", "b", "c", r=0).records["id"].to_pylist() == ["c"]


def test_a_new_partition_needs_nothing_from_clickhouse() -> None:
    partition = Partition()
    assert not partition.fold.recall.step()
    for name in "abcdef":
        partition.send(name, r=0)
    assert partition.store.asked == 0


@pytest.mark.parametrize(("last", "needed"), [(40.0, 22.0), (None, None)])
def test_what_is_loaded_on_assignment(last: float | None, needed: float | None) -> None:
    stamp = None if last is None else START + int(last * DAY)
    partition = Partition(stored=True, progress=Progress(0, 9, 0, 9, 0, 0, stamp), now=40)
    begins = EVERYTHING if needed is None else START + int(needed * DAY)
    assert partition.fold._remembered.loaded_from == begins
    assert partition.fold._remembered.missing == ([] if needed is None else [(begins, FOREVER)])


def test_expired_records_are_not_loaded() -> None:
    partition = Partition(stored=True, progress=Progress(0, 9, 0, 9, 0, 0, START + 40 * DAY), now=90)
    assert partition.fold._remembered.missing == [(START + 30 * DAY, FOREVER)]


def test_identities_are_forgotten_after_lookback_and_slack() -> None:
    partition = Partition()
    for r in range(60):
        partition.send(f"id{r}", r=r)
        assert partition.fold.sizes()["identities"] <= 13 + 5 + 1
    assert partition.fold._remembered.loaded_from > START
    assert partition.store.asked == 0
    folded = partition.send("id50", r=60)
    assert folded.duplicates["counted_offset"].to_pylist() == [50]


def test_a_stamp_before_what_is_loaded_is_looked_up() -> None:
    partition = Partition()
    partition.send("x", r=0)
    for r in (10, 20, 30):
        partition.send(f"id{r}", r=r)
    assert partition.fold.sizes()["identities"] == 2
    asked = partition.store.asked
    folded = partition.send("x", r=12.5)
    assert partition.store.asked == asked + 1
    assert folded.duplicates["counted_offset"].to_pylist() == [0]


def test_pending_records_keep_their_days() -> None:
    partition = Partition()
    partition.send("x", r=0, land=False)
    partition.send("y", r=40, land=False)
    assert partition.fold.sizes()["pending"] == 2
    partition.fold.acknowledge(0, 10**6)
    sizes = {"subjects": 1, "windows": 7, "identities": 2, "identity_bytes": 16, "partitions_loading": 0, "pending": 2}
    assert partition.fold.sizes() == sizes
    partition.fold.acknowledge(1, 10**6)
    assert partition.fold.sizes()["pending"] == 1


def test_records_that_have_expired_stop_the_worker() -> None:
    partition = Partition()
    partition.send("x", r=0)
    partition.now = 60 - 13
    partition.send("y", r=0)
    partition.now += 0.001
    with pytest.raises(Fatal, match="usage_records keeps 60 days"):
        partition.send("z", r=0)


@pytest.mark.parametrize("away", ["records", "hourly", "daily", "monthly", "lifetime"])
@pytest.mark.parametrize("loading", [Loading(whole=0), Loading(whole=0, evidence=0, part=1), Loading(whole=10**6)])
def test_a_look_up_that_fails_is_repeated_without_a_trace(away: str, loading: Loading) -> None:
    partition = Partition()
    expected = Partition()
    for one in (partition, expected):
        one.send("x", "y", r=0)
        one.fold = PartitionFold(one.fold.progress, one.store, RULES, lambda: START, lambda: None, stored=True)
        while one.fold.recall.step():
            pass
        for windows in one.fold._ledger._windows.values():
            windows._loading = loading
    partition.store.down = {away}
    for _ in range(2):
        with pytest.raises(Retryable):
            partition.send("x", "z", r=1)
    partition.store.down = set()
    got, wanted = partition.send("x", "z", r=1), expected.send("x", "z", r=1)
    assert got.windows == wanted.windows
    assert got.records == wanted.records
    assert got.duplicates == wanted.duplicates
    assert got.progress == wanted.progress
