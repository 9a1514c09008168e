"""The file that is imported: opened twice, once to check it and once to send it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfileobj
from typing import Any, Final, Self

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.csv_rows import CsvRows
from meterfold_cli.importing.parquet_rows import ParquetRows
from meterfold_cli.importing.plan import FIELDS, Options, Plan, Reader, make_plan
from meterfold_cli.importing.rejects import Rejects, rejects_for
from meterfold_cli.importing.timestamps import ISO, Zone, text_reader
from meterfold_schemas import usage_fields
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.usage import UsageRecorded

__all__ = ["Form", "Source"]

_STDIN: Final = Path("-")
_PARQUET: Final = (".parquet", ".pq")
_TEXT: Final = (".csv", ".tsv", ".txt")
_TEXT_FIELDS: Final = tuple(field.name for field in usage_fields.TEXTS)


@dataclass(frozen=True, slots=True)
class Form:
    """How the cells of a file are written. `delimiter` None: what its name says."""

    delimiter: str | None = None
    time_format: str = ISO
    zone: Zone = None


class Source:
    """A CSV or Parquet file, or standard input, which is copied into a temporary file since it can be read only once.

    A context manager. Every method raises WrongInput for what the user has to correct.
    """

    def __init__(self, file: Path, options: Options, form: Form) -> None:
        self.name = "standard input" if file == _STDIN else str(file)
        self._file = file
        self._form = form
        self._spool: Any = None
        self._rows: CsvRows | ParquetRows | None = None
        self._seen: tuple[int, int] | None = None
        kind = file.suffix.lower()
        if file != _STDIN and kind not in (*_PARQUET, *_TEXT):
            raise WrongInput(f"{file}: not a kind of file that can be imported; give .csv, .tsv or .parquet")
        self._options = replace(options, fixed=_checked(options.fixed, form))

    def open(self) -> tuple[CsvRows | ParquetRows, Plan]:
        """From its beginning. A file that differs from the first time is an error.

        The rows of an earlier call are closed; those of the last call are closed together with the source.
        """
        self._close_rows()
        path = self._path()
        rows = self._rows = self._parquet(path) if path.suffix.lower() in _PARQUET else self._csv(path)
        plan = self._plan(rows)
        stat = path.stat()
        if self._seen not in (None, (stat.st_size, stat.st_mtime_ns)):
            raise WrongInput(f"{self.name} changed while it was being read; nothing was sent. Import it again")
        self._seen = stat.st_size, stat.st_mtime_ns
        return rows, plan

    def rejects(self, rows: CsvRows | ParquetRows, wanted: Path | None) -> Rejects:
        """Where refused rows go: `wanted`, or FILE.rejects with the suffix of the file."""
        stdin = self._file == _STDIN
        default = "stdin.rejects.csv" if stdin else f"{self._file}.rejects{self._file.suffix.lower()}"
        return rejects_for(rows, wanted or Path(default))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_rows()
        if self._spool is not None:
            self._spool.close()

    def _path(self) -> Path:
        if self._file != _STDIN:
            return self._file
        if self._spool is None:
            self._spool = tempfile.NamedTemporaryFile(prefix="meterfold-import-", suffix=".csv")  # noqa: SIM115
            copyfileobj(sys.stdin.buffer, self._spool, 1 << 20)
            self._spool.flush()
        return Path(self._spool.name)

    def _csv(self, path: Path) -> CsvRows:
        return CsvRows(path, self._form.delimiter, self.name)

    def _parquet(self, path: Path) -> ParquetRows:
        if self._form.delimiter is not None:
            raise WrongInput(f"--delimiter applies to CSV only, and {self.name} is Parquet")
        return ParquetRows(path)

    def _plan(self, rows: CsvRows | ParquetRows) -> Plan:
        form = self._form
        readers: dict[str, Callable[[str], Reader | None]]
        if isinstance(rows, CsvRows):
            read_time = text_reader(form.time_format, form.zone)
            return make_plan(rows.columns, self._options, {"timestamp": lambda _: read_time})
        readers = {
            **dict.fromkeys(_TEXT_FIELDS, rows.text_reader),
            "timestamp": rows.timestamp_reader(form.zone, form.time_format),
        }
        plan = make_plan(rows.columns, self._options, readers)
        rows.use(plan.used)
        return plan

    def _close_rows(self) -> None:
        if self._rows is not None:
            self._rows.close()
            self._rows = None


def _checked(fixed: Mapping[str, Any], form: Form) -> dict[str, Any]:
    """The values of --set, checked once instead of once per row."""
    values = dict(fixed)
    good = {
        "id": "id",
        "metric_key": "m",
        "subject_type": "t",
        "subject_id": "s",
        "quantity": 1,
        "timestamp": datetime.now(UTC),
    }
    try:
        if "timestamp" in values:
            values["timestamp"] = text_reader(form.time_format, form.zone)(values["timestamp"])
        UsageRecorded.of({**good, **{name: value for name, value in values.items() if name in FIELDS}})
    except InvalidUsage as error:
        raise WrongInput(f"--set: {error}") from None
    return values
