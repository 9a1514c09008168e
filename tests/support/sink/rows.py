"""Records as a test writes them, and their windows by the definition, in plain Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from meterfold_schemas.periods import KEPT, STORED_NUMBER, Period, from_micros, micros, period_start

DECIMAL = pa.decimal128(38, 9)
TIME = pa.timestamp("us", "UTC")
EXACT = Context(prec=120)

NOW = datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Record:
    """A row of usage_records; unless given, it arrived one second after its timestamp."""

    offset: int
    timestamp: datetime
    quantity: Decimal | int | str = 1
    subject_id: str = "s1"
    metric_key: str = "calls"
    org_id: str = "acme"
    subject_type: str = "user"
    partition: int = 0
    id: str = ""
    received_at: datetime | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        return {
            "org_id": self.org_id,
            "metric_key": self.metric_key,
            "subject_type": self.subject_type,
            "subject_id": self.subject_id,
            "id": self.id or f"id-{self.partition}-{self.offset}",
            "quantity": Decimal(self.quantity),
            "source": None,
            "resource_type": None,
            "resource_id": None,
            "metadata": None,
            "timestamp": self.timestamp,
            "received_at": self.received_at or self.timestamp + timedelta(seconds=1),
            "partition": self.partition,
            "offset": self.offset,
            "identity_hash": self.offset * 7 + 2**63,
            **self.more,
        }


@dataclass(frozen=True, slots=True)
class Window:
    """A row of usage_windows."""

    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_type: Period
    period_start: datetime
    partition: int
    record_count: int
    sum: Decimal
    min: Decimal
    max: Decimal
    last: Decimal
    last_timestamp: datetime
    last_offset: int
    folded_through: int

    def row(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "period_type": STORED_NUMBER[self.period_type],
        }

    def changed(self, **changes: Any) -> Window:
        return replace(self, **changes)


def window(period_type: Period, start: datetime, total: Decimal | int | str, **more: Any) -> Window:
    """A window of one record, unless told otherwise."""
    value = Decimal(total)
    values: dict[str, Any] = {
        "org_id": "acme",
        "metric_key": "calls",
        "subject_type": "user",
        "subject_id": "s1",
        "period_type": period_type,
        "period_start": start,
        "partition": 0,
        "record_count": 1,
        "sum": value,
        "min": value,
        "max": value,
        "last": value,
        "last_timestamp": start,
        "last_offset": 0,
        "folded_through": 0,
    }
    return Window(**{**values, **more})


def windows_of(records: Iterable[Record]) -> list[Window]:
    """Every kept window of the records, folded one after the other."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        for period in KEPT:
            start = from_micros(period_start(period, micros(record.timestamp)))
            key = (record.org_id, record.metric_key, record.subject_type, record.subject_id, period, start)
            found.setdefault((*key, record.partition), []).append(record)
    windows = []
    for key, members in found.items():
        last = max(members, key=lambda record: (record.timestamp, record.offset))
        total = Decimal(0)
        for record in members:
            total = EXACT.add(total, Decimal(record.quantity))
        quantities = [Decimal(record.quantity) for record in members]
        windows.append(
            Window(  # type: ignore[call-arg]
                *key,
                record_count=len(members),
                sum=total,
                min=min(quantities),
                max=max(quantities),
                last=Decimal(last.quantity),
                last_timestamp=last.timestamp,
                last_offset=last.offset,
                folded_through=max(record.offset for record in members),
            )
        )
    return windows


_TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(("quantity", "sum", "min", "max", "last"), DECIMAL),
    **dict.fromkeys(("timestamp", "received_at", "period_start", "last_timestamp", "last_stamp"), TIME),
    **dict.fromkeys(
        ("offset", "record_count", "last_offset", "folded_through", "next_offset", "log_start"), pa.int64()
    ),
    **dict.fromkeys(("counted", "duplicates", "rejected", "identity_hash"), pa.uint64()),
    **dict.fromkeys(("source", "resource_type", "resource_id", "metadata"), pa.string()),
    "counted_offset": pa.int64(),
    "partition": pa.int32(),
    "period_type": pa.int8(),
}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows with the Arrow types that the fold uses; text is large_string, as polars makes it."""
    fields = [pa.field(name, _TYPES.get(name, pa.large_string())) for name in rows[0]]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def records_table(records: Iterable[Record]) -> pa.Table:
    return table([record.row() for record in records])


def windows_table(windows: Iterable[Window]) -> pa.Table:
    return table([window.row() for window in windows])


def progress_table(partition: int, next_offset: int, stamp: datetime | None = None, **more: int) -> pa.Table:
    row = {
        "partition": partition,
        "next_offset": next_offset,
        "log_start": 0,
        "counted": next_offset,
        "duplicates": 0,
        "rejected": 0,
        "last_stamp": stamp or datetime.fromtimestamp(0, UTC),
    }
    return table([{**row, **more}])
