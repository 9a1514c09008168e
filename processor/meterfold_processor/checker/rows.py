"""Window rows of one partition as columns: what the fold publishes, and what ClickHouse has stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from meterfold_processor.checker.rules import CODES
from meterfold_processor.checker.subjects import SUBJECT, Subjects
from meterfold_processor.checker.values import WindowValues
from meterfold_processor.fold.limbs import Limbs, from_arrow
from meterfold_processor.fold.tables import WINDOWS
from meterfold_schemas.errors import Poison

__all__ = ["Interest", "Rows", "newest", "read_message", "rows_of"]

Int64s = npt.NDArray[np.int64]

_NUMBERS = (*SUBJECT, "period_type", "period_start", "record_count", "sum", "min", "max", "last", "folded_through")


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of one length. `periods` holds rules.CODES, `starts` UTC microseconds; amounts are unscaled."""

    slots: Int64s
    periods: npt.NDArray[np.int8]
    starts: Int64s
    count: Int64s
    sum: Limbs
    min: Limbs
    max: Limbs
    last: Limbs
    through: Int64s

    def __len__(self) -> int:
        return len(self.slots)

    def take(self, at: npt.NDArray[Any]) -> Rows:
        """The rows at these places (integers)."""
        return Rows(
            self.slots[at],
            self.periods[at],
            self.starts[at],
            self.count[at],
            self.sum.take(at),
            self.min.take(at),
            self.max.take(at),
            self.last.take(at),
            self.through[at],
        )

    def values(self, row: int) -> WindowValues:
        amounts = (_one(column, row) for column in (self.sum, self.min, self.max, self.last))
        return WindowValues(int(self.count[row]), *amounts)


@dataclass(frozen=True, slots=True)
class Interest:
    """Which rows matter at all: every row of some periods, on others those of some metrics."""

    whole_periods: frozenset[int]
    metrics: dict[int, frozenset[str]]

    def keep(self, frame: pl.DataFrame) -> pl.DataFrame:
        period = pl.col("period_type")
        wanted = period.is_in(sorted(self.whole_periods))
        for code, keys in self.metrics.items():
            if code not in self.whole_periods:
                wanted = wanted | ((period == code) & pl.col("metric_key").is_in(sorted(keys)))
        return frame.filter(wanted)


def rows_of(table: pa.Table, subjects: Subjects, interest: Interest | None = None) -> Rows:
    """A table with the columns of `usage_windows`; subjects seen first get a slot."""
    frame = pl.from_arrow(table.select(_NUMBERS))
    assert isinstance(frame, pl.DataFrame)
    frame = frame.with_columns(_period_codes(frame), pl.col("period_start").dt.timestamp("us"))
    if interest is not None:
        frame = interest.keep(frame)
    amounts = frame.select("sum", "min", "max", "last").to_arrow()
    return Rows(
        subjects.slots(frame),
        frame["period_type"].to_numpy(),
        frame["period_start"].to_numpy(),
        frame["record_count"].to_numpy(),
        from_arrow(amounts.column("sum")),
        from_arrow(amounts.column("min")),
        from_arrow(amounts.column("max")),
        from_arrow(amounts.column("last")),
        frame["folded_through"].to_numpy(),
    )


def newest(places: Int64s, through: Int64s) -> Int64s:
    """The last of the rows with the highest folded_through, for each window (`places`)."""
    order = np.lexsort((through, places))
    ordered = places[order]
    last = np.append(ordered[1:] != ordered[:-1], True) if len(order) else np.empty(0, np.bool_)
    kept: Int64s = order[last]
    return kept


def read_message(value: bytes | None) -> pa.Table:
    """The rows of one message of `usage.windows`. Raises Poison for what is no Arrow stream with those columns."""
    try:
        with pa.ipc.open_stream(value or b"") as reader:
            table = reader.read_all()
        table.validate(full=True)
        if table.schema != WINDOWS:
            table = table.select(WINDOWS.names).cast(WINDOWS)
        missing = [name for name in WINDOWS.names if table.column(name).null_count]
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise Poison("undecodable", f"no Arrow stream of window rows: {error}") from error
    if missing:
        raise Poison("invalid", f"nulls in {', '.join(missing)}")
    return table


def _period_codes(frame: pl.DataFrame) -> pl.Expr:
    """The enum's numbers, whether the column has them, or (as ClickHouse may answer) its words."""
    period = pl.col("period_type")
    if frame["period_type"].dtype.is_integer():
        return period.cast(pl.Int8)
    words = {str(name): code for name, code in CODES.items()}
    return period.cast(pl.String).replace_strict(words, return_dtype=pl.Int8)


def _one(column: Limbs, row: int) -> int:
    return (int(column.hi[row]) << 64) + int(column.lo[row])
