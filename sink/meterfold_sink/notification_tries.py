"""The rows of notifications: every try of every delivery, how far events are planned, and the state of endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Final

import pyarrow as pa

from meterfold_sink.writers import Writer

__all__ = [
    "ACTIVE",
    "BEGUN",
    "ENDED",
    "PLANNED",
    "EndpointRow",
    "TryRow",
    "write_endpoint",
    "write_progress",
    "write_tries",
]

PLANNED: Final = 0
BEGUN: Final = 1
ENDED: Final = 2
"""Stages: of the rows with one sort key the one with the highest stage stays."""

ACTIVE: Final = ("pending", "sending", "retrying")
"""States with another try to come. A delivery that is `sending` without a notifier that sends it was interrupted."""

_TIME: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class TryRow:
    """A row of notification_tries. `status`: the HTTP status or SMTP code, 0 without one. Times are aware."""

    occurred_at: datetime
    event_id: str
    channel: str
    target: str
    round: int = 0
    attempt: int = 0
    stage: int = PLANNED
    state: str = "pending"
    due_at: datetime
    give_up_at: datetime
    event_type: str
    topic: str
    partition: int
    org_id: str = ""
    threshold_id: str = ""
    alert_id: str = ""
    payload: str = ""
    status: int = 0
    error: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRow:
    """A row of notification_endpoints; `state` is active, failing or disabled, `since` is when the first of its failed
    tries began."""

    endpoint: str
    state: str
    since: datetime
    reason: str
    changed_at: datetime


_INTEGERS: Final[dict[str, pa.DataType]] = {
    "round": pa.int64(),
    "attempt": pa.uint16(),
    "stage": pa.uint8(),
    "status": pa.int32(),
}
_TYPES: Final[dict[str, pa.DataType]] = {
    "str": pa.string(),
    "int": pa.int32(),
    "datetime": _TIME,
    "datetime | None": _TIME,
}


def _schema(kind: type) -> pa.Schema:
    types: list[tuple[str, pa.DataType]] = [
        (field.name, _INTEGERS[field.name] if field.name in _INTEGERS else _TYPES[str(field.type)])
        for field in fields(kind)
    ]
    return pa.schema(types)


_TRIES: Final = _schema(TryRow)
_ENDPOINTS: Final = _schema(EndpointRow)
_PLACE: Final[list[tuple[str, pa.DataType]]] = [("topic", pa.string()), ("partition", pa.int32())]
_PROGRESS: Final = pa.schema([*_PLACE, ("next_offset", pa.int64())])


def write_tries(writer: Writer, rows: Iterable[TryRow]) -> None:
    """Raises Retryable or Fatal, as every function here; then any part of the rows may be there."""
    writer.insert("notification_tries", pa.Table.from_pylist([asdict(row) for row in rows], schema=_TRIES))


def write_progress(writer: Writer, positions: Mapping[tuple[str, int], int]) -> None:
    """`positions`: (topic, partition) -> the next offset to plan."""
    rows = [
        {"topic": topic, "partition": partition, "next_offset": offset}
        for (topic, partition), offset in positions.items()
    ]
    writer.insert("notification_progress", pa.Table.from_pylist(rows, schema=_PROGRESS))


def write_endpoint(writer: Writer, row: EndpointRow) -> None:
    """The newest row of an endpoint is its state."""
    writer.insert("notification_endpoints", pa.Table.from_pylist([asdict(row)], schema=_ENDPOINTS))
