"""Rows of JSON: one object per line (JSON Lines), or a document with lists of objects.

A name with dots reads a nested value. Numbers keep their digits. JSON Lines are read in constant memory; a document is
read as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.amounts import ExactFloat
from meterfold_cli.importing.file_kinds import open_bytes
from meterfold_cli.importing.rows import BadRow, Row
from meterfold_cli.importing.timestamps import Zone, text_reader
from meterfold_schemas.errors import InvalidUsage, shown

__all__ = ["JsonRows"]

#: Rows that are looked at for the names of columns.
_SAMPLE: Final = 1000
_LINE_LIMIT: Final = 16 << 20
_DOCUMENT_LIMIT: Final = 512 << 20
_MISSING: Final = object()


class JsonRows:
    """One file. `records` is the path of the lists that have the rows, such as "data.results": what is beside a
    list, such as the time of a bucket, belongs to each of its rows."""

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        lines: bool,
        records: str = "",
        named: Iterable[str] = (),
        possible: Iterable[str] = (),
        strict: bool = False,
        skipped: frozenset[str] = frozenset(),
    ) -> None:
        """`named`: the columns that are wanted; those with dots are nested. `possible`: columns that any row may have,
        also where the first 1,000 rows do not. `strict`: a row with a name that the first
        1,000 rows do not have is refused; `skipped` are names that never are. Raises WrongInput."""
        self._path = path
        self._name = name
        self._lines = lines
        self._records = [part for part in records.split(".") if part]
        self._strict = strict
        self.what = "line" if lines and not self._records else "row"
        self.total: int | None = path.stat().st_size
        self._file, self._tell = open_bytes(path, name)
        try:
            self.columns = self._sample(named, possible)
        except BaseException:
            self.close()
            raise
        self._getters = [(column, column.split(".") if "." in column else None) for column in self.columns]
        self._known = frozenset(self.columns) | {column.split(".")[0] for column in self.columns} | skipped
        self._last: Any = None

    @property
    def position(self) -> int:
        """Bytes of the file read so far, of `total`."""
        return self._tell()

    def rows(self) -> Iterator[Row | BadRow]:
        """Raises WrongInput for a file that cannot be read from some row on."""
        for line, found in self._objects():
            self._last = found
            if not isinstance(found, dict):
                yield BadRow(line, [], found.reason if isinstance(found, _Unreadable) else "not a JSON object")
                continue
            if self._strict and not (found.keys() <= self._known):
                extra = ", ".join(sorted(map(repr, found.keys() - self._known)))
                yield BadRow(line, [], f"unknown name {extra}: map it with --map, or use --ignore-others")
                continue
            yield Row(
                line,
                [
                    found.get(name) if path is None or name in found else _nested(found, path)
                    for name, path in self._getters
                ],
            )

    def original(self) -> dict[str, Any]:
        """The row that was read last; what is not an object has the name "text"."""
        return self._last if isinstance(self._last, dict) else {"text": self._last}

    def timestamp_reader(self, zone: Zone, time_format: str) -> Any:
        """For a column, what makes a datetime of its values."""
        read = text_reader(time_format, zone)

        def value(cell: Any) -> Any:
            if isinstance(cell, bool) or not isinstance(cell, str | int | float):
                raise InvalidUsage(f"timestamp {shown(cell)} is not text or a number")
            return read(cell if isinstance(cell, str) else str(cell))

        return lambda _: value

    def text_reader(self, column: str) -> Any:
        """Ids are numbers in many files; other types have no one text form."""

        def value(cell: Any) -> str:
            if isinstance(cell, str):
                return cell
            if isinstance(cell, int) and not isinstance(cell, bool):
                return str(cell)
            raise InvalidUsage(f"column {column!r}: {shown(cell)} must be text or an integer")

        return value

    def quantity_reader(self, column: str) -> Any:
        """A number by the digits that the file has."""
        return _digits

    def close(self) -> None:
        self._file.close()

    def _sample(self, named: Iterable[str], possible: Iterable[str]) -> tuple[str, ...]:
        """The names in the first rows, and the wanted ones that they have or that are nested in them."""
        names: dict[str, None] = {}
        objects = []
        for _, found in self._objects():
            if isinstance(found, dict):
                names.update(dict.fromkeys(found))
                objects.append(found)
            if len(objects) >= _SAMPLE:
                break
        self._file.close()
        self._file, self._tell = open_bytes(self._path, self._name)
        if not objects:
            where = f" at {'.'.join(self._records)!r}" if self._records else ""
            raise WrongInput(f"{self._name} has no JSON objects{where}; each row must be one")
        wanted = [name for name in named if name not in names and "." in name]
        nested = [name for name in wanted if any(_nested(found, name.split(".")) is not None for found in objects)]
        return (*names, *sorted({*nested, *possible} - names.keys()))

    def _objects(self) -> Iterator[tuple[int, Any]]:
        if self._lines and not self._records:
            yield from self._documents()
            return
        number = 0
        for _, document in self._documents() if self._lines else self._document():
            for found in _at(document, self._records):
                number += 1
                yield number, found

    def _documents(self) -> Iterator[tuple[int, Any]]:
        """(line, its value)."""
        number = 0
        while True:
            try:
                line = self._file.readline(_LINE_LIMIT)
            except OSError as error:
                raise WrongInput(f"{self._name} is damaged after line {number}: {error}") from None
            if not line:
                return
            number += 1
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, _parsed(line)

    def _document(self) -> Iterator[tuple[int, Any]]:
        try:
            text = self._file.read(_DOCUMENT_LIMIT + 1)
        except OSError as error:
            raise WrongInput(f"{self._name} is damaged: {error}") from None
        if len(text) > _DOCUMENT_LIMIT:
            raise WrongInput(
                f"{self._name} is one JSON document of more than {_DOCUMENT_LIMIT >> 20} MiB; convert it to JSON "
                "Lines, for example with `jq -c '.[]'`"
            )
        found = _parsed(text.removeprefix(b"\xef\xbb\xbf"))
        if isinstance(found, _Unreadable):
            raise WrongInput(f"{self._name} is {found.reason}")
        yield 1, found


class _Unreadable(str):
    """Text that is not JSON."""

    __slots__ = ("reason",)
    reason: str


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text, parse_float=ExactFloat, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        bad = _Unreadable(text.decode("utf-8", "replace").rstrip("\r\n"))
        bad.reason = f"not valid JSON: {error}"
        return bad


def _digits(cell: Any) -> Any:
    return cell.text if type(cell) is ExactFloat else cell


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _at(document: Any, path: list[str]) -> Iterator[Any]:
    """The rows of a document. A list is its elements; a step of the path goes into one list and leaves the other
    values beside it to every row. What has no such list is a row itself: a corrected row of a rejects file."""
    if isinstance(document, list):
        for element in document:
            yield from _at(element, path)
    elif path and isinstance(document, dict) and path[0] in document:
        beside = {name: value for name, value in document.items() if not isinstance(value, dict | list)}
        for found in _at(document[path[0]], path[1:]):
            yield {**beside, **found} if isinstance(found, dict) else found
    else:
        yield document


def _nested(found: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found
