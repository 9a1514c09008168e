"""The file that is imported: opened twice, once to check it and once to send it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfileobj
from typing import Any, Final, Self

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing import mapping as model
from meterfold_cli.importing.csv_rows import CsvRows
from meterfold_cli.importing.file_kinds import FileKind, kind_of
from meterfold_cli.importing.json_rows import JsonRows
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.parquet_rows import ParquetRows
from meterfold_cli.importing.plan import REJECTED_LINE, REJECTED_REASON, Plan, cell_text
from meterfold_cli.importing.planning import ReaderMaker, make_plan
from meterfold_cli.importing.rejects import Rejects, rejects_for
from meterfold_cli.importing.resolving import FIELDS, resolve
from meterfold_cli.importing.timestamps import Zone, remembering, text_reader, zone_named
from meterfold_schemas import usage_fields
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.usage import UsageRecorded

__all__ = ["FileRows", "Form", "Source"]

FileRows = CsvRows | ParquetRows | JsonRows

_STDIN: Final = Path("-")
_TEXT_FIELDS: Final = tuple(field.name for field in usage_fields.TEXTS)


@dataclass(frozen=True, slots=True)
class Form:
    """How the cells of a file are written. `delimiter` None: what its name says. `time_format` and `zone` None: what
    the mapping says."""

    delimiter: str | None = None
    time_format: str | None = None
    zone: Zone = None


class Source:
    """A file, or standard input, which is copied into a temporary file since it can be read only once.

    A context manager. Every method raises WrongInput for what the user has to correct.
    """

    def __init__(self, file: Path, options: Options, form: Form) -> None:
        self.name = "standard input" if file == _STDIN else str(file)
        self._file = file
        self._form = form
        self._spool: Any = None
        self._rows: FileRows | None = None
        self._seen: tuple[int, int] | None = None
        self._kind: FileKind | None = None
        self.mapping: model.Mapping | None = None
        """What the options and columns make together; known once the file was opened."""
        self._options = replace(
            options,
            time_format=options.time_format or form.time_format,
            timezone=options.timezone or (None if form.zone is None else str(form.zone)),
        )
        if file != _STDIN:
            self._kind = kind_of(file, self.name)

    def open(self) -> tuple[FileRows, Plan]:
        """From its beginning. A file that differs from the first time is an error.

        The rows of an earlier call are closed; those of the last call are closed together with the source.
        """
        self._close_rows()
        path = self.path()
        kind = self._kind = self._kind or kind_of(path, self.name, by_name=False)
        rows = self._rows = self._opened(path, kind)
        plan = self._plan(rows)
        stat = path.stat()
        if self._seen not in (None, (stat.st_size, stat.st_mtime_ns)):
            raise WrongInput(f"{self.name} changed while it was being read; nothing was sent. Import it again")
        self._seen = stat.st_size, stat.st_mtime_ns
        return rows, plan

    def path(self) -> Path:
        """Of the bytes."""
        if self._file != _STDIN:
            return self._file
        if self._spool is None:
            self._spool = tempfile.NamedTemporaryFile(prefix="meterfold-import-")  # noqa: SIM115
            copyfileobj(sys.stdin.buffer, self._spool, 1 << 20)
            self._spool.flush()
        return Path(self._spool.name)

    @property
    def resumable(self) -> bool:
        """Whether there is a file that can be read again later."""
        return self._file != _STDIN

    def rejects(self, rows: FileRows, wanted: Path | None) -> Rejects:
        """Where refused rows go: `wanted`, or FILE.rejects with the suffix of the format."""
        suffix = ".csv" if self._kind is None else self._kind.suffix
        if isinstance(rows, JsonRows):
            suffix = ".jsonl"
        name = "stdin" if self._file == _STDIN else str(self._file)
        return rejects_for(rows, wanted or Path(f"{name}.rejects{suffix}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_rows()
        if self._spool is not None:
            self._spool.close()

    def _opened(self, path: Path, kind: FileKind) -> FileRows:
        base = self._options.base
        delimiter = self._form.delimiter or (None if base is None else base.delimiter)
        if kind.format == "csv":
            return CsvRows(path, delimiter, self.name)
        if self._form.delimiter is not None:
            raise WrongInput(f"--delimiter applies to CSV only, and {self.name} is {kind.format}")
        if kind.format == "parquet":
            return ParquetRows(path)
        return JsonRows(
            path,
            self.name,
            lines=kind.format == "jsonl",
            records="" if base is None else base.records,
            named=self._options.columns,
            possible=() if base is None else base.optional_columns,
            strict=base is None and not self._options.ignore_others,
            skipped=frozenset((REJECTED_LINE, REJECTED_REASON)),
        )

    def _plan(self, rows: FileRows) -> Plan:
        mapping = self.mapping = resolve(rows.columns, self._options)
        time = mapping.timestamp
        zone = self._form.zone or zone_named(time.timezone)
        readers: dict[str, ReaderMaker] = {}
        if isinstance(rows, CsvRows):
            read_time = remembering(text_reader(time.format, zone))
            readers["timestamp"] = lambda _: read_time
        else:
            readers = {
                **dict.fromkeys(_TEXT_FIELDS, rows.text_reader),
                "timestamp": rows.timestamp_reader(zone, time.format),
                "metadata": rows.text_reader,
            }
            if isinstance(rows, ParquetRows):
                readers["metadata"] = rows.metadata_reader
            else:
                readers["quantity"] = rows.quantity_reader
        plan = make_plan(rows.columns, mapping, readers, self._options.base_name)
        if isinstance(rows, ParquetRows):
            rows.use(plan.used)
        if isinstance(rows, JsonRows):
            plan = replace(plan, id_text=cell_text)
        return replace(plan, fixed=self._checked(plan.fixed, time.format, zone))

    def _checked(self, fixed: Mapping[str, Any], time_format: str, zone: Zone) -> dict[str, Any]:
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
        label = "--set" if self._options.base is None else self._options.base_name
        try:
            if "timestamp" in values:
                values["timestamp"] = text_reader(time_format, zone)(values["timestamp"])
            UsageRecorded.of({**good, **{name: value for name, value in values.items() if name in FIELDS}})
        except InvalidUsage as error:
            raise WrongInput(f"{label}: {error}") from None
        return values

    def _close_rows(self) -> None:
        if self._rows is not None:
            self._rows.close()
            self._rows = None
