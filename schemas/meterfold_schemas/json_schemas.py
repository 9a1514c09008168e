"""JSON Schema (draft 2020-12) of every event and definition, as JSON writes them.

Decimals are text, so that no reader makes a binary number of them, and times are ISO 8601 in UTC: the form of the
files in `examples/`. Events follow their Avro schemas, definitions their pydantic models. JSON Schema counts the
characters of a text where the rules count bytes; a limit here is necessary, not sufficient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from meterfold_schemas import catalog
from meterfold_schemas.catalog import EventSchema
from meterfold_schemas.definitions import Definition, MetricDefinition, UsageThreshold
from meterfold_schemas.periods import KEPT
from meterfold_schemas.quantities import DECIMAL_PATTERN, QUANTITY_PATTERN
from meterfold_schemas.topics import USAGE_RECORDED
from meterfold_schemas.usage_fields import FIELDS, SCHEMA
from meterfold_schemas.usage_json import ENVELOPE
from meterfold_schemas.usage_rules import MAX_METADATA_BYTES, MAX_TEXT_BYTES, METRIC_KEY
from meterfold_schemas.vocabulary import Action, AggregationType, AlertAction, Level, ResetPeriod

__all__ = [
    "CLOUD_EVENT",
    "DIALECT",
    "JSON_VALUE",
    "of_cloud_event",
    "of_event",
    "of_json_value",
    "of_model",
    "schemas",
]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

#: The names of the two JSON forms in which applications may write usage.recorded (usage_json.py).
JSON_VALUE: Final = "usage_recorded.json"
CLOUD_EVENT: Final = "usage_recorded.cloudevent"

_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$"

#: With any offset, and digits beyond microseconds.
_MOMENT: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"

_REACHED: Final = (Level.APPROACHING, Level.EXCEEDED)
_BITS: Final = {"int": 32, "long": 64}

#: Fields whose text is more than a text, in every event that has them.
_TEXTS: Final[dict[str, dict[str, Any]]] = {
    "event_id": {"format": "uuid"},
    "alert_id": {"format": "uuid"},
    "approaching_alert_id": {"format": "uuid"},
    "exceeded_alert_id": {"format": "uuid"},
    "metric_key": {"pattern": f"^{METRIC_KEY}$"},
    "period_type": {"enum": [period.value for period in KEPT]},
    "action": {"enum": [action.value for action in Action]},
    "aggregation_type": {"enum": [kind.value for kind in AggregationType]},
    "reset_period": {"enum": [period.value for period in ResetPeriod]},
}
_MODELS: Final[dict[str, type[Definition]]] = {
    "metric_definition": MetricDefinition,
    "usage_threshold": UsageThreshold,
}


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, JSON Schema) of every version of every event, and of every model of a definition."""
    for name in catalog.names():
        for schema in catalog.all_versions(name):
            yield schema.label, of_event(schema)
    for name, model in _MODELS.items():
        yield name, of_model(name, model)
    yield JSON_VALUE, of_json_value()
    yield CLOUD_EVENT, of_cloud_event()


def of_event(schema: EventSchema) -> dict[str, Any]:
    """The JSON form of one version of an event."""
    fields = schema.definition["fields"]
    return {
        "$schema": DIALECT,
        "$id": f"urn:meterfold:{schema.label}",
        "title": schema.definition["name"],
        "description": schema.definition["doc"],
        "type": "object",
        "properties": {field["name"]: _property(schema.name, field) for field in fields},
        "required": [field["name"] for field in fields if "default" not in field],
        "additionalProperties": False,
    }


def of_json_value() -> dict[str, Any]:
    """A value of `usage.recorded` that is JSON: numbers and objects where the form above has text."""
    described = of_event(catalog.latest(SCHEMA))
    properties = {name: dict(rules) for name, rules in described["properties"].items()}
    properties["quantity"].update(type=["string", "number"])
    properties["timestamp"].update(pattern=_MOMENT)
    properties["metadata"].update(type=["object", "string", "null"])
    properties["org_id"].update(type=["string", "null"], default="")
    required = [name for name in described["required"] if name != "org_id"]
    return {
        **described,
        "$id": f"urn:meterfold:{JSON_VALUE}",
        "description": "One usage event as JSON, for producers without Avro.",
        "properties": properties,
        "required": required,
    }


