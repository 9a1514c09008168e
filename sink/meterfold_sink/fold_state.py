"""What the fold has stored about itself: its rules and the progress of each partition. Cheap to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meterfold_sink.rules import FoldRules

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["ProgressRow", "read_progress", "read_rules", "read_settings"]


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """A row of fold_progress. `last_stamp` in UTC microseconds, 0 before the first event."""

    partition: int
    next_offset: int
    log_start: int
    counted: int
    duplicates: int
    rejected: int
    last_stamp: int
    flushed_at: int


def read_settings(client: Client) -> dict[str, str]:
    """All rows of fold_settings."""
    rows = client.rows("SELECT name, value FROM fold_settings FINAL")
    return {row["name"]: row["value"] for row in rows}


def read_rules(client: Client) -> FoldRules:
    """The stored rules. Raises Fatal when there are none: `meterfold migrate` was not run."""
    return FoldRules.from_rows(read_settings(client))


def read_progress(client: Client, partitions: Sequence[int] | None = None) -> dict[int, ProgressRow]:
    """partition -> its progress; all partitions when none are named. A partition without a row is not in it."""
    rows = client.rows(
        "SELECT partition, next_offset, log_start, counted, duplicates, rejected, "
        "toUnixTimestamp64Micro(last_stamp) AS last_stamp, toUnixTimestamp64Micro(flushed_at) AS flushed_at "
        "FROM fold_progress FINAL WHERE {everything:UInt8} OR has({partitions:Array(Int32)}, partition)",
        {"everything": int(partitions is None), "partitions": list(partitions or ())},
    )
    return {row["partition"]: ProgressRow(**row) for row in rows}
