"""The flush: what is done with folded batches, step by step, and in this order.

1. records           the counted events into `usage_records`
2. duplicates        into `usage_duplicates`
3. rejected          into `usage_rejected`
4. windows           the touched windows into `usage_windows`: only now, so that a window never shows an event whose
                     record could still be lost
5. publish_windows   the same rows onto `usage.windows`: after the insert, so that who hears of a window finds it stored
6. publish_rejected  the rejected originals onto `usage.rejected`
7. progress          one row per partition into `fold_progress`: only now is the batch done
8. commit            the consumer group's offset, which only shows lag

Every step may be repeated and may be done in part, and a crash between two of them loses and doubles nothing: rows
carry their position or their `folded_through` and replace themselves. The steps are operations that a generator
yields and a driver performs, so a test stops after any of them without a switch in this code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
import pyarrow as pa

from meterfold_processor.fold.partition import Folded
from meterfold_processor.fold.store import Progress
from meterfold_processor.fold.tables import Original

Step = Literal[
    "records", "duplicates", "rejected", "windows", "publish_windows", "publish_rejected", "progress", "commit"
]

MESSAGE_BYTES = 900_000
"""The size at which published windows are split, before compression; brokers take 1 MB by default."""

_PROGRESS: dict[str, pl.DataType] = {
    "partition": pl.Int32(),
    "next_offset": pl.Int64(),
    "log_start": pl.Int64(),
    **dict.fromkeys(["counted", "duplicates", "rejected"], pl.UInt64()),
    "last_stamp": pl.Datetime("us", "UTC"),
}


@dataclass(frozen=True, slots=True)
class InsertRows:
    """Rows for one ClickHouse table; harmless when repeated or applied in part."""

    step: Step
    table: str
    rows: pa.Table


@dataclass(frozen=True, slots=True)
class PublishWindows:
    """Arrow IPC messages for `usage.windows`, each with its partition."""

    step: Step
    messages: list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class PublishRejected:
    """Rejected messages for `usage.rejected`."""

    step: Step
    originals: list[Original]


@dataclass(frozen=True, slots=True)
class CommitOffsets:
    """The next offset to read, by partition."""

    step: Step
    offsets: dict[int, int]


Operation = InsertRows | PublishWindows | PublishRejected | CommitOffsets


def flush(batch: Sequence[Folded]) -> Iterator[Operation]:
    """The operations that make these folded batches last: one batch each of different partitions."""
    inserts: list[tuple[Step, str, list[pa.Table]]] = [
        ("records", "usage_records", [folded.records for folded in batch]),
        ("duplicates", "usage_duplicates", [folded.duplicates for folded in batch]),
        ("rejected", "usage_rejected", [folded.rejected for folded in batch]),
        ("windows", "usage_windows", [folded.windows for folded in batch]),
    ]
    for step, table, parts in inserts:
        rows = pa.concat_tables(parts)
        if rows.num_rows:
            yield InsertRows(step, table, rows)
    messages = [(folded.partition, message) for folded in batch for message in window_messages(folded.published)]
    if messages:
        yield PublishWindows("publish_windows", messages)
    originals = [original for folded in batch for original in folded.originals]
    if originals:
        yield PublishRejected("publish_rejected", originals)
    yield progress_rows([folded.progress for folded in batch])
    yield CommitOffsets("commit", {folded.partition: folded.progress.next_offset for folded in batch})


def progress_rows(progress: Sequence[Progress]) -> InsertRows:
    """`fold_progress`; also what a partition begins with, before its first event is read."""
    rows = [
        (p.partition, p.next_offset, p.log_start, p.counted, p.duplicates, p.rejected, p.last_stamp or 0)
        for p in progress
    ]
    return InsertRows("progress", "fold_progress", pl.DataFrame(rows, schema=_PROGRESS, orient="row").to_arrow())


def window_messages(windows: pa.Table, limit: int = MESSAGE_BYTES) -> Iterator[bytes]:
    """The rows as Arrow IPC streams below the limit."""
    if windows.num_rows == 0:
        return
    if windows.nbytes > limit and windows.num_rows > 1:
        parts = min(windows.nbytes // limit + 1, windows.num_rows)
        size = -(-windows.num_rows // parts)
        for start in range(0, windows.num_rows, size):
            yield from window_messages(windows.slice(start, size), limit)
        return
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, windows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        for batch in windows.combine_chunks().to_batches():
            stream.write_batch(batch)
    yield sink.getvalue().to_pybytes()
