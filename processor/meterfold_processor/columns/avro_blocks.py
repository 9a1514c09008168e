"""Many messages of one schema as columns: one block of an Avro container, read by polars in one call.

A message is a header and an Avro body. Header + body of each, with a random nonce behind it, make records that begin
with a `fixed` of the header's size and end with `fixed(16)`. A damaged message could shift its neighbours, or hold a
forged second record. It cannot guess the nonce: only when every row ends with it does every row
stand for exactly its own message.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from functools import cache
from typing import Final

import polars as pl
from polars.exceptions import PanicException

from meterfold_schemas.catalog import EventSchema
from meterfold_schemas.framing import avro_long

__all__ = ["read_block"]

_NONCE_SIZE: Final = 16


def read_block(schema: EventSchema, header: bytes, values: Sequence[bytes]) -> pl.DataFrame | None:
    """The records of messages of one header as they stand there, or None when not every message holds exactly one."""
    nonce = os.urandom(_NONCE_SIZE)
    container = _container(schema, len(header), len(values), nonce.join(values) + nonce)
    try:
        frame = pl.read_avro(io.BytesIO(container))
    except (PanicException, pl.exceptions.ComputeError, OSError):
        return None
    if frame.height != len(values):
        return None
    proof = frame.select((pl.col("_header") == pl.lit(header)).all(), (pl.col("_nonce") == pl.lit(nonce)).all())
    return frame.drop("_header", "_nonce") if proof.row(0) == (True, True) else None


def _container(schema: EventSchema, header_size: int, count: int, data: bytes) -> bytes:
    """An Avro object container file of one uncompressed block (Avro specification 1.12, "Object Container Files")."""
    sync = os.urandom(16)
    return b"".join((_container_head(schema, header_size), sync, avro_long(count), avro_long(len(data)), data, sync))


@cache
def _container_head(schema: EventSchema, header_size: int) -> bytes:
    record = dict(schema.definition)
    record["fields"] = [
        {"name": "_header", "type": {"type": "fixed", "name": "MessageHeader", "size": header_size}},
        *schema.definition["fields"],
        {"name": "_nonce", "type": {"type": "fixed", "name": "MessageNonce", "size": _NONCE_SIZE}},
    ]
    meta = {b"avro.codec": b"null", b"avro.schema": json.dumps(record).encode()}
    pairs = b"".join(avro_long(len(k)) + k + avro_long(len(v)) + v for k, v in meta.items())
    return b"".join((b"Obj\x01", avro_long(len(meta)), pairs, avro_long(0)))
