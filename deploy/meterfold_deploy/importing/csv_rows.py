"""Rows of a CSV file with their line numbers, in constant memory; a broken row never takes a neighbour along.

Python's reader, not a columnar one: it keeps every cell as the text that stands there, knows the line of each row and
judges rows one by one.
"""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from meterfold_deploy.exits import WrongInput
from meterfold_deploy.importing.rows import BadRow, Row

#: Characters of one cell. Metadata, the largest there is, may have 16 KiB.
CELL_LIMIT = 131_072
_LINE_LIMIT = 1 << 20


class CsvRows:
    """One CSV file, or standard input as `-`. The first row is the header."""

    what = "line"

    def __init__(self, path: Path, delimiter: str = ",") -> None:
        """Raises WrongInput for a file that can't be read or has no header."""
        self._delimiter = delimiter
        self._file = _open(path)
        # Nobody knows how long standard input is.
        self.total = None if str(path) == "-" else path.stat().st_size
        self._lines = _Lines(self._file)
        header = next(self._parse(), None)
        if header is None:
            raise WrongInput(f"{path} is empty; its first line has to name the columns")
        if isinstance(header, BadRow):
            raise WrongInput(f"{path}, line {header.line}: {header.reason}")
        self.columns = tuple(name.strip() for name in header.values)

    @property
    def position(self) -> int:
        """Bytes read so far, of `total`."""
        return self._file.buffer.tell() if self.total is not None else 0  # type: ignore[attr-defined]

    def rows(self) -> Iterator[Row | BadRow]:
        width = len(self.columns)
        for row in self._parse():
            if isinstance(row, Row) and len(row.values) != width:
                # A quote that was never closed may have swallowed its neighbours: they are read again, one by one.
                self._lines.take_back()
                yield BadRow(row.line, row.values, f"{len(row.values)} cells where the header has {width}")
            else:
                yield row

    def close(self) -> None:
        if self._file is not sys.stdin:
            self._file.close()

    def _parse(self) -> Iterator[Row | BadRow]:
        csv.field_size_limit(CELL_LIMIT)
        lines = self._lines
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            lines.begin_row()
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                text = lines.row[0].rstrip("\r\n")
                line = lines.first
                lines.take_back()
                reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
                yield BadRow(line, [text], f"not CSV: {error}")
                continue
            if values:
                yield Row(lines.first, values)


class _Lines:
    """The lines of the file, with the numbers of those that the present row is made of."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self._next = 1
        self.first = 1
        self.row: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._file.readline(_LINE_LIMIT)
        if not line:
            raise StopIteration
        self.row.append(line)
        self._next += 1
        return line

    def begin_row(self) -> None:
        self.first = self._next
        self.row = []

    def take_back(self) -> None:
        """Give all lines of the row but its first once more."""
        self._again.extendleft(reversed(self.row[1:]))
        self._next = self.first + 1
        del self.row[1:]


def _open(path: Path) -> IO[str]:
    # Bytes that are no UTF-8 come as lone surrogates, which the rules of an event refuse: one bad row, not a bad file.
    if str(path) == "-":
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline="")  # type: ignore[union-attr]
        return sys.stdin
    try:
        return path.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise WrongInput(f"{path} cannot be read: {error.strerror}") from None
