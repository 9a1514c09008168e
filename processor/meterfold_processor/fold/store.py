"""What the fold reads back of one partition. ClickHouse answers in production, a model in the simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from meterfold_schemas.periods import Period


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


class History(Protocol):
    """Reads of one partition; each may raise Retryable and is then repeated from outside."""

    def find_records(self, hashes: npt.NDArray[np.uint64]) -> pl.DataFrame:
        """Counted records with these identity hashes: at least the columns of duplicates.COUNTED_SCHEMA."""

    def load_windows(self, period: Period, starts: npt.NDArray[np.int64]) -> pl.DataFrame:
        """Every stored window of the period that begins at one of `starts`: the newest version of each row, with the
        columns of tables.WINDOWS."""

    def count_windows(self, period: Period, starts: list[int]) -> dict[int, int]:
        """How many windows of the period are stored that begin at each of `starts` (UTC microseconds), or some more;
        nothing where there is none."""

    def find_windows(self, period: Period, wanted: pl.DataFrame) -> pl.DataFrame:
        """The stored windows of the period among `wanted` (`start` in UTC microseconds, `key`, and the four columns of
        the subject), as `load_windows` gives them. Perhaps also others, but each once."""
