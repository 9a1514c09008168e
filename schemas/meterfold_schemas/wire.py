"""Between event models and framing: Decimal and datetime on one side, raw integers on the other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from meterfold_schemas.errors import InvalidDefinition, InvalidEvent, InvalidUsage, Poison
from meterfold_schemas.framing import decode, encode
from meterfold_schemas.periods import from_micros, micros
from meterfold_schemas.quantities import exact_unscaled, to_decimal

__all__ = ["read_event", "write_event"]

E = TypeVar("E")


def write_event(name: str, values: dict[str, Any]) -> bytes:
    """One framed event from values of the models' types. Raises InvalidEvent."""
    return encode(name, {field: _raw(name, field, value) for field, value in values.items()})


def read_event(data: bytes, build: Callable[[str, dict[str, Any]], E], *names: str) -> E:
    """`build(name, values)` of an event that must be one of `names`.

    Raises UnknownSchema, Poison("undecodable") for damaged bytes, Poison("invalid") for values the model refuses.
    """
    schema, record = decode(data)
    if schema.name not in names:
        raise Poison("undecodable", f"the value is a {schema.name}, not a {' or '.join(names)}")
    try:
        values = {field: _value(schema.fields.get(field, "plain"), value) for field, value in record.items()}
        return build(schema.name, values)
    except (InvalidDefinition, InvalidEvent, InvalidUsage, OverflowError, ValueError) as error:
        raise Poison("invalid", f"{schema.name}.v{schema.version}: {error}") from error


def _raw(name: str, field: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return micros(value)
    if isinstance(value, Decimal):
        try:
            return exact_unscaled(value)
        except ValueError as error:
            raise InvalidEvent(f"{name}.{field}: {error}") from None
    if isinstance(value, str):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _value(kind: str, raw: Any) -> Any:
    if raw is None or kind == "plain":
        return raw
    return to_decimal(raw) if kind == "decimal" else from_micros(raw)
