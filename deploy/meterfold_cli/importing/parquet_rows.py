"""Rows of a Parquet file, a slice at a time, as the values that the SDK takes: text, int, Decimal, datetime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.rows import BadRow, Row
from meterfold_cli.importing.timestamps import DATE, ISO, UNIX, Zone, from_day, from_epoch, text_reader

SLICE_ROWS = 8192
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class ParquetRows:
    """One Parquet file."""

    what = "row"

    def __init__(self, path: Path) -> None:
        """Raises WrongInput for a file that is not Parquet."""
        try:
            self._file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise WrongInput(f"{path} cannot be read: no such file") from None
        except (OSError, pa.ArrowException) as error:
            raise WrongInput(f"{path} is not a valid Parquet file: {error}") from None
        self._path = path
        self._schema = self._file.schema_arrow
        self.columns = tuple(self._schema.names)
        self.total: int | None = self._file.metadata.num_rows
        self._done = 0
        self._wanted: Sequence[str] = self.columns
        self._slice: pa.RecordBatch | None = None
        self._slice_first = 1

    @property
    def position(self) -> int:
        """Rows read so far."""
        return self._done

    @property
    def schema(self) -> pa.Schema:
        """Of the columns in use."""
        return pa.schema([self._schema.field(name) for name in self._wanted])

    def original(self, line: int) -> pa.RecordBatch:
        """The row of that number as the file has it; only for the slice that is being read."""
        if self._slice is None:
            raise LookupError(f"no slice with row {line} was read")
        # `take` copies one row, where a slice would keep its whole batch in memory.
        return self._slice.take(pa.array([line - self._slice_first]))

    def timestamp_reader(self, zone: Zone, time_format: str = ISO) -> Callable[[str], Callable[[Any], Any]]:
        """For a column, what makes a datetime of its values. Raises WrongInput for a type that is no time."""

        def reader(column: str) -> Callable[[Any], Any]:
            kind = self._schema.field(column).type
            where = f"{self._path}: the column {column!r} is {kind}"
            if _is_text(kind):
                return text_reader(time_format, zone)
            if pa.types.is_integer(kind):
                if time_format not in UNIX:
                    raise WrongInput(f"{where}; give its unit: --time-format {', '.join(UNIX)}")
                return from_epoch(UNIX[time_format], None, local=False)
            if pa.types.is_date(kind):
                if time_format != DATE or zone is None:
                    raise WrongInput(f"{where}; use --time-format date and --timezone")
                return lambda day: from_day(day, zone)
            if not pa.types.is_timestamp(kind):
                raise WrongInput(f"{where}; it must be a timestamp, an integer or text")
            if time_format != ISO:
                raise WrongInput(f"{where}, which needs no --time-format; remove --time-format {time_format}")
            if kind.tz is None and zone is None:
                raise WrongInput(
                    f"{self._path}: the timestamps in {column!r} have no time zone; "
                    "give it with --timezone, such as UTC"
                )
            return from_epoch(_PER_SECOND[kind.unit], zone, local=kind.tz is None)

        return reader

    def text_reader(self, column: str) -> Callable[[Any], Any] | None:
        """Ids are numbers in many files; other types have no one text form."""
        kind = self._schema.field(column).type
        if pa.types.is_integer(kind):
            return str
        if _is_text(kind):
            return None
        raise WrongInput(f"{self._path}: the column {column!r} is {kind}; it must be text or an integer")

    def metadata_reader(self, column: str) -> Callable[[Any], Any] | None:
        """None for text, which is JSON already; maps and structs are read as objects."""
        kind = self._schema.field(column).type
        if _is_text(kind):
            return None
        if pa.types.is_map(kind) or pa.types.is_struct(kind):
            return lambda value: value
        raise WrongInput(
            f"{self._path}: the column {column!r} is {kind}; metadata must be JSON text, a map or a struct"
        )

    def use(self, columns: frozenset[str]) -> None:
        """Read only these; the others come as None."""
        self._wanted = [column for column in self.columns if column in columns]

    def rows(self) -> Iterator[Row | BadRow]:
        """Raises WrongInput when the file turns out to be damaged on the way."""
        slices = self._file.iter_batches(batch_size=SLICE_ROWS, columns=list(self._wanted))
        while True:
            try:
                part = next(slices, None)
            except (OSError, pa.ArrowException) as error:
                raise WrongInput(f"{self._path} is damaged after row {self._done}: {error}") from None
            if part is None:
                return
            values = {name: _values(part.column(name)) for name in self._wanted}
            nothing = [None] * part.num_rows
            self._slice, self._slice_first = part, self._done + 1
            self._done += part.num_rows
            for number, row in enumerate(zip(*(values.get(name, nothing) for name in self.columns), strict=True)):
                yield Row(self._slice_first + number, row)

    def close(self) -> None:
        self._file.close()


def _values(column: pa.Array[Any]) -> list[Any]:
    """Timestamps as integers: a datetime has no nanoseconds, and one that is out of range would spoil its slice."""
    return (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
