"""Events of `usage.aggregated`, many at once: columns to messages, and messages back to columns.

This is the one event of high volume: encoding one record after the other took ten times as long. Tests compare the
bytes with those of the model in meterfold_schemas.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha1
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from meterfold_processor.checker.aggregates import AggregateColumns, EmittedColumns
from meterfold_processor.checker.hashing import hashes_of
from meterfold_processor.checker.rules import CODES, NEVER, PERIODS
from meterfold_processor.columns.avro_blocks import read_block
from meterfold_processor.columns.limbs import Limbs, from_arrow
from meterfold_processor.kafka.clients import OutgoingRun
from meterfold_schemas import catalog, cloudevents, ids, keys
from meterfold_schemas.avro_columns import (
    big_endian,
    bytes_list,
    joined,
    of_matrix,
    plain_in_json,
    printable_ascii,
    texts,
    varints,
)
from meterfold_schemas.catalog import EventSchema
from meterfold_schemas.errors import Poison
from meterfold_schemas.framing import HEADER_SIZE, avro_long, schema_of
from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.periods import Period, from_micros
from meterfold_schemas.topics import USAGE_AGGREGATED

__all__ = ["encoded", "pane_of_key", "read_emitted"]

_SCHEMA: Final = "usage_aggregated"
_HEX: Final = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint8).reshape(256, 2)
_DASHES: Final = (8, 13, 18, 23)


def encoded(events: AggregateColumns, topic: str, partition: int, source: str, now: int) -> OutgoingRun:
    """The messages of one partition; `now` in UTC microseconds."""
    names = {name: pa.array(events.names[name], pa.string()) for name in SUBJECT}
    texts_of_periods = pa.array([PERIODS.get(code, "") for code in range(max(PERIODS) + 1)], pa.string())
    period = texts_of_periods.take(pa.array(events.periods, pa.int8()))
    window = _window(names, period, events)
    identity = (_decimals(events.revision), _flags(events.is_final, b",0]", b",1]"))
    event_ids = _event_ids(bytes_list(joined(b'["aggregated",', window, b",", *identity)))
    ends = varints(np.where(events.ends == NEVER, 0, events.ends))
    values = joined(
        catalog.default().latest(_SCHEMA).header + avro_long(36),
        event_ids,
        avro_long(now),
        *(piece for name in SUBJECT for piece in texts(names[name])),
        *texts(period),
        varints(events.starts),
        *_optional(events.ends != NEVER, ends),
        avro_long(partition),
        _amount(events.total),
        varints(events.count),
        *(_amount(events.amounts[name]) for name in ("sum", "min", "max", "last")),
        varints(events.revision),
        _flags(events.is_final, b"\0", b"\1"),
        *_optional(events.has_previous, _amount(events.previous)),
    )
    return OutgoingRun(
        topic,
        partition,
        bytes_list(joined(b"[", window, b"]")),
        bytes_list(values),
        _headers(bytes_list(event_ids), names, source, now),
    )


def read_emitted(values: Sequence[bytes]) -> EmittedColumns | None:
    """What values of `usage.aggregated` say; None for no values. Raises Poison or UnknownSchema."""
    by_header: dict[bytes, list[bytes]] = {}
    for value in values:
        by_header.setdefault(value[:HEADER_SIZE], []).append(value)
    if not by_header:
        return None
    frames = [_read(header, group) for header, group in by_header.items()]
    columns = [*SUBJECT, "period_type", "period_start", "revision", "is_final", "total_quantity"]
    table = pl.concat([frame.select(columns) for frame in frames]).to_arrow().combine_chunks()
    codes = {period.value: code for code, period in PERIODS.items()}
    unknown = {str(name) for name in pc.unique(table.column("period_type")).to_pylist()} - codes.keys()
    if unknown:
        raise Poison("invalid", f"{_SCHEMA}: no period {sorted(unknown)[0]!r}")
    arrays: list[Any] = [table.column(name).cast(pa.large_string()).combine_chunks() for name in SUBJECT]
    names = pa.RecordBatch.from_arrays(arrays, list(SUBJECT))
    periods = pl.Series(table.column("period_type")).cast(pl.String).replace_strict(codes, return_dtype=pl.Int8)
    return EmittedColumns(
        hashes_of(names),
        periods.to_numpy(),
        table.column("period_start").cast(pa.int64()).to_numpy(),
        table.column("revision").to_numpy(),
        table.column("is_final").to_numpy(),
        from_arrow(table.column("total_quantity")),
    )


def pane_of_key(key: bytes) -> tuple[int, int]:
    """Period code and start of the window that a key of `usage.aggregated` names. Raises Poison."""
    try:
        _, period, start = key.rsplit(b",", 2)
        return _pane_of(period, start)
    except ValueError as error:
        raise Poison("invalid", f"{key[:200]!r} is not the key of a window") from error


@lru_cache(maxsize=4096)
def _pane_of(period: bytes, start: bytes) -> tuple[int, int]:
    return CODES[Period(period.decode().strip('"'))], int(start.removesuffix(b"]"))


def _read(header: bytes, values: list[bytes]) -> pl.DataFrame:
    schema: EventSchema = schema_of(values[0])
    if schema.name != _SCHEMA:
        raise Poison("undecodable", f"a {schema.name} where a {_SCHEMA} belongs")
    frame = read_block(schema, header, values)
    if frame is None:
        raise Poison("undecodable", f"a value is not one {_SCHEMA} record")
    return frame


def _window(names: dict[str, Any], period: Any, events: AggregateColumns) -> Any:
    """The parts of a window's key between the brackets."""
    quoted: list[Any] = []
    for name in SUBJECT:
        quoted += [b'"', names[name].view(pa.binary()), b'",']
    found = joined(*quoted, b'"', period.view(pa.binary()), b'",', _decimals(events.starts))
    plain = np.ones(len(events), np.bool_)
    for name in SUBJECT:
        plain &= plain_in_json(names[name])
    if plain.all():
        return found
    exact = bytes_list(found)
    for at in np.flatnonzero(~plain).tolist():
        subject = [events.names[name][at] for name in SUBJECT]
        exact[at] = keys.compact_array(*subject, period[at].as_py(), int(events.starts[at]))[1:-1]
    return pa.array(exact, pa.binary())


