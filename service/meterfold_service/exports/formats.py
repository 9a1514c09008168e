"""Writers of the four formats: batches in, bytes out, in memory for one batch or row group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import IO, Any, Final

import pyarrow as pa

from meterfold_service.exports.results import Format

__all__ = ["BatchWriter", "open_writer"]

_ROW_GROUP: Final = 122_880
"""Rows of a Parquet row group: what most readers take at a time."""


class BatchWriter(ABC):
    """Writes to a binary file object that it does not close. `close` ends the format: without it a reader notices that
    the file is incomplete, except in CSV and JSON Lines, which have no end."""

    @abstractmethod
    def write(self, batch: pa.RecordBatch) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


def open_writer(
    kind: Format, out: IO[bytes], schema: pa.Schema, *, seekable: bool, safe_for_spreadsheets: bool = False
) -> BatchWriter:
    """The writer of a format. `seekable`: a file, where Arrow is written in the file format rather than as a stream."""
    match kind:
        case Format.CSV:
            return _Csv(out, schema, safe=safe_for_spreadsheets)
        case Format.JSONL:
            return _JsonLines(out)
        case Format.PARQUET:
            return _Parquet(out, schema)
        case Format.ARROW:
            return _Arrow(out, schema, seekable=seekable)


class _Csv(BatchWriter):
    """RFC 4180 with a header; a missing value is empty, an empty text is `""`."""

    def __init__(self, out: IO[bytes], schema: pa.Schema, *, safe: bool) -> None:
        self._out = out
        self._safe = safe
        out.write((",".join(schema.names) + "\n").encode())

    def write(self, batch: pa.RecordBatch) -> None:
        from meterfold_service.exports.text import flat, harmless, text_frame

        frame = flat(text_frame(batch))
        (harmless(frame, batch.schema) if self._safe else frame).write_csv(self._out, include_header=False)

    def close(self) -> None:
        self._out.flush()


class _JsonLines(BatchWriter):
    """One JSON object per line; decimals are strings, since JSON numbers lose digits in most readers."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, batch: pa.RecordBatch) -> None:
        from meterfold_service.exports.text import text_frame

        text_frame(batch).write_ndjson(self._out)

    def close(self) -> None:
        self._out.flush()


class _Parquet(BatchWriter):
    def __init__(self, out: IO[bytes], schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self._writer: Any = pq.ParquetWriter(out, schema, compression="zstd", compression_level=1)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self._rows += batch.num_rows
        if self._rows >= _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=2 * _ROW_GROUP)
            self._waiting, self._rows = [], 0


class _Arrow(BatchWriter):
    def __init__(self, out: IO[bytes], schema: pa.Schema, *, seekable: bool) -> None:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        make: Any = pa.ipc.new_file if seekable else pa.ipc.new_stream
        self._writer = make(out, schema, options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def close(self) -> None:
        self._writer.close()
