"""What can be read of a rejected message. Pure.

The fold decides whole batches and says only why a message does not count. Here a message is read as far as it goes, so
that a person sees its fields and a correction replaces only those that are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from meterfold_schemas import catalog, usage_json
from meterfold_schemas.catalog import EventSchema
from meterfold_schemas.errors import InvalidUsage, Poison, UnknownSchema
from meterfold_schemas.framing import HEADER_SIZE, decode
from meterfold_schemas.periods import from_micros
from meterfold_schemas.quantities import to_decimal
from meterfold_schemas.schema_keys import CONFLUENT_HEADER_SIZE, CONFLUENT_MAGIC, key_in
from meterfold_schemas.usage_fields import SCHEMA

__all__ = ["DecodedEvent", "decoded_event", "schema_labelled"]

_NOTHING: Final[Mapping[bytes, EventSchema]] = {}


@dataclass(frozen=True, slots=True)
class DecodedEvent:
    """The readable fields of a message, which may break the rules of an event.

    `format` is the label of its Avro schema, such as usage_recorded.v1, or "json"; None where nothing can be read, for
    the reason in `problem`. `problems`: field -> what is wrong with it, of fields that JSON has and an event cannot.
    """

    format: str | None
    fields: Mapping[str, Any] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


def decoded_event(
    value: bytes, aliases: Mapping[bytes, EventSchema] = _NOTHING, read_as: EventSchema | None = None
) -> DecodedEvent:
    """The event in a value. `aliases`: how further schema keys are read, fingerprints of 8 bytes and registry ids of 4
    (see schema_keys.py). With `read_as`, the bytes after the header are read as that schema, whatever it says."""
    try:
        if value.startswith(usage_json.OPENING) and read_as is None:
            fields, problems = usage_json.readable_fields(value)
            return DecodedEvent("json", fields, problems)
        size = CONFLUENT_HEADER_SIZE if value.startswith(CONFLUENT_MAGIC) else HEADER_SIZE
        key = key_in(value[:HEADER_SIZE], confluent=True)
        schema = read_as or (None if key is None else aliases.get(key))
        if schema is not None and len(value) >= size:
            value = schema.header + value[size:]
        found, record = decode(value)
    except Poison as error:
        return DecodedEvent(None, problem=error.detail)
    except UnknownSchema as error:
        return DecodedEvent(None, problem=f"the schema fingerprint {error.fingerprint.hex()} is unknown")
    if found.name != SCHEMA:
        return DecodedEvent(None, problem=f"the value is a {found.name}, not a {SCHEMA}")
    fields, problems = {}, {}
    for name, raw in record.items():
        kind = found.fields.get(name, "plain")
        try:
            fields[name] = raw if raw is None or kind == "plain" else _READ[kind](raw)
        except OverflowError:
            problems[name] = f"{name} {raw} is outside of the years 1 to 9999"
    return DecodedEvent(found.label, {name: value for name, value in fields.items() if value is not None}, problems)


def schema_labelled(label: str) -> EventSchema:
    """The schema of usage.recorded with this label. Raises InvalidUsage."""
    known = {schema.label: schema for schema in catalog.all_versions(SCHEMA)}
    if label not in known:
        raise InvalidUsage(f"{label!r} is not a schema of usage.recorded; known: {', '.join(known)}")
    return known[label]


_READ: Final = {"decimal": to_decimal, "timestamp": from_micros}
