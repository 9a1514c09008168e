"""What usage.export is asked for and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

__all__ = ["Days", "ExportProgress", "Exported", "Format", "What"]


class What(StrEnum):
    """The rows that can be exported."""

    RECORDS = "records"
    SUMMARIES = "summaries"
    DUPLICATES = "duplicates"
    REJECTED = "rejected"
    ADJUSTMENTS = "adjustments"


class Format(StrEnum):
    """The formats of an export; each is also the suffix of a file."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"
    ARROW = "arrow"

    @property
    def media_type(self) -> str:
        """For the header Content-Type. CSV, Parquet and Arrow are registered with IANA. JSON Lines is not: this is the
        name that the NDJSON specification gives it, and that ClickHouse and Elasticsearch send."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES: Final[Mapping[Format, str]] = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.JSONL: "application/x-ndjson",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}


class ExportProgress(Protocol):
    """Called after each batch. `total` is the expected number of rows."""

    def __call__(self, rows: int, total: int, size: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export of `rows` rows in `size` bytes; `path` is None for a stream.

    `positions`: partition -> next offset, as the fold had stored them when the export began. Records, duplicates and
    rejected messages are exactly those below these offsets; summaries include them. `expired`: how many records of the
    hours that were asked for are not kept any more; always 0 unless the export was `partial`.
    """

    what: What
    format: Format
    path: Path | None
    rows: int
    size: int
    start: datetime | None
    end: datetime | None
    positions: Mapping[int, int]
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Days:
    """What an export by day did: `written` files, days that were `present` already, days that are `open` (they or their
    grace period are not over yet), and days that are `behind` (they are over, but the fold has not passed them)."""

    written: tuple[Exported, ...]
    present: tuple[date, ...]
    open: tuple[date, ...]
    behind: tuple[date, ...]
