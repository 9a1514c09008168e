"""Rows of a CSV file with their line numbers, in constant memory. An invalid row does not affect its neighbours.

Python's reader, not a columnar one: it keeps every cell as the text in the file, knows the line of each row and judges
rows one by one.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.rows import BadRow, Row
from meterfold_cli.importing.text_files import CONVERT, open_text
from meterfold_schemas.plurals import plural

#: Characters of one cell. Metadata, the largest there is, may have 16 KiB.
CELL_LIMIT = 131_072
_LINE_LIMIT = 1 << 20
#: A delimiter -> how to write it on a command line.
_DELIMITERS: Final = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}


class CsvRows:
    """One CSV file. The first row is the header."""

    what = "line"

    def __init__(self, path: Path, delimiter: str | None = None, name: str | None = None) -> None:
        """`delimiter` None: a tab for .tsv, else a comma, and a header that looks separated otherwise is an error.

        `name` is what messages call the file. Raises WrongInput for a file that can't be read or has no header.
        """
        self._name = name or str(path)
        self.delimiter = delimiter or ("\t" if "tsv" in path.name.lower().split(".")[-2:] else ",")
        self._file, self._tell = open_text(path, self._name)
        self.total: int | None = path.stat().st_size
        self._lines = _Lines(self._file, self._name)
        try:
            self.columns = self._header()
            if delimiter is None:
                self._check_delimiter()
        except BaseException:
            self.close()
            raise

    @property
    def position(self) -> int:
        """Bytes of the file read so far, of `total`."""
        return self._tell()

    def rows(self) -> Iterator[Row | BadRow]:
        """Raises WrongInput for a file that cannot be decoded from some line on (UTF-16 and UTF-32 only)."""
        width = len(self.columns)
        for row in self._parse():
            if isinstance(row, Row) and len(row.values) != width:
                # A quote that was never closed may have swallowed its neighbours: they are read again, one by one.
                self._lines.take_back()
                yield BadRow(row.line, row.values, f"{len(row.values)} cells where the header has {width}")
            else:
                yield row

    def close(self) -> None:
        self._file.close()

    def _header(self) -> tuple[str, ...]:
        header = next(self._parse(), None)
        if header is None:
            raise WrongInput(f"{self._name} is empty; the first line must contain the column names")
        if isinstance(header, BadRow):
            raise WrongInput(f"{self._name}, line {header.line}: {header.reason}")
        columns = tuple(name.strip() for name in header.values)
        if any("\udc80" <= character <= "\udcff" for character in "".join(columns)):
            raise WrongInput(f"{self._name}: the header is not valid UTF-8; {CONVERT}")
        return columns

    def _check_delimiter(self) -> None:
        text = self.delimiter.join(self.columns)
        width = {one: text.count(one) for one in _DELIMITERS}
        best = max(width, key=lambda one: width[one])
        if width[best] > width[self.delimiter]:
            found = plural(len(self.columns), "column")
            raise WrongInput(
                f"{self._name}: the header has {found} ({text!r}) and seems to be separated by {_DELIMITERS[best]}. "
                f"Use --delimiter {_DELIMITERS[best]}, or --delimiter {_DELIMITERS[self.delimiter]} to keep it"
            )

    def _parse(self) -> Iterator[Row | BadRow]:
        csv.field_size_limit(CELL_LIMIT)
        lines = self._lines
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
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
                reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
                yield BadRow(line, [text], f"invalid CSV: {error}")
                continue
            if values:
                yield Row(lines.first, values)


class _Lines:
    """The lines of the file, with the numbers of those that the present row is made of."""

    def __init__(self, file: IO[str], name: str) -> None:
        self._file = file
        self._name = name
        self._again: deque[str] = deque()
        self._next = 1
        self.first = 1
        self.row: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
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

    def _read(self) -> str:
        try:
            return self._file.readline(_LINE_LIMIT)
        except UnicodeDecodeError as error:
            raise WrongInput(
                f"{self._name}: after line {self._next - 1} it is not valid {error.encoding.upper()}: {error.reason}"
            ) from None
        except OSError as error:
            raise WrongInput(f"{self._name} is damaged after line {self._next - 1}: {error}") from None
