"""What one batch of one partition leaves behind, as Arrow tables with the columns of the ClickHouse tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from meterfold_processor.columns import limbs
from meterfold_processor.columns.tables import TIMESTAMP, WINDOWS
from meterfold_processor.fold import calendar
from meterfold_processor.fold.duplicates import IDENTITY
from meterfold_processor.fold.grouping import WindowRows
from meterfold_processor.fold.subjects import SUBJECT
from meterfold_schemas import usage_fields
from meterfold_schemas.periods import STORED_NUMBER, Period
from meterfold_schemas.totals import AMOUNTS

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
            *usage_fields.NAMES,
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
    """`usage_rejected`: position, subject, reason and the original bytes (`values`, indexed by the column `row`)."""
    return _arrow(
        events.select(
            _PARTITION,
            "offset",
            _STAMP,
            *SUBJECT,
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


def windows(partition: int, states: dict[Period, WindowRows], subjects: pl.DataFrame) -> pa.Table:
    """`usage_windows`, one period after the other; `subjects` describes the slot of each row in that order."""
    names = subjects.to_arrow(compat_level=pl.CompatLevel.oldest())
    parts = list(states.values())
    sizes = [len(part) for part in parts]
    codes = np.repeat(np.array([STORED_NUMBER[period] for period in states], dtype=np.int8), sizes)
    columns = [
        *(names.column(name).combine_chunks() for name in SUBJECT),
        _array(codes),
        _joined([calendar.starts(period, part.ordinal) for period, part in states.items()]).view(TIMESTAMP),
        _array(np.full(sum(sizes), partition, dtype=np.int32)),
        _joined([part.count for part in parts]),
        *(limbs.to_arrow(limbs.concat([getattr(part, name) for part in parts])) for name in AMOUNTS),
        _joined([part.last_time for part in parts]).view(TIMESTAMP),
        _joined([part.last_offset for part in parts]),
        _joined([part.through for part in parts]),
    ]
    return pa.Table.from_arrays(columns, schema=WINDOWS)


def _joined(columns: list[npt.NDArray[np.int64]]) -> pa.Array[Any]:
    return _array(np.concatenate(columns))


def _array(column: npt.NDArray[Any]) -> pa.Array[Any]:
    """Not by `pyarrow.array`: where pandas is installed that imports it first, a third of a second."""
    return pa.Array.from_buffers(pa.from_numpy_dtype(column.dtype), len(column), [None, pa.py_buffer(column.data)])


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
