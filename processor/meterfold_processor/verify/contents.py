"""Every stored row against its own message in the log, column by column, as far as the log reaches back.

The recount proves windows from records; this proves the records themselves, and the originals of what was rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import polars as pl
from confluent_kafka import Message

from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.messages import columns
from meterfold_processor.verify.findings import Findings
from meterfold_processor.verify.log import LogReader
from meterfold_processor.verify.offsets import Fixed
from meterfold_processor.verify.report import Finding
from meterfold_sink.client import Client
from meterfold_sink.positions import stored_rows

__all__ = ["compare_contents", "differences"]

_TOGETHER: Final = 100_000
_IDENTITY: Final = ("org_id", "metric_key", "subject_type", "subject_id", "id", "quantity", "timestamp", "received_at")
_COLUMNS: Final = {
    "usage_records": (*_IDENTITY, "source", "resource_type", "resource_id", "metadata"),
    "usage_duplicates": _IDENTITY,
    "usage_rejected": ("received_at", "key", "value"),
}


def compare_contents(
    client: Client, reader: LogReader, fixed: Fixed, findings: Findings, tell: Callable[[str], None]
) -> int:
    """How many rows of [began_at, next_offset) were compared. Raises Retryable or Fatal."""
    if fixed.progress is None:
        return 0
    first = max(fixed.progress.log_start, fixed.log_start)
    until = min(fixed.progress.next_offset, fixed.log_end)
    compared = 0
    for messages in _together(reader.read(fixed.partition, first, until)):
        log = _frame(messages)
        begin, end = int(log["offset"][0]), int(log["offset"][-1]) + 1
        tell(f"comparing rows of offsets {begin:,} to {end - 1:,} with the log")
        for table, names in _COLUMNS.items():
            rows = pl.DataFrame(stored_rows(client, table, ("offset", *names), fixed.partition, begin, end))
            compared += rows.height
            findings.extend(differences(table, fixed.partition, log, rows))
    return compared


def differences(table: str, partition: int, log: pl.DataFrame, rows: pl.DataFrame) -> Iterator[Finding]:
    """The rows of one table that are not what their messages say; a row without a message is not looked at.

    `log`: offset, the fields of the event, received_at, key and value; `rows`: offset and the table's columns.
    """
    names = [name for name in _COLUMNS[table] if name in rows.columns]
    both = rows.join(log.select("offset", *names), on="offset", suffix="_log")
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_log")) for name in names)
    for row in both.filter(differs).sort("offset").iter_rows(named=True):
        wrong = [name for name in names if row[name] != row[f"{name}_log"]]
        yield Finding(
            check="contents",
            place=table,
            partition=partition,
            offset=row["offset"],
            what="row against its message in the log",
            expected=", ".join(f"{name} {_text(row[f'{name}_log'])}" for name in wrong),
            found=", ".join(f"{name} {_text(row[name])}" for name in wrong),
        )


def _together(batches: Iterator[list[Message]]) -> Iterator[list[Message]]:
    """Larger pieces: each costs a query per table."""
    found: list[Message] = []
    for batch in batches:
        found += batch
        if len(found) >= _TOGETHER:
            yield found
            found = []
    if found:
        yield found


def _frame(messages: list[Message]) -> pl.DataFrame:
    consumed = columns(messages)
    frame = decode(consumed).frame
    # Text that is not UTF-8 cannot stand in a column of strings: keys and values stay bytes.
    values = pl.Series("value", consumed.values, dtype=pl.Binary)
    return frame.with_columns(
        pl.col("stamp").cast(pl.Datetime("us", "UTC")).alias("received_at"),
        pl.col("key").fill_null(b""),
        values.gather(frame["row"]),
    )


def _text(value: Any) -> str:
    return repr(value[:200]) if isinstance(value, str | bytes) else str(value)
