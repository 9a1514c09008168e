"""What one batch of one partition leaves behind, as Arrow tables with the columns of the ClickHouse tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from meterfold_processor.fold import calendar, limbs
from meterfold_processor.fold.duplicates import IDENTITY
from meterfold_processor.fold.subjects import SUBJECT
from meterfold_processor.fold.windows import WindowRows
from meterfold_schemas.periods import KEPT, Period

PERIOD_CODES = {period: code for code, period in enumerate(KEPT, start=1)}
"""The numbers of the Enum8 `period_type`: hourly 1, daily 2, monthly 3, lifetime 4."""

TIMESTAMP = pa.timestamp("us", "UTC")

_WINDOW_FIELDS: list[pa.Field[Any]] = [
    *(pa.field(name, pa.large_string()) for name in SUBJECT),
    pa.field("period_type", pa.int8()),
    pa.field("period_start", TIMESTAMP),
    pa.field("partition", pa.int32()),
    pa.field("record_count", pa.int64()),
    *(pa.field(name, limbs.DECIMAL) for name in ("sum", "min", "max", "last")),
    pa.field("last_timestamp", TIMESTAMP),
    pa.field("last_offset", pa.int64()),
    pa.field("folded_through", pa.int64()),
]

WINDOWS = pa.schema(_WINDOW_FIELDS)

_STAMP = pl.col("stamp").cast(pl.Datetime("us", "UTC")).alias("received_at")
_PARTITION = pl.col("partition").cast(pl.Int32)


@dataclass(frozen=True, slots=True)
class Original:
    """A rejected message as it came, for `usage.rejected`."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    reason: str
    detail: str


def records(counted: pl.DataFrame) -> pa.Table:
    """`usage_records` of counted events."""
    return _arrow(
        counted.select(
            *IDENTITY,
            "quantity",
            "source",
            "resource_type",
            "resource_id",
            "metadata",
            "timestamp",
            _STAMP,
            _PARTITION,
            "offset",
            pl.col("hash").alias("identity_hash"),
        )
    )


def duplicates(repeated: pl.DataFrame) -> pa.Table:
    """`usage_duplicates` of events that were counted before, at `counted_offset`."""
    return _arrow(repeated.select(*IDENTITY, "quantity", "timestamp", _STAMP, _PARTITION, "offset", "counted_offset"))


def rejected(events: pl.DataFrame, values: list[bytes]) -> pa.Table:
    """`usage_rejected`: position, reason and the original bytes (`values`, indexed by the column `row`)."""
    return _arrow(
        events.select(
            _PARTITION,
            "offset",
            _STAMP,
            "reason",
            "detail",
            pl.col("key").fill_null(b""),
            pl.Series("value", [values[row] for row in events["row"]], dtype=pl.Binary),
        )
    )


def originals(events: pl.DataFrame, values: list[bytes]) -> list[Original]:
    """The rejected messages of `events`."""
    rows = events.select("partition", "offset", "key", "row", "reason", "detail").iter_rows()
    return [
        Original(partition, offset, key, values[row], reason, detail)
        for partition, offset, key, row, reason, detail in rows
    ]


def windows(partition: int, period: Period, rows: WindowRows, subjects: pl.DataFrame) -> pa.Table:
    """`usage_windows` of one period; `subjects` describes the slot of each row."""
    size = len(rows)
    names = subjects.to_arrow(compat_level=pl.CompatLevel.oldest())
    columns = [
        *(names.column(name).combine_chunks() for name in SUBJECT),
        pa.repeat(pa.scalar(PERIOD_CODES[period], pa.int8()), size),
        pa.array(calendar.starts(period, rows.ordinal)).cast(TIMESTAMP),
        pa.repeat(pa.scalar(partition, pa.int32()), size),
        pa.array(rows.count),
        *(limbs.to_arrow(column) for column in (rows.sum, rows.min, rows.max, rows.last)),
        pa.array(rows.last_time).cast(TIMESTAMP),
        pa.array(rows.last_offset),
        pa.array(rows.through),
    ]
    return pa.Table.from_arrays(columns, schema=WINDOWS)


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