def of_cloud_event() -> dict[str, Any]:
    """The same as a CloudEvent in structured mode. Extension attributes are allowed."""
    data = {key: value for key, value in of_json_value().items() if key not in ("$schema", "$id", "title")}
    either = [{"required": [attribute]} for attribute in ("id", "time")]
    data["required"] = [name for name in data["required"] if name not in ENVELOPE.values()]
    return {
        "$schema": DIALECT,
        "$id": f"urn:meterfold:{CLOUD_EVENT}",
        "title": "UsageRecorded as a CloudEvent",
        "description": "A CloudEvent in structured mode. Its id, time and source are used where data has no id, "
        "timestamp and source.",
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "type": {"const": USAGE_RECORDED},
            "id": {"type": "string"},
            "time": {"type": "string", "format": "date-time", "pattern": _MOMENT},
            "source": {"type": "string"},
            "data": data,
        },
        "required": ["specversion", "type", "data"],
        "allOf": [
            {"anyOf": [here, {"properties": {"data": {"required": [name]}}}]}
            for here, name in zip(either, ("id", "timestamp"), strict=True)
        ],
    }


def of_model(name: str, model: type[Definition]) -> dict[str, Any]:
    """The JSON form of a definition, as its model writes it."""
    described = model.model_json_schema(mode="serialization")
    return {"$schema": DIALECT, "$id": f"urn:meterfold:{name}", **_without_titles(described), "title": model.__name__}


def _without_titles(node: Any) -> Any:
    """pydantic makes a title of every name, which says nothing more than the name."""
    if isinstance(node, list):
        return [_without_titles(entry) for entry in node]
    if isinstance(node, dict):
        return {key: _without_titles(value) for key, value in node.items() if key != "title" or isinstance(value, dict)}
    return node


def _property(event: str, field: dict[str, Any]) -> dict[str, Any]:
    described = {**_type(event, field["name"], field["type"]), "description": field["doc"]}
    return {**described, "default": field["default"]} if "default" in field else described


def _type(event: str, name: str, kind: Any) -> dict[str, Any]:
    match kind:
        case ["null", other]:
            inner = _type(event, name, other)
            if "enum" in inner:
                inner["enum"] = [*inner["enum"], None]
            return {**inner, "type": [inner["type"], "null"]}
        case {"logicalType": "decimal"}:
            return {"type": "string", "pattern": QUANTITY_PATTERN if event == SCHEMA else DECIMAL_PATTERN}
        case {"logicalType": "timestamp-micros"}:
            return {"type": "string", "format": "date-time", "pattern": _TIME}
        case {"type": "array", "items": items}:
            return {"type": "array", "items": _type(event, "", items)}
        case "int" | "long":
            limit = 2 ** (_BITS[kind] - 1)
            return {"type": "integer", "minimum": -limit, "maximum": limit - 1}
        case "boolean":
            return {"type": "boolean"}
        case "string":
            return {"type": "string", **_text(event, name)}
    raise NotImplementedError(f"{event}.{name}: JSON Schema of the Avro type {kind!r} is not written yet")


def _text(event: str, name: str) -> dict[str, Any]:
    if (event, name) == ("alert_acted", "action"):
        return {"enum": [action.value for action in AlertAction]}
    if name == "level":
        return {"enum": [level.value for level in (Level if event == "threshold_state" else _REACHED)]}
    if name == "metadata":
        return {"maxLength": MAX_METADATA_BYTES, "contentMediaType": "application/json"}
    if event == SCHEMA and name not in _TEXTS:
        required = any(field.name == name and not field.may_be_empty for field in FIELDS)
        return {"maxLength": MAX_TEXT_BYTES, **({"minLength": 1} if required else {})}
    return dict(_TEXTS.get(name, {}))
