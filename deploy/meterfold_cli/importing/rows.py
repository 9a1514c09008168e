"""One row of a file, and what every kind of file offers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Row:
    """`line` is the number of its first line (CSV, from 1) or of the row (Parquet, from 1)."""

    line: int
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not even be read as one, with what there is of it."""

    line: int
    values: Sequence[Any]
    reason: str


class Rows(Protocol):
    """A file that is read once, from its beginning to its end."""

    columns: tuple[str, ...]
    what: str
    """What `line` counts."""
    total: int | None
    """Units of `position` in all, if that is known."""

    @property
    def position(self) -> int: ...

    def rows(self) -> Iterator[Row | BadRow]: ...

    def close(self) -> None: ...
