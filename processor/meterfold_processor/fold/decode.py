"""Avro messages to columns, all at once.

A message is a ten-byte header (magic and schema fingerprint) and an Avro body. Messages of one header share a schema,
so header + body of each, with a random nonce behind it, make one block of an Avro container whose records begin with
`fixed(10)` and end with `fixed(16)`: polars reads the block in one call, twelve times faster than a decoder per
message. A damaged message could shift its neighbours, or hold a forged second record. It cannot guess the nonce: only
when every row ends with it does every row stand for exactly its own message. Otherwise the block is halved until the
culprits stand alone, read by the same decoder, so that what is decided about a message never depends on its
neighbours.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import polars as pl
from polars.exceptions import PanicException

from meterfold_processor.fold.messages import Consumed
from meterfold_schemas import catalog
from meterfold_schemas.catalog import EventSchema

EVENT = "usage_recorded"
HEADER_SIZE = 10
MAGIC = b"\xc3\x01"

FIELDS: dict[str, pl.DataType] = {
    **dict.fromkeys(["id", "org_id", "metric_key", "subject_type", "subject_id"], pl.String()),
    "quantity": pl.Decimal(38, 9),
    **dict.fromkeys(["source", "resource_type", "resource_id", "metadata"], pl.String()),
    "timestamp": pl.Datetime("us", "UTC"),
}

UNDECODABLE = "undecodable"

_NONCE_SIZE = 16


@dataclass(frozen=True, slots=True)
class Hold:
    """A message of a schema that this worker does not know: its partition waits at this offset."""

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


def decode(consumed: Consumed, poison: Collection[bytes] = ()) -> Decoded:
    """Read every message. `poison` holds the fingerprints that an operator declared to be undecodable."""
    known = catalog.all_versions(EVENT)
    for schema in known:
        if all(map(bytes.startswith, consumed.values, repeat(schema.header))):
            whole = _read(schema, consumed.values)
            if whole is not None:
                return Decoded(_with_position(consumed, whole, np.arange(len(consumed))), [])
    schemas = {schema.header: schema for schema in known}
    holds = _holds(consumed, schemas, poison)
    rows_of: dict[EventSchema | str, list[int]] = {}
    for row, value in enumerate(consumed.values):
        header = value[:HEADER_SIZE]
        # By what is wrong, not by header: text instead of Avro begins differently in every message.
        rows_of.setdefault(schemas.get(header) or _why_unknown(header), []).append(row)
    parts = []
    for schema_or_why, rows in rows_of.items():
        if isinstance(schema_or_why, str):
            body = _undecodable(len(rows), schema_or_why)
        else:
            body = _read_halving(schema_or_why, [consumed.values[row] for row in rows])
        parts.append(_with_position(consumed, body, np.array(rows)))
    frame = pl.concat(parts).sort("row")
    for hold in holds:
        frame = frame.filter((pl.col("partition") != hold.partition) | (pl.col("offset") < hold.offset))
    return Decoded(frame, holds)


def _holds(consumed: Consumed, schemas: dict[bytes, EventSchema], poison: Collection[bytes]) -> list[Hold]:
    first: dict[int, Hold] = {}
    for row, value in enumerate(consumed.values):
        header = value[:HEADER_SIZE]
        if len(header) < HEADER_SIZE or not header.startswith(MAGIC) or header in schemas:
            continue
        fingerprint = header[len(MAGIC) :]
        if fingerprint in poison or catalog.by_fingerprint(fingerprint) is not None:
            continue
        partition, offset = int(consumed.partition[row]), int(consumed.offset[row])
        if partition not in first or offset < first[partition].offset:
            first[partition] = Hold(partition, offset, fingerprint)
    return list(first.values())


def _why_unknown(header: bytes) -> str:
    if len(header) < HEADER_SIZE:
        return f"{len(header)} bytes are too short for a header; publish Avro in single-object encoding"
    if not header.startswith(MAGIC):
        return "the bytes do not begin with c3 01; publish Avro in single-object encoding"
    other = catalog.by_fingerprint(header[len(MAGIC) :])
    if other is not None:
        return f"a {other.name} event on the topic of {EVENT}"
    return f"schema fingerprint {header[len(MAGIC) :].hex()} was declared poison"


def _read_halving(schema: EventSchema, values: list[bytes]) -> pl.DataFrame:
    frame = _read(schema, values)
    if frame is not None:
        return frame
    if len(values) == 1:
        return _undecodable(1, f"the body is not one {schema.name} record of version {schema.version}")
    middle = len(values) // 2
    return pl.concat([_read_halving(schema, values[:middle]), _read_halving(schema, values[middle:])])


def _read(schema: EventSchema, values: list[bytes]) -> pl.DataFrame | None:
    """The events of messages of one schema, or None when not every message holds exactly one record."""
    nonce = os.urandom(_NONCE_SIZE)
    container = _container(schema, len(values), nonce.join(values) + nonce)
    try:
        frame = pl.read_avro(io.BytesIO(container))
    except (PanicException, pl.exceptions.ComputeError, OSError):
        return None
    if frame.height != len(values):
        return None
    proof = frame.select((pl.col("_header") == pl.lit(schema.header)).all(), (pl.col("_nonce") == pl.lit(nonce)).all())
    if proof.row(0) != (True, True):
        return None
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in FIELDS.items() if name not in frame.columns]
    none = pl.lit(None, dtype=pl.String)
    return frame.with_columns(missing).select(*FIELDS, none.alias("reason"), none.alias("detail"))


def _undecodable(size: int, detail: str) -> pl.DataFrame:
    nothing = pl.DataFrame(schema=FIELDS).clear(size)
    return nothing.with_columns(reason=pl.lit(UNDECODABLE), detail=pl.lit(detail))


def _with_position(consumed: Consumed, body: pl.DataFrame, rows: np.ndarray[Any, np.dtype[np.int64]]) -> pl.DataFrame:
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


def _container(schema: EventSchema, count: int, data: bytes) -> bytes:
    """An Avro object container file of one uncompressed block (Avro specification 1.12, "Object Container Files")."""
    record = dict(schema.definition)
    record["fields"] = [
        {"name": "_header", "type": {"type": "fixed", "name": "MessageHeader", "size": HEADER_SIZE}},
        *schema.definition["fields"],
        {"name": "_nonce", "type": {"type": "fixed", "name": "MessageNonce", "size": _NONCE_SIZE}},
    ]
    meta = {b"avro.codec": b"null", b"avro.schema": json.dumps(record).encode()}
    pairs = b"".join(_long(len(k)) + k + _long(len(v)) + v for k, v in meta.items())
    sync = os.urandom(16)
    head = b"Obj\x01" + _long(len(meta)) + pairs + _long(0) + sync
    return b"".join((head, _long(count), _long(len(data)), data, sync))


def _long(number: int) -> bytes:
    """Avro's zigzag variable-length integer."""
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)
