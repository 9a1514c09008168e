"""Arrow batches with values as text, for the formats that have no decimals and times of their own. Pure.

A decimal has all its digits and no exponent, and no zeros at the end (0.000000001, not 1E-9); a time is
2026-10-01T12:00:00.000000Z, always with microseconds; bytes are base64.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["flat", "harmless", "text_frame"]

_TIME: Final = pa.timestamp("us", "UTC")
_TIME_BYTES: Final = len("2026-10-01 12:00:00.000000")
#: A cell that begins with one of these is a formula to a spreadsheet (OWASP, "CSV injection"); the last four are the
#: full-width forms, which some read alike.
_FORMULA: Final = r"^[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"


def text_frame(batch: pa.RecordBatch) -> pl.DataFrame:
    """The batch as a polars frame whose columns are text, integers and booleans."""
    columns = zip(batch.schema.names, map(_text, batch.columns), strict=True)
    frame = pl.DataFrame({name: pl.from_arrow(column) for name, column in columns})
    return frame.with_columns(
        pl.col(pl.Decimal).cast(pl.String).str.strip_chars_end("0").str.strip_chars_end("."),
        pl.col(pl.Binary).bin.encode("base64"),
    )


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists of integers as text, such as [1,2], for CSV."""
    lists = pl.col(pl.List(pl.Int64))
    return frame.with_columns("[" + lists.cast(pl.List(pl.String)).list.join(",") + "]")


def harmless(frame: pl.DataFrame, schema: pa.Schema) -> pl.DataFrame:
    """Text that a spreadsheet would run as a formula gets an apostrophe in front, which spreadsheets do not show.

    Only columns that are text or bytes in `schema`, the batch's: a negative number is no formula.
    """
    text = pl.col([field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_binary(field.type)])
    return frame.with_columns(pl.when(text.str.contains(_FORMULA)).then("'" + text).otherwise(text).name.keep())


def _text(column: Any) -> Any:
    return _time_text(column) if column.type == _TIME else column


def _time_text(column: Any) -> Any:
    """Arrow's text of a time without a zone has always 26 bytes: only the T and the Z are missing."""
    naive = column.cast(pa.timestamp("us"))
    if column.null_count:
        naive = naive.fill_null(0)
    texts = naive.cast(pa.string())
    size, start = len(texts), texts.offset
    buffers: list[Any] = texts.buffers()
    _, offsets, data = buffers
    first = np.frombuffer(offsets, np.int32, count=1, offset=4 * start)[0] if size else 0
    cells = np.empty((size, _TIME_BYTES + 1), np.uint8)
    cells[:, :_TIME_BYTES] = np.frombuffer(data, np.uint8, count=size * _TIME_BYTES, offset=first).reshape(size, -1)
    cells[:, 10] = ord("T")
    cells[:, _TIME_BYTES] = ord("Z")
    ends = np.arange(size + 1, dtype=np.int32) * (_TIME_BYTES + 1)
    parts: list[Any] = [ends, cells]
    found = pa.Array.from_buffers(pa.string(), size, [None, *map(pa.py_buffer, parts)])
    return pc.if_else(column.is_valid(), found, None) if column.null_count else found
