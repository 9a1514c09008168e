"""The rejects file: every row that was refused, with its line and the reason, ready to be corrected and imported.

It is the kind of file that the rows came from: CSV with the same delimiter, JSON Lines, or Parquet with the same
columns and types. So the command that imported the original imports it as it is, to the digit.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.amounts import ExactFloat
from meterfold_cli.importing.csv_rows import CsvRows
from meterfold_cli.importing.json_rows import JsonRows
from meterfold_cli.importing.parquet_rows import ParquetRows
from meterfold_cli.importing.plan import REJECTED_LINE, REJECTED_REASON

_SLICE_ROWS = 8192


class Rejects(Protocol):
    """A file that is created with the first rejected row and never overwrites an existing one."""

    path: Path | None
    count: int

    def add(self, line: int, reason: str, values: Sequence[Any]) -> None:
        """The row that was read last."""
        ...

    def close(self) -> None: ...


class CsvRejects:
    """Line, reason, then the columns of the original. `values` are the texts of its cells."""

    def __init__(self, wanted: Path, columns: Sequence[str], delimiter: str = ",") -> None:
        self._wanted = wanted
        self._delimiter = delimiter
        self._kept = [i for i, name in enumerate(columns) if name not in (REJECTED_LINE, REJECTED_REASON)]
        self._width = len(columns)
        self._columns = [columns[i] for i in self._kept]
        self._file: IO[str] | None = None
        self.path: Path | None = None
        self.count = 0

    def add(self, line: int, reason: str, values: Sequence[Any]) -> None:
        if self._file is None:
            self.path = _free(self._wanted)
            self._file = self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
            self._writer = csv.writer(self._file, delimiter=self._delimiter)
            self._writer.writerow([REJECTED_LINE, REJECTED_REASON, *self._columns])
        self.count += 1
        # A row of another width has no columns to choose from: what there is of it is kept as it is.
        cells = [values[i] for i in self._kept] if len(values) == self._width else values
        self._writer.writerow([line, reason, *cells])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class ParquetRejects:
    """Line, reason, then the columns of the original that the import reads, in their own types."""

    def __init__(self, wanted: Path, rows: ParquetRows) -> None:
        self._wanted = wanted
        self._rows = rows
        self._kept = [name for name in rows.schema.names if name not in (REJECTED_LINE, REJECTED_REASON)]
        fields: list[pa.Field[Any]] = [
            pa.field(REJECTED_LINE, pa.int64()),
            pa.field(REJECTED_REASON, pa.string()),
            *(rows.schema.field(name) for name in self._kept),
        ]
        self._schema = pa.schema(fields)
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self.path: Path | None = None
        self.count = 0

    def add(self, line: int, reason: str, values: Sequence[Any]) -> None:
        if self._writer is None:
            self.path = _free(self._wanted)
            self._writer = pq.ParquetWriter(self.path, self._schema)
        self.count += 1
        row = self._rows.original(line)
        own: list[pa.Array[Any]] = [pa.array([line]), pa.array([reason])]
        cells = [*own, *(row.column(name) for name in self._kept)]
        self._waiting.append(pa.RecordBatch.from_arrays(cells, schema=self._schema))
        if len(self._waiting) == _SLICE_ROWS:
            self._flush()

    def close(self) -> None:
        if self._writer is not None:
            self._flush()
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        if self._writer is not None and self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
            self._waiting.clear()


class JsonRejects:
    """One object per line: line and reason, then the names of the original."""

    def __init__(self, wanted: Path, rows: JsonRows) -> None:
        self._wanted = wanted
        self._rows = rows
        self._file: IO[str] | None = None
        self.path: Path | None = None
        self.count = 0

    def add(self, line: int, reason: str, values: Sequence[Any]) -> None:
        if self._file is None:
            self.path = _free(self._wanted)
            self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace")
        self.count += 1
        original = {**self._rows.original(), REJECTED_LINE: None, REJECTED_REASON: None}
        del original[REJECTED_LINE], original[REJECTED_REASON]
        self._file.write(json_text({REJECTED_LINE: line, REJECTED_REASON: reason, **original}) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def json_text(value: Any) -> str:
    """JSON with every digit of its numbers."""
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{json_text(of)}" for name, of in value.items())
            + "}"
        )
    if isinstance(value, list):
        return f"[{','.join(map(json_text, value))}]"
    return value.text if isinstance(value, ExactFloat) else json.dumps(value, ensure_ascii=False)


def rejects_for(rows: CsvRows | ParquetRows | JsonRows, wanted: Path) -> Rejects:
    """Raises WrongInput if the suffix is that of another format."""
    if isinstance(rows, JsonRows):
        if wanted.suffix.lower() not in (".jsonl", ".ndjson"):
            raise WrongInput(f"--rejects {wanted}: the rejects file of a JSON file must end with .jsonl")
        return JsonRejects(wanted, rows)
    is_parquet = wanted.suffix.lower() in (".parquet", ".pq")
    if isinstance(rows, ParquetRows):
        if not is_parquet:
            raise WrongInput(f"--rejects {wanted}: the rejects file of a Parquet file must end with .parquet")
        return ParquetRejects(wanted, rows)
    if is_parquet:
        raise WrongInput(f"--rejects {wanted}: the rejects file of a CSV file must end with .csv or .tsv")
    return CsvRejects(wanted, rows.columns, rows.delimiter)


def _free(wanted: Path) -> Path:
    """An empty file of this name or, where there is one (somebody may be correcting it), of the next free name."""
    for number in count(1):
        path = wanted if number == 1 else wanted.with_suffix(f".{number}{wanted.suffix}")
        try:
            path.open("x").close()
        except FileExistsError:
            continue
        except OSError as error:
            raise WrongInput(f"the rejects file {path} cannot be written: {error.strerror}") from None
        return path
    raise AssertionError("unreachable")
