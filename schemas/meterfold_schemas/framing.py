"""Values on the wire: Avro in single-object encoding, 0xC3 0x01 + the schema's fingerprint + the body.

Records here are plain dictionaries of raw values: a decimal is its unscaled integer (scale 9), a timestamp its UTC
microseconds. The event models turn them into Decimal and datetime.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

from fastavro import schemaless_reader, schemaless_writer

from meterfold_schemas import catalog as catalogs
from meterfold_schemas.catalog import MAGIC, Catalog, EventSchema
from meterfold_schemas.errors import InvalidEvent, Poison, UnknownSchema, shown
from meterfold_schemas.plurals import plural
from meterfold_schemas.quantities import MAX_STORED, from_avro_bytes, to_avro_bytes

__all__ = ["HEADER_SIZE", "avro_long", "decode", "encode", "schema_of"]

HEADER_SIZE: Final = 10

# What fastavro raises for damaged bytes (found by flipping, cutting and adding bytes, see the tests).
_DAMAGED: Final = (ArithmeticError, EOFError, LookupError, MemoryError, TypeError, ValueError)


def encode(name: str, record: dict[str, Any], *, catalog: Catalog | None = None) -> bytes:
    """One record in the newest version of schema `name`.

    Raises InvalidEvent for a field that is missing, unknown, of another type or out of range.
    """
    schema = (catalog or catalogs.default()).latest(name)
    if record.keys() != schema.fields.keys():
        missing = sorted(schema.fields.keys() - record.keys())
        unknown = sorted(record.keys() - schema.fields.keys())
        raise InvalidEvent(f"{name}: missing fields {missing}, unknown fields {unknown}")
    raw = {field: _raw(name, field, kind, record[field]) for field, kind in schema.fields.items()}
    out = BytesIO()
    out.write(schema.header)
    try:
        schemaless_writer(out, schema.raw, raw, strict=True)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise InvalidEvent(f"{name}: {error}") from error
    return out.getvalue()


def avro_long(value: int) -> bytes:
    """Avro's int and long: zigzag, seven bits per byte, the lowest first. `value` fits 64 bits, signed."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def schema_of(data: bytes, *, catalog: Catalog | None = None) -> EventSchema:
    """The schema a value was written with. Raises Poison for a value that is not framed, UnknownSchema."""
    if len(data) < HEADER_SIZE or data[:2] != MAGIC:
        raise Poison("undecodable", f"no Avro single-object header in {data[:HEADER_SIZE].hex() or 'an empty value'}")
    fingerprint = data[2:HEADER_SIZE]
    schema = (catalog or catalogs.default()).by_fingerprint(fingerprint)
    if schema is None:
        raise UnknownSchema(fingerprint)
    return schema


def decode(data: bytes, *, catalog: Catalog | None = None) -> tuple[EventSchema, dict[str, Any]]:
    """The schema a value was written with, and its record in the shape of that schema's newest version.

    Raises Poison("undecodable", ...) for damaged bytes, and UnknownSchema for a fingerprint that is not known here.
    """
    catalog = catalog or catalogs.default()
    schema = schema_of(data, catalog=catalog)
    reader = catalog.latest(schema.name)
    body = BytesIO(data)
    body.seek(HEADER_SIZE)
    try:
        # A reader's schema equal to the writer's would only cost time.
        record: Any = schemaless_reader(body, schema.raw, None if reader is schema else reader.raw)
    except _DAMAGED as error:
        raise Poison("undecodable", f"{schema.name}.v{schema.version}: {type(error).__name__}: {error}") from error
    if body.tell() != len(data):
        # Two records in one message: the second would be read as a neighbour's by a reader of whole blocks.
        raise Poison(
            "undecodable",
            f"{schema.name}.v{schema.version}: {plural(len(data) - body.tell(), 'byte')} after the record",
        )
    for field, kind in reader.fields.items():
        if kind == "decimal" and record[field] is not None:
            record[field] = _unscaled(schema, field, record[field])
    return schema, record


def _raw(name: str, field: str, kind: str, value: Any) -> Any:
    # Subclasses count as well (StrEnum, IntEnum), but True is not a number: fastavro would write it as 1.
    if isinstance(value, bool) and kind != "plain":
        raise InvalidEvent(f"{name}.{field}: {shown(value)} is not an integer")
    if kind != "decimal" or value is None:
        return value
    if not isinstance(value, int):
        raise InvalidEvent(f"{name}.{field}: give the unscaled integer, not {type(value).__name__} {shown(value)}")
    if not -MAX_STORED <= value <= MAX_STORED:
        raise InvalidEvent(f"{name}.{field}: {value} has more than 38 digits")
    return to_avro_bytes(value)


def _unscaled(schema: EventSchema, field: str, value: bytes) -> int:
    if len(value) <= 16 and -MAX_STORED <= (unscaled := from_avro_bytes(value)) <= MAX_STORED:
        return unscaled
    raise Poison("undecodable", f"{schema.name}.v{schema.version}: {field} has more than 38 digits")
