"""One message as one row of a ClickHouse table."""

from __future__ import annotations

import json
from typing import Any, Final

import pyarrow as pa

from meterfold_processor.columns.limbs import DECIMAL
from meterfold_processor.columns.tables import TIMESTAMP
from meterfold_schemas import framing
from meterfold_schemas.alert_actions import AlertActed
from meterfold_schemas.errors import Poison
from meterfold_schemas.periods import from_micros
from meterfold_schemas.quantities import to_decimal
from meterfold_schemas.vocabulary import AlertAction

__all__ = ["PROGRESS", "TABLES", "row_of"]


def _fields(*texts: str, **others: Any) -> list[tuple[str, Any]]:
    return [*((name, pa.string()) for name in texts), *others.items()]


TABLES: Final = {
    "metric_definitions": pa.schema(
        _fields(
            *("id", "key", "name", "description", "unit", "aggregation_type", "reset_period", "org_id", "category"),
            "metadata",
            precision=pa.uint8(),
            display_order=pa.int32(),
            dimensions=pa.list_(pa.string()),
            is_active=pa.bool_(),
            created_at=TIMESTAMP,
            updated_at=TIMESTAMP,
            version=pa.int64(),
            deleted=pa.uint8(),
        )
    ),
    "thresholds": pa.schema(
        _fields(
            *("id", "org_id", "metric_key", "subject_type", "subject_id", "name", "period_type", "action"),
            *("notify_webhook", "metadata"),
            threshold=DECIMAL,
            warn_threshold=DECIMAL,
            notify_emails=pa.list_(pa.string()),
            is_active=pa.bool_(),
            created_at=TIMESTAMP,
            updated_at=TIMESTAMP,
            version=pa.int64(),
            deleted=pa.uint8(),
        )
    ),
    "threshold_events": pa.schema(
        _fields(
            *("event_id", "event_type", "alert_id", "threshold_id", "org_id", "metric_key", "subject_type"),
            *("subject_id", "period_type", "level", "action"),
            occurred_at=TIMESTAMP,
            period_start=TIMESTAMP,
            period_end=TIMESTAMP,
            crossing=pa.int64(),
            threshold=DECIMAL,
            warn_threshold=DECIMAL,
            actual_value=DECIMAL,
            percentage_used=DECIMAL,
        )
    ),
    "alert_actions": pa.schema(
        _fields("alert_id", action=pa.int8(), by=pa.string(), at=TIMESTAMP, earlier=pa.int64()),
    ),
}

PROGRESS: Final = pa.schema(_fields("topic", partition=pa.int32(), next_offset=pa.int64()))
"""Of `mirror_progress`."""

_SCHEMAS: Final = {
    "metric_definitions": ("metric_defined",),
    "thresholds": ("threshold_defined",),
    "threshold_events": ("threshold_approaching", "threshold_exceeded", "threshold_cleared"),
}

_ACTIONS: Final = {AlertAction.ACKNOWLEDGE: 1, AlertAction.RESOLVE: 2}
"""The numbers of the Enum8 in `alert_actions`."""

#: The values of a deletion in the other columns that cannot be null.
_NOTHING: Final[dict[Any, Any]] = {
    pa.string(): "",
    pa.uint8(): 0,
    pa.int32(): 0,
    pa.int64(): 0,
    pa.bool_(): False,
    DECIMAL: to_decimal(0),
    TIMESTAMP: from_micros(0),
}


def row_of(table: str, key: bytes, value: bytes | None, offset: int) -> dict[str, Any] | None:
    """The row of one message; None for a tombstone on a topic that has none. Raises Poison for what is unreadable."""
    if value is None:
        return _deletion(table, key, offset)
    if table == "alert_actions":
        return _action(AlertActed.from_bytes(value), offset)
    schema, record = framing.decode(value)
    if schema.name not in _SCHEMAS[table]:
        raise Poison("undecodable", f"a {schema.name} does not belong into {table}")
    row = {name: _value(schema.fields.get(name, "plain"), record.get(name)) for name in TABLES[table].names}
    if table == "threshold_events":
        row["event_type"] = schema.name.replace("_", ".")
    else:
        row["version"], row["deleted"] = offset, 0
    return row


def _deletion(table: str, key: bytes, offset: int) -> dict[str, Any] | None:
    if table in ("threshold_events", "alert_actions"):
        return None
    row = {field.name: _NOTHING.get(field.type, []) for field in TABLES[table]}
    row["version"], row["deleted"] = offset, 1
    if table == "thresholds":
        row["id"] = key.decode("utf-8")
    else:
        match json.loads(key):
            case [str(org_id), str(name)]:
                row["org_id"], row["key"] = org_id, name
            case _:
                raise Poison("invalid", f"{key[:200]!r} is not the key of a metric")
    return row


def _action(acted: AlertActed, offset: int) -> dict[str, Any]:
    """The row with the highest `earlier` stays: that of the first message."""
    return {
        "alert_id": acted.alert_id,
        "action": _ACTIONS[acted.action],
        "by": acted.by,
        "at": acted.occurred_at,
        "earlier": -offset,
    }


def _value(kind: str, raw: Any) -> Any:
    if raw is None or kind == "plain":
        return raw
    return to_decimal(raw) if kind == "decimal" else from_micros(raw)
