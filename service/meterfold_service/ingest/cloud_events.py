"""CloudEvents 1.0 as the fields of usage events.

The mapping is that of meterfold_schemas.usage_json, by which the fold reads CloudEvents from Kafka: the type is
usage.recorded, `data` has the fields, and `id`, `time` and `source` are taken where `data` has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.topics import USAGE_RECORDED
from meterfold_schemas.usage_json import ENVELOPE
from meterfold_service.ingest.documents import RepeatedField

__all__ = ["attributes_of_headers", "fields_of", "is_cloud_event"]

_PREFIX: Final = "ce-"
_SPECVERSION: Final = "1.0"


def is_cloud_event(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a CloudEvent in structured mode."""
    return "specversion" in document


def fields_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the usage event in a CloudEvent. Raises InvalidUsage."""
    if event.get("specversion") != _SPECVERSION:
        raise InvalidUsage(f"specversion {shown(event.get('specversion'))} of the CloudEvent must be {_SPECVERSION!r}")
    if event.get("type") != USAGE_RECORDED:
        raise InvalidUsage(
            f"type {shown(event.get('type'))} of the CloudEvent must be {USAGE_RECORDED!r}; /api/v1/events takes "
            "events of other types, as OpenMeter does"
        )
    data = event.get("data")
    if not isinstance(data, dict):
        raise InvalidUsage(f"data {shown(data)} of the CloudEvent must be a JSON object")
    fields = {field: event[name] for name, field in ENVELOPE.items() if event.get(name) is not None}
    for name, field in ENVELOPE.items():
        if field in fields and not isinstance(fields[field], str):
            raise InvalidUsage(f"{name} {shown(event[name])} of the CloudEvent must be text")
    if isinstance(data, RepeatedField):
        raise InvalidUsage(f"data has the field {shown(data.name)} twice")
    fields.update((name, value) for name, value in data.items() if value is not None)
    return fields


def attributes_of_headers(headers: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The attributes of a CloudEvent in binary mode, whose data is the body. Empty where it is not one."""
    found = {name[len(_PREFIX) :]: unquote(value) for name, value in headers if name.startswith(_PREFIX)}
    return found if "specversion" in found else {}
