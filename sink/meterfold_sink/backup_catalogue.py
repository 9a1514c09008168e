"""The catalogue of backups: the table `backups`. Cheap to import.

The progress of a backup is in its row, so that how far back the log must reach for it is known without reading it. The
table is a part of every backup; a backup has its own row without an end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.periods import micros

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = [
    "COMPLETE",
    "FAILED",
    "RUNNING",
    "BackupRow",
    "find_backup",
    "list_backups",
    "newest_backup",
    "newest_full",
    "write_backup",
]

RUNNING: Final = "running"
COMPLETE: Final = "complete"
FAILED: Final = "failed"
_NUMBERS: Final = {RUNNING: 1, COMPLETE: 2, FAILED: 3}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_COLUMNS: Final = (
    "name, destination, base, toString(status) AS status, started_at, finished_at, partitions, next_offsets, "
    "needed_since, replayable_until, total_bytes, error"
)


@dataclass(frozen=True, slots=True)
class BackupRow:
    """One backup. `base` is the full backup that it adds to, empty for a full one. `finished_at` None while it runs.

    `next_offsets`: partition of usage.recorded -> the offset at which the fold begins after a restore. `needed_since`:
    partition -> stamp of the first message that it needs then, in UTC microseconds. `replayable_until`: until then
    Kafka's retention keeps all of these messages.
    """

    name: str
    destination: str
    base: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    next_offsets: Mapping[int, int]
    needed_since: Mapping[int, int]
    replayable_until: datetime
    total_bytes: int
    error: str = ""


def write_backup(client: Client, row: BackupRow) -> None:
    """Insert or replace the row of a backup. Raises Retryable or Fatal."""
    import pyarrow as pa

    from meterfold_sink.writers import Writer

    time = pa.timestamp("us", "UTC")
    Writer(client).insert(
        "backups",
        pa.table(
            {
                "name": [row.name],
                "destination": [row.destination],
                "base": [row.base],
                "status": pa.array([_NUMBERS[row.status]], pa.int8()),
                "started_at": pa.array([micros(row.started_at)], pa.int64()).cast(time),
                "finished_at": pa.array([micros(row.finished_at or _EPOCH)], pa.int64()).cast(time),
                "partitions": pa.array([list(row.next_offsets)], pa.list_(pa.int32())),
                "next_offsets": pa.array([list(row.next_offsets.values())], pa.list_(pa.int64())),
                "needed_since": pa.array(
                    [[row.needed_since[partition] for partition in row.next_offsets]], pa.list_(pa.int64())
                ),
                "replayable_until": pa.array([micros(row.replayable_until)], pa.int64()).cast(time),
                "total_bytes": pa.array([row.total_bytes], pa.uint64()),
                "error": [row.error],
            }
        ),
    )


def list_backups(client: Client, *, limit: int, offset: int = 0) -> tuple[list[BackupRow], int]:
    """Rows of the catalogue, the newest first, and how many there are."""
    rows = client.rows(
        f"SELECT {_COLUMNS} FROM backups FINAL ORDER BY started_at DESC, name "  # noqa: S608
        "LIMIT {limit:UInt64} OFFSET {offset:UInt64}",
        {"limit": limit, "offset": offset},
    )
    return [_row(row) for row in rows], int(client.value("SELECT toInt64(count()) FROM backups FINAL"))


def newest_backup(client: Client) -> BackupRow | None:
    """The newest complete backup."""
    rows = client.rows(
        f"SELECT {_COLUMNS} FROM backups FINAL WHERE status = 'complete' "  # noqa: S608
        "ORDER BY started_at DESC, name LIMIT 1"
    )
    return _row(rows[0]) if rows else None


def find_backup(client: Client, name: str) -> BackupRow | None:
    """The backup with this name, whatever its state."""
    rows = client.rows(
        f"SELECT {_COLUMNS} FROM backups FINAL WHERE name = {{name:String}}",  # noqa: S608
        {"name": name},
    )
    return _row(rows[0]) if rows else None


def newest_full(client: Client, destination: str) -> BackupRow | None:
    """The newest complete full backup in a destination: what an increment can be based on."""
    rows = client.rows(
        f"SELECT {_COLUMNS} FROM backups FINAL WHERE status = 'complete' AND base = '' "  # noqa: S608
        "AND destination = {destination:String} ORDER BY started_at DESC, name LIMIT 1",
        {"destination": destination},
    )
    return _row(rows[0]) if rows else None


def _row(row: dict[str, Any]) -> BackupRow:
    finished = row["finished_at"]
    return BackupRow(
        name=row["name"],
        destination=row["destination"],
        base=row["base"],
        status=row["status"],
        started_at=row["started_at"],
        finished_at=None if finished == _EPOCH else finished,
        next_offsets=dict(zip(row["partitions"], row["next_offsets"], strict=True)),
        needed_since=dict(zip(row["partitions"], row["needed_since"], strict=True)),
        replayable_until=row["replayable_until"],
        total_bytes=int(row["total_bytes"]),
        error=row["error"],
    )
