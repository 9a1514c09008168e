"""Messages to columns, all at once. The first byte tells the formats apart: `{` begins JSON (json_values.py), anything
else should be Avro, which is read here.

Messages of one header share a schema (several headers may stand for the same one, since libraries compute
fingerprints differently) and are read as one block (columns/avro_blocks.py), twelve times faster than by a decoder per
message. Where the nonces show that not every message holds exactly one record, the block is halved until the culprits
stand alone, read by the same decoder, so that what is decided about a message never depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import compress, repeat

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
from meterfold_schemas.usage_json import OPENING

_TYPES: dict[str, pl.DataType] = {"quantity": pl.Decimal(38, 9), "timestamp": pl.Datetime("us", "UTC")}
FIELDS: dict[str, pl.DataType] = {field.name: _TYPES.get(field.rule, pl.String()) for field in usage_fields.FIELDS}
"""The columns of an event and their types; every rule but these two is about text."""

UNDECODABLE = "undecodable"


@dataclass(frozen=True, slots=True)
class Hold:
    """A message of a schema that nothing is decided about: its partition waits at this offset."""

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
    readers = {MAGIC + fingerprint: schema for fingerprint, schema in schemas.read.items()}
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
    holds = _holds(consumed, rows, schemas)
    parts += [
        _with_position(consumed, body, those)
        for group, own in _by_header(consumed.values, rows, readers, schemas)
        for body, those in _bodies(group, consumed.values, own)
    ]
    frame = pl.concat(parts).sort("row")
    for hold in holds:
        frame = frame.filter((pl.col("partition") != hold.partition) | (pl.col("offset") < hold.offset))
    return Decoded(frame, holds)


@dataclass(frozen=True, slots=True)
class _Readable:
    """Messages of one header. Each message begins with the same ten bytes, whichever library computed them."""

    header: bytes
    schema: EventSchema


def _by_header(
    values: list[bytes], rows: Int64s, readers: Mapping[bytes, EventSchema], schemas: Schemas
) -> Iterable[tuple[_Readable | str, Int64s]]:
    """The rows of each header, and those of each thing that can be wrong with one: what is wrong, and not the header
    itself, since text instead of Avro begins differently in every message."""
    groups: dict[bytes, _Readable | str] = {header: _Readable(header, schema) for header, schema in readers.items()}
    rows_of: dict[_Readable | str, list[int]] = {}
    for row in rows.tolist():
        header = values[row][:HEADER_SIZE]
        rows_of.setdefault(groups.get(header) or _why_unknown(header, schemas), []).append(row)
    return [(group, np.array(own)) for group, own in rows_of.items()]


def _bodies(group: _Readable | str, values: list[bytes], rows: Int64s) -> Iterable[tuple[pl.DataFrame, Int64s]]:
    """The events of these rows, and those rows that have none."""
    if isinstance(group, str):
        yield _undecodable(len(rows), group), rows
        return
    runs = list(_runs(group, values, rows))
    readable = [(frame, run) for frame, run in runs if frame is not None]
    if readable:
        # Once for all runs: among many damaged messages there are thousands of them.
        whole = _events(pl.concat([frame for frame, _ in readable]))
        yield whole, np.concatenate([run for _, run in readable])
    damaged = [run for frame, run in runs if frame is None]
    if damaged:
        why = f"the body is not one {group.schema.name} record of version {group.schema.version}"
        yield _undecodable(len(damaged), why), np.concatenate(damaged)


def _holds(consumed: Consumed, rows: Int64s, schemas: Schemas) -> list[Hold]:
    first: dict[int, Hold] = {}
    for row in rows.tolist():
        header = consumed.values[row][:HEADER_SIZE]
        if len(header) < HEADER_SIZE or not header.startswith(MAGIC):
            continue
        fingerprint = header[len(MAGIC) :]
        if fingerprint in schemas.read or fingerprint in schemas.poison or _other_event(fingerprint) is not None:
            continue
        partition, offset = int(consumed.partition[row]), int(consumed.offset[row])
        if partition not in first or offset < first[partition].offset:
            first[partition] = Hold(partition, offset, fingerprint)
    return list(first.values())


def _other_event(fingerprint: bytes) -> EventSchema | None:
    """A schema of ours that has no place on this topic: such a message is undecodable to every version."""
    schema = catalog.by_fingerprint(fingerprint)
    return None if schema is None or schema.name == EVENT else schema


def _why_unknown(header: bytes, schemas: Schemas) -> str:
    if len(header) < HEADER_SIZE:
        return f"{plural(len(header), 'byte')} where a header has {HEADER_SIZE}; publish {_formats(schemas)}"
    if not header.startswith(MAGIC):
        return f"the bytes do not begin with c3 01; publish {_formats(schemas)}"
    fingerprint = header[len(MAGIC) :]
    other = _other_event(fingerprint)
    if other is not None and fingerprint not in schemas.poison:
        return f"a {other.name} event on the topic of {EVENT}"
    return f"schema fingerprint {fingerprint.hex()} is poison (`meterfold schema list` says who decided it)"


def _formats(schemas: Schemas) -> str:
    return "Avro in single-object encoding" + (", or JSON that begins with {" if schemas.json else "")


def _runs(group: _Readable, values: list[bytes], rows: Int64s) -> Iterable[tuple[pl.DataFrame | None, Int64s]]:
    """Halved until each part can be read, or is one message that cannot be (None)."""
    frame = read_block(group.schema, group.header, [values[row] for row in rows])
    if frame is not None or len(rows) == 1:
        yield frame, rows
        return
    middle = len(rows) // 2
    yield from _runs(group, values, rows[:middle])
    yield from _runs(group, values, rows[middle:])


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
