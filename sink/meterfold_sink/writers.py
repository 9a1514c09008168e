"""Inserts that are safe to repeat and to apply in part, because the tables replace rows by their key."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import pyarrow as pa

from meterfold_sink.client import Client

__all__ = ["Writer"]

_SETTINGS: Final = MappingProxyType(
    {
        # The acknowledgement must mean: on the disk. A buffered insert is acknowledged before.
        "async_insert": 0,
        # Back-filled events may touch many months in one insert, and all of it is to be there or to be repeated.
        "max_partitions_per_insert_block": 0,
        # A flush has each key once: looking for repetitions in it cost a third of the insert of windows.
        "optimize_on_insert": 0,
        # A column that the table does not have is a bug; it must not be ignored.
        "input_format_skip_unknown_fields": 0,
        "input_format_null_as_default": 0,
    }
)


class Writer:
    """Writes Arrow tables into ClickHouse; for one thread at a time, like its client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def insert(self, table: str, rows: pa.Table) -> None:
        """Insert `rows`, whose column names and types are the table's (an Enum8 as int8), and wait until they last.

        When this raises, any part of the rows may be there: insert all of them again. Raises Retryable or Fatal.
        """
        if rows.num_rows == 0:
            return
        self._client.insert_stream(table, rows.column_names, _stream(rows), _SETTINGS)


def _stream(rows: pa.Table) -> memoryview:
    """An Arrow IPC stream. Not compressed: that cost as much CPU as the rest of the insert. Written once to learn its
    size, and once into memory of that size: memory that doubles while it is written cost ten times as much."""
    counted = pa.MockOutputStream()
    _write(rows, counted)
    stream = pa.allocate_buffer(counted.size())
    _write(rows, pa.FixedSizeBufferWriter(stream))
    return memoryview(stream)


def _write(rows: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
