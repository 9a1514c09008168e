"""The example events of each schema, as records that framing.encode takes.

`examples/<name>.v<N>.<case>.json`: one event, a decimal as text and a time in ISO 8601, as people write them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from typing import Any

from meterfold_schemas.catalog import EventSchema, all_versions, names
from meterfold_schemas.periods import micros
from meterfold_schemas.quantities import exact_unscaled

__all__ = ["Example", "examples"]


@dataclass(frozen=True, slots=True)
class Example:
    """`record` has raw values: decimals unscaled, times in UTC microseconds."""

    schema: EventSchema
    case: str
    record: dict[str, Any]


def examples(name: str | None = None) -> Iterator[Example]:
    """Every example, or those of one event, in every version."""
    for schema in (schema for known in names() if name in (None, known) for schema in all_versions(known)):
        start = f"{schema.name}.v{schema.version}."
        for entry in sorted((files("meterfold_schemas") / "examples").iterdir(), key=lambda entry: entry.name):
            if entry.name.startswith(start) and entry.name.endswith(".json"):
                written = json.loads(entry.read_text(encoding="utf-8"))
                record = {field: _raw(schema, field, value) for field, value in written.items()}
                yield Example(schema, entry.name.removeprefix(start).removesuffix(".json"), record)


def _raw(schema: EventSchema, field: str, value: Any) -> Any:
    kind = schema.fields.get(field, "plain")
    if value is None or kind == "plain":
        return value
    return exact_unscaled(Decimal(value)) if kind == "decimal" else micros(datetime.fromisoformat(value))
