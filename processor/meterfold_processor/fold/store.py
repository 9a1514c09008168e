"""What the fold reads back of one partition. ClickHouse answers in production, a model in the simulation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from meterfold_processor.fold.compact import Piece, Version
from meterfold_processor.fold.remembered import Span
from meterfold_schemas.keys import Name
from meterfold_schemas.periods import Period

UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]

FIRST_NAME: Final[Name] = ("", "", "", "")


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a partition's fold. `next_offset` is the next to read; `last_stamp` (UTC microseconds) is the
    broker's stamp of the last event read, None before the first."""

    partition: int
    next_offset: int
    log_start: int
    counted: int
    duplicates: int
    rejected: int
    last_stamp: int | None


@dataclass(frozen=True, slots=True)
class Rests:
    """The last 32 bits of the hashes of one piece of a table, with the checksum that was stored beside them."""

    version: Version
    number: int
    rests: UInt32s
    checksum: int


class IdentityHistory(Protocol):
    """What was counted in one partition, and the tables of it that were stored; each may raise Retryable and is then
    repeated from outside. Spans are broker stamps in UTC microseconds."""

    def find_records(self, hashes: UInt64s, spans: list[Span]) -> pl.DataFrame:
        """Counted records with these identity hashes that arrived in one of the spans, and perhaps others with these
        hashes: at least the columns of duplicates.COUNTED_SCHEMA."""

    def count_records(self, span: Span) -> int:
        """How many counted records arrived in the span, to within a percent; 0 only if there are none."""

    def load_hashes(self, span: Span, lowest: int, highest: int) -> UInt64s:
        """The hashes from `lowest` to `highest`, both included, of all that was counted in the span; in any order and
        possibly repeated."""

    def load_identities(self, span: Span, from_offset: int) -> tuple[UInt64s, npt.NDArray[np.int64]]:
        """Hashes and stamps of all that was counted in the span at this offset or later."""

    def table_versions(self) -> list[Version]:
        """The tables that are stored with all their pieces."""

    def load_pieces(self, version: Version, first: int, end: int) -> list[tuple[Piece, int]]:
        """The pieces [first, end) of a table, without `rests`, in order, each with its stored checksum; those that were
        lost are left out."""

    def load_rests(self, wanted: list[tuple[Version, int]]) -> list[Rests]:
        """The rests of these pieces, in any order; those that were lost are left out."""

    def save_pieces(self, version: Version, pieces: list[Piece]) -> None:
        """Store some pieces of a table; harmless when repeated."""


class WindowHistory(Protocol):
    """The stored windows of one partition; each read may raise Retryable and is then repeated from outside."""

    def load_windows(self, period: Period, starts: npt.NDArray[np.int64]) -> pl.DataFrame:
        """Every stored window of the period that begins at one of `starts`: the newest version of each row, with the
        columns of tables.WINDOWS."""

    def count_windows(self, period: Period, starts: list[int]) -> dict[int, int]:
        """How many windows of the period are stored that begin at each of `starts` (UTC microseconds), or some more;
        nothing where there is none."""

    def find_windows(self, period: Period, wanted: pl.DataFrame, low: Name) -> pl.DataFrame:
        """The stored windows of the period among `wanted` (`start` in UTC microseconds, `key`, and the four columns of
        the subject), as `load_windows` gives them. No name in `wanted` comes before `low`. Perhaps also others, but
        each once."""

    def names_apart(self, period: Period, start: int, size: int) -> list[Name]:
        """Names in ascending order, about one in `size` of those of the windows that begin at `start`: the first parts
        of a bucket end before them."""

    def load_part(self, period: Period, start: int, low: Name, high: Name | None) -> Iterator[pl.DataFrame]:
        """Every stored window of the period that begins at `start` and whose name is `low` or comes after it, and comes
        before `high` (None: no end), as `load_windows` gives them, some ten thousand at a time."""


class History(IdentityHistory, WindowHistory, Protocol):
    """All that the fold reads back of one partition."""
