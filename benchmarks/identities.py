"""What remembered identities cost: memory, CPU per event, and the time until a partition has them after an assignment.

All identities are made up: random hashes in tables of the past five weeks, and the exact ones of the newest day. The
look-ups are of new events, so that every hit is a false one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from meterfold_processor.columns.distinct import distinct
from meterfold_processor.fold import compact
from meterfold_processor.fold.background import SECONDS, Background
from meterfold_processor.fold.compact import IdentityTable, Piece, UInt64s, Version
from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.messages import Consumed
from meterfold_processor.fold.opening import StoredHistory
from meterfold_processor.fold.partition import PartitionFold
from meterfold_processor.fold.remembered import Remembered, day_of, end_of_week, week_of
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.store import Progress
from meterfold_schemas.periods import DAY, from_micros
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_schemas.usage import UsageRecorded
from meterfold_sink.client import connect
from meterfold_sink.identity_tables import identity_source
from meterfold_sink.migrate import migrate
from meterfold_sink.rules import FoldRules

PARTITIONS = 4
BATCH = 200_000
WEEKS = 5
_PER_STEP = 256


@dataclass(frozen=True)
class LookUps:
    """`build` in seconds per 30 M identities, `bytes_each` per identity of a table, `cpu` in microseconds per event,
    `false_hits` per event, `memory` of all hashes in bytes."""

    identities: int
    tables: int
    memory: int
    bytes_each: float
    build: float
    cpu: float
    false_hits: float


@dataclass(frozen=True)
class Serving:
    """Seconds from the assignment of all partitions: until the first batch of each was folded, and until everything
    was loaded; then the seconds of a batch before and after."""

    first_batches: float
    loaded: float
    before: float
    after: float
    records: int


def look_ups(identities: int, seed: int, now: int) -> LookUps:
    """Batches of BATCH events against this many identities of PARTITIONS partitions, in this process."""
    rng = np.random.default_rng(seed)
    begun = time.process_time()
    folds = [_made_up(identities // PARTITIONS, rng, now) for _ in range(PARTITIONS)]
    build = (time.process_time() - begun) / identities * 30e6
    spent, claimed, runs = 0.0, 0, 5
    since = np.full(BATCH // PARTITIONS, now - 35 * DAY)
    for run in range(runs + 1):
        batches = [rng.integers(0, 2**64, BATCH // PARTITIONS, dtype=np.uint64) for _ in folds]
        begun = time.process_time()
        found = [fold.candidates(np.sort(batch), since) for fold, batch in zip(folds, batches, strict=True)]
        if run:  # the first is to warm up
            spent += time.process_time() - begun
            claimed += sum(int(one.rows.sum()) for claims in found for one in claims)
    tables = [table for fold in folds for _, table in fold.tables.values()]
    return LookUps(
        sum(map(len, folds)),
        len(tables) // PARTITIONS,
        sum(fold.nbytes for fold in folds),
        sum(table.nbytes for table in tables) / sum(map(len, tables)),
        build,
        spent / runs / BATCH * 1e6,
        claimed / runs / BATCH,
    )


def serving(settings: ClickHouseSettings, identities: int, records: int, seed: int, now: int) -> Serving:
    """An assignment of PARTITIONS partitions whose tables of this many identities are stored; `records` of them have
    rows in usage_records, where a batch looks what is not loaded yet."""
    rules = FoldRules(cluster_id="bench", topic_id="bench", partition_count=1)
    rng = np.random.default_rng(seed)
    with connect(settings, create_database=True) as client:
        migrate(client, rules)
        histories = [StoredHistory(client, number, identity_source(rules)) for number in range(PARTITIONS)]
        for history in histories:
            _tables(identities // PARTITIONS, rng, now, history.save_pieces)
        each = max(1, records // PARTITIONS)
        for number in range(PARTITIONS):
            client.command(
                "INSERT INTO usage_records (org_id, metric_key, subject_type, subject_id, id, quantity, timestamp, "
                "received_at, partition, offset, identity_hash) SELECT '', 'm', 't', 's', toString(number), 1, "
                f"fromUnixTimestamp64Micro(toInt64({now - 35 * DAY} + number * {35 * DAY // each}) AS stamp, 'UTC'), "
                f"fromUnixTimestamp64Micro(stamp, 'UTC'), {number}, number, sipHash64(number) FROM numbers({each})"
            )
        batches = {name: [_batch(number, each, now, name) for number in range(PARTITIONS)] for name in ("1", "2")}
        begun = time.monotonic()
        folds = [
            PartitionFold(
                Progress(number, each, 0, each, 0, 0, now),
                history,
                Rules.of(rules),
                lambda: now,
                lambda: None,
                stored=True,
            )
            for number, history in enumerate(histories)
        ]
        before = _fold_each(folds, batches["1"])
        first = time.monotonic() - begun
        background = Background(lambda _: None)
        while any(fold.recall.is_loading for fold in folds):
            background.run(folds, SECONDS)
        loaded = time.monotonic() - begun
        return Serving(first, loaded, before, _fold_each(folds, batches["2"]), records)


def _batch(partition: int, next_offset: int, now: int, name: str) -> Consumed:
    """New events of one partition, as they are consumed."""
    size = BATCH // PARTITIONS
    events = [
        UsageRecorded(
            id=f"{name}/{number}",
            metric_key="m",
            subject_type="t",
            subject_id="s",
            quantity=1,
            timestamp=from_micros(now),
        )
        for number in range(size)
    ]
    return Consumed(
        np.full(size, partition),
        np.arange(size) + next_offset + (size if name == "2" else 0),
        np.full(size, now),
        [event.key for event in events],
        [event.to_bytes() for event in events],
    )


def _fold_each(folds: list[PartitionFold], batches: list[Consumed]) -> float:
    """Decode and fold a batch on each partition; the seconds of all of them."""
    begun = time.monotonic()
    for fold, batch in zip(folds, batches, strict=True):
        fold.fold(decode(batch).frame, batch.values, 1)
    return time.monotonic() - begun


def _made_up(identities: int, rng: np.random.Generator, now: int) -> Remembered:
    """Tables of the past weeks, and the exact identities of today."""
    remembered = Remembered(loaded_from=now - 36 * DAY)
    today = identities // 36
    for version, table in _tables(identities - today, rng, now, lambda version, pieces: None):
        remembered.install(version, table)
    for _ in range(10):
        remembered.add(rng.integers(0, 2**64, today // 10, dtype=np.uint64), np.full(today // 10, now))
    return remembered


def _tables(
    identities: int, rng: np.random.Generator, now: int, save: Callable[[Version, list[Piece]], None]
) -> list[tuple[Version, IdentityTable]]:
    """One table for each of the past weeks, built piece by piece as the fold does."""
    made = []
    week = week_of(now)
    for number in range(WEEKS + 1):
        until = min(end_of_week(week), day_of(now))
        size = identities * (until - week) // DAY // (WEEKS * 7 + (day_of(now) - week_of(now)) // DAY)
        if until > week:
            version = Version(week, until, number, compact.bucket_bits(size))
            made.append((version, _table(version, size, rng, save)))
        week = week_of(week - 1)
    return made


def _table(
    version: Version, size: int, rng: np.random.Generator, save: Callable[[Version, list[Piece]], None]
) -> IdentityTable:
    count = compact.piece_count(version.bits)
    counts, remainders = [], []
    for first in range(0, count, _PER_STEP):
        end = min(count, first + _PER_STEP)
        pieces = compact.pieces_of(_hashes(version.bits, first, end, size, rng), version.bits, first, end)
        save(version, pieces)
        counts += [piece.counts for piece in pieces]
        remainders += [piece.remainders for piece in pieces]
    return IdentityTable.of(version.bits, counts, remainders)


def _hashes(bits: int, first: int, end: int, size: int, rng: np.random.Generator) -> UInt64s:
    lowest, highest = compact.hash_range(bits, first, end)
    part = size * (end - first) // compact.piece_count(bits)
    made = rng.integers(lowest, highest, part, dtype=np.uint64, endpoint=True)
    return distinct(made)