def _event_ids(names: list[bytes]) -> Any:
    """The text of ids.aggregated_event_id of each name: UUIDs of version 5."""
    space = ids.NAMESPACE.bytes
    digests = b"".join([sha1(space + name, usedforsecurity=False).digest()[:16] for name in names])
    raw = np.frombuffer(digests, np.uint8).reshape(len(names), 16).copy()
    raw[:, 6] = (raw[:, 6] & 0x0F) | 0x50
    raw[:, 8] = (raw[:, 8] & 0x3F) | 0x80
    digits = _HEX[raw].reshape(len(names), 32)
    cells = np.full((len(names), 36), ord("-"), np.uint8)
    cells[:, [place for place in range(36) if place not in _DASHES]] = digits
    return of_matrix(cells, np.full(len(names), 36))


def _headers(event_ids: list[bytes], names: dict[str, Any], source: str, now: int) -> list[list[tuple[str, bytes]]]:
    kind, subject_id = names["subject_type"], names["subject_id"]
    about = bytes_list(joined(kind.view(pa.binary()), b":", subject_id.view(pa.binary())))
    plain = printable_ascii(kind) & printable_ascii(subject_id)
    for at in np.flatnonzero(~plain).tolist():
        about[at] = cloudevents.subject_bytes(about[at].decode())
    return cloudevents.headers_of_each(USAGE_AGGREGATED, event_ids, source, from_micros(now), about)


def _amount(column: Limbs) -> Any:
    return big_endian(None, column.lo.view(np.int64)) if column.fits_int64() else big_endian(column.hi, column.lo)


def _decimals(numbers: npt.NDArray[np.int64]) -> Any:
    return pa.array(numbers).cast(pa.string()).view(pa.binary())


def _flags(flags: npt.NDArray[np.bool_], no: bytes, yes: bytes) -> Any:
    return pa.array([no, yes], pa.binary()).take(pa.array(flags.astype(np.int8), pa.int8()))


def _optional(present: npt.NDArray[np.bool_], values: Any) -> tuple[Any, ...]:
    """Avro's union of null and something: pieces for `joined`."""
    if present.all():
        return b"\x02", values
    if not present.any():
        return (b"\0",)
    nothing = pa.scalar(b"", pa.binary())
    return _flags(present, b"\0", b"\x02"), pc.if_else(pa.array(present), values, nothing)
