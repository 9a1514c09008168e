"""CloudEvents 1.0 attributes as Kafka headers (binary content mode) for the low-volume public events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

__all__ = ["CONTENT_TYPE", "headers"]

#: An Avro value in single-object encoding.
CONTENT_TYPE: Final = "application/avro"


def headers(event_type: str, event_id: str, source: str, time: datetime) -> list[tuple[str, bytes]]:
    """Headers of one event. `source` is a URI reference that names the producer, `time` an aware datetime."""
    stamp = time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", event_type.encode()),
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_time", stamp.encode()),
        ("content-type", CONTENT_TYPE.encode()),
    ]
