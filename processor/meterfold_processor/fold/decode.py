"""Messages to columns, all at once. The first byte tells the formats apart: `{` begins JSON (json_values.py), anything
else should be Avro, which is read here.

A message is a header and an Avro body. The header is magic and schema fingerprint (10 bytes), or, in the Confluent wire
format, a zero byte and the schema's id in a registry (5 bytes). Messages of one header share a schema (several headers
may stand for the same one, since libraries compute fingerprints differently) and are read as one block
(columns/avro_blocks.py), twelve times faster than by a decoder per message. Where the nonces show that not every
message holds exactly one record, the block is halved until the culprits stand alone, read by the same decoder, so that
what is decided about a message never depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import compress, repeat
from operator import itemgetter

import numpy as np
import polars as pl

from meterfold_processor.columns.avro_blocks import read_block
from meterfold_processor.fold import json_values
from meterfold_processor.fold.messages import Consumed, Int64s
from meterfold_processor.fold.schemas import EVENT, Schemas
from meterfold_schemas import catalog, usage_fields
from meterfold_schemas.catalog import MAGIC, EventSchema
from meterfold_schemas.framing import HEADER_SIZE
from meterfold_schemas.plurals import plural
from meterfold_schemas.schema_keys import CONFLUENT_HEADER_SIZE, CONFLUENT_MAGIC, header_of, shown
from meterfold_schemas.usage_json import OPENING

_TYPES: dict[str, pl.DataType] = {"quantity": pl.Decimal(38, 9), "timestamp": pl.Datetime("us", "UTC")}
FIELDS: dict[str, pl.DataType] = {field.name: _TYPES.get(field.rule, pl.String()) for field in usage_fields.FIELDS}
"""The columns of an event and their types; every rule but these two is about text."""

UNDECODABLE = "undecodable"

_START = itemgetter(slice(0, CONFLUENT_HEADER_SIZE))
"""As many bytes of a message as both kinds of header have; few different ones begin the messages of a batch."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A message of a schema that nothing is decided about: its partition waits at this offset. `fingerprint`: 8 bytes,
    or the 4 of a registry id."""

    partition: int
    offset: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Decoded:
    """One row per message, in order: `row` (its place in what was consumed), partition, offset, stamp, key, the fields
    of the event, and `reason` and `detail`, null unless the message cannot be decoded. Messages from a hold on are left
    out."""

    frame: pl.DataFrame
    holds: list[Hold]


def decode(consumed: Consumed, schemas: Schemas | None = None) -> Decoded:
    """Read every message as it is decided for its fingerprint; without `schemas` only what is always read."""
    schemas = schemas or Schemas()
    readers = {header_of(key): schema for key, schema in schemas.read.items() if schemas.confluent or len(key) == 8}
    for header, schema in readers.items():
        if all(map(bytes.startswith, consumed.values, repeat(header))):
            whole = read_block(schema, header, consumed.values)
            if whole is not None:
                return Decoded(_with_position(consumed, _events(whole), np.arange(len(consumed))), [])
    rows = np.arange(len(consumed))
    parts = []
    if schemas.json and any(is_json := list(map(bytes.startswith, consumed.values, repeat(OPENING)))):
        chosen = np.array(is_json)
        body = json_values.read(list(compress(consumed.values, is_json)))
        parts.append(_with_position(consumed, body, rows[chosen]))
        rows = rows[~chosen]
    for header, schema, those in _by_header(consumed.values, rows, readers):
        rows = rows[~np.isin(rows, those, assume_unique=True)]
        parts += [_with_position(consumed, body, own) for body, own in _bodies(header, schema, consumed.values, those)]
    holds: dict[int, Hold] = {}
    for framing, own in _by_framing(consumed.values, rows, schemas):
        headers = [consumed.values[row][: framing.size] for row in own.tolist()]
        _hold(headers, framing, consumed, own, schemas, holds)
        parts += [
            _with_position(consumed, _undecodable(len(those), why), those)
            for why, those in _by_fault(headers, framing, own, schemas)
        ]
    frame = pl.concat(parts).sort("row")
    for hold in holds.values():
        frame = frame.filter((pl.col("partition") != hold.partition) | (pl.col("offset") < hold.offset))
    return Decoded(frame, list(holds.values()))


@dataclass(frozen=True, slots=True)
class _Framing:
    """How the header of a message is found: its first bytes, and its size."""

    magic: bytes
    size: int


_SINGLE_OBJECT = _Framing(MAGIC, HEADER_SIZE)
_CONFLUENT = _Framing(CONFLUENT_MAGIC, CONFLUENT_HEADER_SIZE)


def _by_framing(values: list[bytes], rows: Int64s, schemas: Schemas) -> Iterable[tuple[_Framing, Int64s]]:
    if schemas.confluent:
        those = np.array([values[row].startswith(CONFLUENT_MAGIC) for row in rows.tolist()], np.bool_)
        if those.any():
            yield _CONFLUENT, rows[those]
            rows = rows[~those]
    yield _SINGLE_OBJECT, rows


def _by_header(
    values: list[bytes], rows: Int64s, readers: Mapping[bytes, EventSchema]
) -> Iterable[tuple[bytes, EventSchema, Int64s]]:
    """The rows of each header that is read. Each of their messages begins with the same bytes, whichever library
    computed them."""
    own = values if len(rows) == len(values) else [values[row] for row in rows.tolist()]
    starts = set(map(_START, own))
    for header, schema in readers.items():
        if _START(header) in starts:
            chosen = np.fromiter(map(bytes.startswith, own, repeat(header)), np.bool_, len(own))
            if chosen.any():
                yield header, schema, rows[chosen]


def _by_fault(headers: list[bytes], framing: _Framing, rows: Int64s, schemas: Schemas) -> Iterable[tuple[str, Int64s]]:
    """The rows of each thing that can be wrong with a header: what is wrong, and not the header itself, since text
    instead of Avro begins differently in every message."""
    rows_of: dict[str, list[int]] = {}
    for row, header in zip(rows.tolist(), headers, strict=True):
        rows_of.setdefault(_why_unknown(header, framing, schemas), []).append(row)
    return [(why, np.array(own)) for why, own in rows_of.items()]


def _bodies(
    header: bytes, schema: EventSchema, values: list[bytes], rows: Int64s
) -> Iterable[tuple[pl.DataFrame, Int64s]]:
    """The events of these rows of one header, and those rows that have none."""
    runs = list(_runs(header, schema, values, rows))
    readable = [(frame, run) for frame, run in runs if frame is not None]
    if readable:
        # Once for all runs: among many damaged messages there are thousands of them.
        whole = _events(pl.concat([frame for frame, _ in readable]))
        yield whole, np.concatenate([run for _, run in readable])
    damaged = [run for frame, run in runs if frame is None]
    if damaged:
        why = f"the body is not one {schema.name} record of version {schema.version}"
        yield _undecodable(len(damaged), why), np.concatenate(damaged)


def _hold(
    headers: list[bytes],
    framing: _Framing,
    consumed: Consumed,
    rows: Int64s,
    schemas: Schemas,
    first: dict[int, Hold],
) -> None:
    """Add the first message of each partition whose schema is not decided to `first`."""
    for row, header in zip(rows.tolist(), headers, strict=True):
        if len(header) < framing.size or not header.startswith(framing.magic):
            continue
        fingerprint = header[len(framing.magic) :]
        if fingerprint in schemas.read or fingerprint in schemas.poison or _other_event(fingerprint) is not None:
            continue
        partition, offset = int(consumed.partition[row]), int(consumed.offset[row])
        if partition not in first or offset < first[partition].offset:
            first[partition] = Hold(partition, offset, fingerprint)


def _other_event(fingerprint: bytes) -> EventSchema | None:
    """A schema of ours that has no place on this topic: such a message is undecodable to every version."""
    schema = catalog.by_fingerprint(fingerprint)
    return None if schema is None or schema.name == EVENT else schema


def _why_unknown(header: bytes, framing: _Framing, schemas: Schemas) -> str:
    if header.startswith(CONFLUENT_MAGIC) and len(header) >= CONFLUENT_HEADER_SIZE and not schemas.confluent:
        return (
            "the value begins with 00, the Confluent wire format, which this installation does not read: set url under "
            "[schema_registry] and decoder_version 3 (docs/producing.md, 'A Schema Registry'), or publish "
            f"{_formats(schemas)}"
        )
    if len(header) < framing.size:
        return f"{plural(len(header), 'byte')} where a header has {framing.size}; publish {_formats(schemas)}"
    if not header.startswith(framing.magic):
        return f"the bytes do not begin with c3 01; publish {_formats(schemas)}"
    fingerprint = header[len(framing.magic) :]
    other = _other_event(fingerprint)
    if other is not None and fingerprint not in schemas.poison:
        return f"a {other.name} event on the topic of {EVENT}"
    what = "schema fingerprint" if framing is _SINGLE_OBJECT else "registry schema"
    return f"{what} {shown(fingerprint)} is poison (`meterfold schema list` shows who decided it)"


def _formats(schemas: Schemas) -> str:
    found = ["Avro in single-object encoding"]
    if schemas.json:
        found.append("JSON that begins with {")
    if schemas.confluent:
        found.append("Avro in the Confluent wire format")
    return ", or ".join(found)


def _runs(
    header: bytes, schema: EventSchema, values: list[bytes], rows: Int64s
) -> Iterable[tuple[pl.DataFrame | None, Int64s]]:
    """Halved until each part can be read, or is one message that cannot be (None)."""
    frame = read_block(schema, header, [values[row] for row in rows])
    if frame is not None or len(rows) == 1:
        yield frame, rows
        return
    middle = len(rows) // 2
    yield from _runs(header, schema, values, rows[:middle])
    yield from _runs(header, schema, values, rows[middle:])


def _events(records: pl.DataFrame) -> pl.DataFrame:
    """The fields of today; an older version lacks some."""
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in FIELDS.items() if name not in records.columns]
    none = pl.lit(None, dtype=pl.String)
    return records.with_columns(missing).select(*FIELDS, none.alias("reason"), none.alias("detail"))


def _undecodable(size: int, detail: str) -> pl.DataFrame:
    nothing = pl.DataFrame(schema=FIELDS).clear(size)
    return nothing.with_columns(reason=pl.lit(UNDECODABLE), detail=pl.lit(detail))


def _with_position(consumed: Consumed, body: pl.DataFrame, rows: Int64s) -> pl.DataFrame:
    keys = consumed.keys if len(rows) == len(consumed) else [consumed.keys[row] for row in rows]
    position = pl.DataFrame(
        {
            "row": rows,
            "partition": consumed.partition[rows],
            "offset": consumed.offset[rows],
            "stamp": consumed.stamp[rows],
            "key": pl.Series(keys, dtype=pl.Binary),
        }
    )
    return pl.concat([position, body], how="horizontal")
