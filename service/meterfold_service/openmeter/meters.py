"""A meter of OpenMeter, and the metric definition that stores it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from meterfold_schemas.definitions import MAX_DIMENSIONS, MetricDefinition
from meterfold_schemas.errors import InvalidDefinition, shown
from meterfold_schemas.usage_json import moment_of
from meterfold_service.openmeter.json_paths import JsonPath

__all__ = ["AGGREGATIONS", "UNIQUE_VALUE", "Meter"]

AGGREGATIONS: Final = {
    "SUM": "sum",
    "COUNT": "count",
    "UNIQUE_COUNT": "count",
    "AVG": "avg",
    "MIN": "min",
    "MAX": "max",
    "LATEST": "last",
}
"""OpenMeter's aggregation -> the metric's."""
UNIQUE_VALUE: Final = "unique_value"
"""The metadata field whose distinct values UNIQUE_COUNT counts."""
_OWN: Final = "openmeter"
"""Where the definition's metadata has what only OpenMeter has."""
_NAME: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*", re.ASCII)
_GROUP: Final = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Meter:
    """`value_path` None: an event counts as 1, whatever is in it. `group_by`: metadata field -> where its value is in
    the data of an event. `event_from`: earlier events do not count."""

    definition: MetricDefinition
    aggregation: str
    event_type: str
    event_from: datetime | None
    value_path: JsonPath | None
    group_by: Mapping[str, JsonPath]
    metadata: Mapping[str, str]

    @property
    def key(self) -> str:
        """The slug, which is the metric's key."""
        return self.definition.key

    @property
    def needs_number(self) -> bool:
        """Whether an event without a number cannot be counted."""
        return self.aggregation not in ("COUNT", "UNIQUE_COUNT")

    @classmethod
    def of(cls, definition: MetricDefinition) -> Self | None:
        """The meter that a definition stores; None for a metric that is not a meter."""
        own = json.loads(definition.metadata).get(_OWN) if definition.metadata else None
        if not isinstance(own, dict):
            return None
        try:
            return cls(
                definition,
                own["aggregation"],
                own["event_type"],
                None if own.get("event_from") is None else moment_of(own["event_from"]),
                JsonPath(own["value_property"]) if own.get("value_property") is not None else None,
                {name: JsonPath(path) for name, path in own.get("group_by", {}).items()},
                own.get("metadata", {}),
            )
        except (KeyError, TypeError, AttributeError, InvalidDefinition):  # somebody else's metadata of this name
            return None


def definition_values(given: Mapping[str, Any], org_id: str) -> dict[str, Any]:
    """What `metrics.define` takes, of a meter as OpenMeter's clients send it. Raises InvalidDefinition."""
    slug, aggregation, event_type = (_text(given, name) for name in ("slug", "aggregation", "eventType"))
    if len(slug) > 64 or _NAME.fullmatch(slug) is None:
        raise _wrong("slug", f"{shown(slug)} must have 1 to 64 characters of a-z, 0-9 and single '_' between them")
    if aggregation not in AGGREGATIONS:
        raise _wrong("aggregation", f"{shown(aggregation)} must be one of {', '.join(AGGREGATIONS)}")
    value_property = given.get("valueProperty")
    if aggregation == "COUNT":
        value_property = None
    elif value_property is None:
        raise _wrong("valueProperty", f"a meter with {aggregation} needs one, such as $.tokens")
    if value_property is not None:
        JsonPath(value_property)
    event_from = given.get("eventFrom")
    if event_from is not None and (not isinstance(event_from, str) or moment_of(event_from) is None):
        raise _wrong("eventFrom", f"{shown(event_from)} must be a time in RFC 3339, such as 2026-11-22T09:30:00Z")
    own = {
        "aggregation": aggregation,
        "event_type": event_type,
        "event_from": event_from,
        "value_property": value_property,
        **_changeable(given),
    }
    return {
        "key": slug,
        "name": given.get("name") or slug,
        "description": given.get("description"),
        "unit": "events" if aggregation in ("COUNT", "UNIQUE_COUNT") else "units",
        "aggregation_type": AGGREGATIONS[aggregation],
        "org_id": org_id,
        "dimensions": tuple(own["group_by"])[:MAX_DIMENSIONS],
        "metadata": {_OWN: {name: value for name, value in own.items() if value not in (None, {})}},
    }


def changed_values(meter: Meter, given: Mapping[str, Any]) -> dict[str, Any]:
    """What `metrics.update` takes. Name, description, metadata and groupBy can change. Raises InvalidDefinition."""
    assert meter.definition.metadata is not None
    own = json.loads(meter.definition.metadata)[_OWN] | _changeable(given)
    return {
        "name": given.get("name") or meter.key,
        "description": given.get("description"),
        "dimensions": tuple(own["group_by"])[:MAX_DIMENSIONS],
        "metadata": {_OWN: {name: value for name, value in own.items() if value not in (None, {})}},
    }


def _changeable(given: Mapping[str, Any]) -> dict[str, Any]:
    group_by, metadata = ({} if given.get(name) is None else given[name] for name in ("groupBy", "metadata"))
    if not isinstance(group_by, dict) or not isinstance(metadata, dict):
        raise _wrong("groupBy", "groupBy and metadata must be JSON objects")
    for name, path in group_by.items():
        if _GROUP.fullmatch(name) is None or name in ("subject", UNIQUE_VALUE):
            raise _wrong("groupBy", f"{shown(name)} must have 1 to 64 letters, digits and '_', and is not reserved")
        JsonPath(path)
    return {"group_by": group_by, "metadata": {name: str(value) for name, value in metadata.items()}}


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong(name, f"{shown(value)} must be text that is not empty")
    return value


def _wrong(field: str, text: str) -> InvalidDefinition:
    return InvalidDefinition(f"meter: {field}: {text}", problems=[(field, text)])
