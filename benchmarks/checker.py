"""The checker's core alone, without Kafka and ClickHouse: what a row, a window and an aggregate cost.

One threshold on every subject, 1 % of them over it. CPU time, since the machine may be busy with other things.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa

from meterfold_processor.checker.definitions import DefinitionRecord, Definitions, DefinitionsRead
from meterfold_processor.checker.partition import CheckPlan, PartitionChecker
from meterfold_processor.checker.rules import CODES, WindowRules
from meterfold_processor.checker.waiting import Room
from meterfold_processor.columns import limbs
from meterfold_processor.columns.tables import WINDOWS
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.periods import DAY, HOUR, Period
from meterfold_schemas.topics import Topics
from meterfold_schemas.vocabulary import ResetPeriod

SIZES = (40_000, 400_000, 2_000_000)
BATCH = 50_000
ROWS = 400_000
LIMIT = 1_000_000
OVER = 100
"""One subject in this many is over the threshold."""
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
RULES = WindowRules(open_for=37 * DAY, grace=HOUR)


@dataclass(frozen=True)
class Measured:
    """CPU in microseconds: per stored row while all are judged first, per row of the stream, per aggregate emitted and
    read back. `memory` in bytes per window beyond the states of crossed ones."""

    first: float
    row: float
    emit: float
    read_back: float
    memory: float


def measure(subjects: int) -> Measured:
    definitions = _definitions()
    plan = CheckPlan(Topics(""), RULES, frozenset({Period.LIFETIME}), 0.0)
    part = PartitionChecker(0, 0, definitions, plan, Room(2 * BATCH))
    list(part.restored())
    random = np.random.default_rng(7)
    first = emit = read_back = 0.0
    emitted = 0
    for begin in range(0, subjects, BATCH):
        rows = table(np.arange(begin, min(begin + BATCH, subjects)), begin)
        with _Cpu() as spent:
            list(part.take_stored(rows, 0))
        first += spent.seconds
        with _Cpu() as spent:
            part.emit_stored(rows)
            due = part.due(0.0, BATCH)
            assert due is not None
            run = part.run(due, 0)
        emit += spent.seconds
        emitted += len(run)
        if begin < ROWS:
            with _Cpu() as spent:
                part.restore_emitted(list(zip(run.keys, run.values, strict=True)))
            read_back += spent.seconds
    memory = (part.memory - 1000 * (subjects // OVER)) / subjects
    stream = 0.0
    for number in range(ROWS // BATCH):
        rows = table(
            random.choice(subjects, BATCH, replace=False) if subjects > BATCH else np.arange(subjects), 10**9 + number
        )
        with _Cpu() as spent:
            list(part.take([rows], 0))
        stream += spent.seconds / rows.num_rows
        part.due(0.0, BATCH)
    return Measured(
        first / subjects * 1e6,
        stream / (ROWS // BATCH) * 1e6,
        emit / emitted * 1e6,
        read_back / min(ROWS, emitted) * 1e6,
        memory,
    )


def table(subjects: np.ndarray, through: int) -> pa.Table:
    """Lifetime windows of these subjects, by number."""
    count = len(subjects)
    over = np.where(subjects % OVER == 0, 2 * LIMIT, LIMIT // 10 + subjects % 1000) * 10**9
    amount = limbs.to_arrow(limbs.from_int64(over.astype(np.int64)))
    number = pa.array(np.full(count, through, np.int64))
    columns: dict[str, object] = {
        "org_id": pa.array(["acme"] * count, pa.large_string()),
        "metric_key": pa.array(["watched"] * count, pa.large_string()),
        "subject_type": pa.array(["user"] * count, pa.large_string()),
        "subject_id": pa.array(subjects).cast(pa.large_string()),
        "period_type": pa.array(np.full(count, CODES[Period.LIFETIME], np.int8)),
        "period_start": pa.array(np.zeros(count, np.int64)).cast(pa.timestamp("us", "UTC")),
        "partition": pa.array(np.zeros(count, np.int32)),
        "record_count": pa.array(np.ones(count, np.int64)),
        **dict.fromkeys(("sum", "min", "max", "last"), amount),
        "last_timestamp": pa.array(np.zeros(count, np.int64)).cast(pa.timestamp("us", "UTC")),
        "last_offset": number,
        "folded_through": number,
    }
    return pa.table([columns[name] for name in WINDOWS.names], schema=WINDOWS)


def _definitions() -> Definitions:
    metric = MetricDefinition(
        id="m",
        key="watched",
        name="Watched",
        unit="call",
        reset_period=ResetPeriod.NEVER,
        created_at=NOW,
        updated_at=NOW,
    )
    threshold = UsageThreshold(
        id="t",
        org_id="acme",
        metric_key="watched",
        name="cap",
        threshold=Decimal(LIMIT),
        period_type=Period.LIFETIME,
        created_at=NOW,
        updated_at=NOW,
    )
    definitions = Definitions()
    records = (
        DefinitionRecord("metric", metric.message_key, metric.to_bytes(), 0),
        DefinitionRecord("threshold", threshold.message_key, threshold.to_bytes(), 0),
    )
    definitions.apply(DefinitionsRead(records, 1, 1))
    return definitions


class _Cpu:
    """CPU seconds of this process, polars' threads included."""

    seconds = 0.0

    def __enter__(self) -> _Cpu:
        self._begun = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.process_time() - self._begun


def measured() -> Iterator[tuple[int, Measured]]:
    for subjects in SIZES:
        yield subjects, measure(subjects)
