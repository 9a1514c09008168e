"""The rejects file: every row that was refused, with its line and the reason, ready to be corrected and imported."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from meterfold_deploy.console import plain
from meterfold_deploy.importing.plan import REJECTED_LINE, REJECTED_REASON


class Rejects:
    """A CSV file that is made with the first rejected row: line, reason, then the columns of the original.

    A file that is there already is never overwritten, somebody may be correcting it: the next free name is taken.
    """

    def __init__(self, wanted: Path, columns: Sequence[str]) -> None:
        self._wanted = wanted
        self._kept = [i for i, name in enumerate(columns) if name not in (REJECTED_LINE, REJECTED_REASON)]
        self._width = len(columns)
        self._columns = [columns[i] for i in self._kept]
        self._file: IO[str] | None = None
        self.path: Path | None = None
        self.count = 0

    def add(self, line: int, reason: str, values: Sequence[Any]) -> None:
        if self._file is None:
            self._file = self._create()
            self._writer = csv.writer(self._file)
            self._writer.writerow([REJECTED_LINE, REJECTED_REASON, *self._columns])
        self.count += 1
        # A row of another width has no columns to choose from: what there is of it is kept as it stands.
        cells = [values[i] for i in self._kept] if len(values) == self._width else values
        self._writer.writerow([line, reason, *map(_cell, cells)])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _create(self) -> IO[str]:
        number = 1
        while True:
            path = self._wanted if number == 1 else self._wanted.with_suffix(f".{number}{self._wanted.suffix}")
            try:
                file = path.open("x", encoding="utf-8", errors="surrogateescape", newline="")
            except FileExistsError:
                number += 1
                continue
            self.path = path
            return file


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return json.dumps(plain(value)) if isinstance(value, Mapping) else str(plain(value))
