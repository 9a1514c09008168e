"""A CloudEvent as usage events: itself, so that it can be listed, and one for each meter of its type. Pure.

The ids are a function of the event's id and source, by which OpenMeter recognises a repeated event, so a repeat is one
here, too: a usage event counts once for its metric, subject and id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.quantities import rounded, to_unscaled
from meterfold_schemas.usage_json import moment_of
from meterfold_schemas.usage_rules import MAX_TEXT_BYTES, metadata_text, text_bytes
from meterfold_service.ingest.documents import RepeatedField, written
from meterfold_service.openmeter.json_paths import MISSING
from meterfold_service.openmeter.meters import UNIQUE_VALUE, Meter

__all__ = ["EVENTS_METRIC", "SUBJECT_TYPE", "CloudEvent", "event_of", "identity", "problems_of", "usage_of"]

EVENTS_METRIC: Final = "openmeter.events"
"""The metric under which each CloudEvent itself is recorded, with the quantity 1."""
SUBJECT_TYPE: Final = "subject"
_DATA_TYPE: Final = "application/json"
_ROUNDING: Final = "half_even"


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """What OpenMeter takes of an event. `time` None: when it arrives. `data` None: it has none."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime | None
    data: Mapping[str, Any] | None


def event_of(document: Any) -> CloudEvent:
    """Raises InvalidUsage."""
    if not isinstance(document, dict):
        raise InvalidUsage(f"an event must be a JSON object, not {shown(document)}")
    if isinstance(document, RepeatedField):
        raise InvalidUsage(f"{document.name} is there twice")
    if document.get("specversion", "1.0") != "1.0":
        raise InvalidUsage(f"specversion {shown(document['specversion'])} must be '1.0'")
    texts = {}
    for name in ("id", "source", "type", "subject"):
        if name not in document:
            raise InvalidUsage(f"{name} is missing")
        text_bytes(name, document[name])
        texts[name] = document[name]
    time = document.get("time")
    moment = moment_of(time) if isinstance(time, str) else None
    if time is not None and moment is None:
        raise InvalidUsage(f"time {shown(time)} is not a time in RFC 3339, such as 2026-11-22T09:30:00Z")
    if document.get("datacontenttype") not in (None, _DATA_TYPE):
        raise InvalidUsage(f"datacontenttype {shown(document['datacontenttype'])} must be {_DATA_TYPE!r}")
    data = document.get("data")
    if data is not None and not isinstance(data, dict):
        raise InvalidUsage(f"data {shown(data)} must be a JSON object")
    if data is not None:
        try:
            metadata_text(data)
        except InvalidUsage as error:
            raise InvalidUsage(str(error).replace("metadata", "data")) from None
    return CloudEvent(**texts, time=moment, data=data)


def identity(event: CloudEvent) -> str:
    """The id of its usage events."""
    text = json.dumps([event.source, event.id], ensure_ascii=False, separators=(",", ":"))
    return text if len(text.encode()) <= MAX_TEXT_BYTES else f"sha256:{sha256(text.encode()).hexdigest()}"


def usage_of(event: CloudEvent, meters: Iterable[Meter], received: datetime) -> tuple[list[dict[str, Any]], list[str]]:
    """The usage events, and why there is none for some of the meters. `received`: the time of an event without one."""
    common = {
        "id": identity(event),
        "subject_type": SUBJECT_TYPE,
        "subject_id": event.subject,
        "timestamp": (event.time or received).isoformat(),
        "source": event.source,
    }
    itself = {**common, "metric_key": EVENTS_METRIC, "resource_type": event.type, "resource_id": event.id}
    found: list[dict[str, Any]] = [itself if event.data is None else {**itself, "metadata": dict(event.data)}]
    problems = []
    for meter in meters:
        if meter.event_type != event.type:
            continue
        if meter.event_from is not None and (event.time or received) < meter.event_from:
            continue
        try:
            quantity, metadata = _measured(event, meter)
        except InvalidUsage as error:
            problems.append(f"meter {meter.key}: {error}")
            continue
        found.append({**common, "metric_key": meter.key, "quantity": str(quantity), "metadata": metadata})
    return found, problems


def problems_of(event: CloudEvent, meters: Iterable[Meter]) -> list[str]:
    """Why an event, whose time is known, does not count for some of the meters of its type, or for any meter at all."""
    mine = [meter for meter in meters if meter.event_type == event.type]
    if not mine:
        return [f"no meter has the event type {event.type}"]
    assert event.time is not None
    return usage_of(event, mine, event.time)[1]


def _measured(event: CloudEvent, meter: Meter) -> tuple[Decimal, dict[str, str]]:
    data = event.data or {}
    metadata = {}
    for name, path in meter.group_by.items():
        value = path.value(data)
        if value is not MISSING and value is not None:
            metadata[name] = _text(value)
    if meter.value_path is None:
        return Decimal(1), metadata
    value = written(meter.value_path.value(data))
    if value is MISSING or value is None:
        raise InvalidUsage(f"the data has no value at {meter.value_path.text}")
    if not meter.needs_number:
        return Decimal(1), {**metadata, UNIQUE_VALUE: _text(value)}
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidUsage(f"the value {shown(value)} at {meter.value_path.text} is not a number")
    # OpenMeter computes with binary fractions, and 0.1 + 0.2 has 17 decimals in the programs that send them.
    quantity = rounded(value.strip() if isinstance(value, str) else value, _ROUNDING)
    to_unscaled(quantity)
    return quantity, metadata


def _text(value: Any) -> str:
    value = written(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
