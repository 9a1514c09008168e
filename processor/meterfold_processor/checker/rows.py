"""Window rows of one partition as columns: what the fold publishes, and what ClickHouse has stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterfold_processor.checker.hashing import hashes_of
from meterfold_processor.checker.panes import Int64s, Subject, SubjectHashes
from meterfold_processor.checker.rules import CODES
from meterfold_processor.checker.traces import traces_in
from meterfold_processor.columns.limbs import Limbs, from_arrow
from meterfold_processor.columns.tables import WINDOWS
from meterfold_schemas.errors import Poison
from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.totals import AMOUNTS, WindowValues

__all__ = ["Interest", "WindowColumns", "newest", "read_message", "rows_of"]

_NAMES = (*SUBJECT, "period_type", "period_start", "record_count", *AMOUNTS, "folded_through")
_SHAPE = pa.schema([WINDOWS.field(name) for name in _NAMES])


@dataclass(frozen=True, slots=True)
class WindowColumns:
    """Columns of one length. `periods` holds rules.CODES, `starts` UTC microseconds; amounts are unscaled.

    The four columns of a subject are those of `names` at the rows `at`: a column of text is not copied for a choice.
    """

    names: pa.RecordBatch
    at: Int64s
    subjects: SubjectHashes
    periods: npt.NDArray[np.int8]
    starts: Int64s
    count: Int64s
    sum: Limbs
    min: Limbs
    max: Limbs
    last: Limbs
    through: Int64s

    def __len__(self) -> int:
        return len(self.at)

    def take(self, at: npt.NDArray[Any]) -> WindowColumns:
        """The rows at these places (integers)."""
        return WindowColumns(
            self.names,
            self.at[at],
            self.subjects.take(at),
            self.periods[at],
            self.starts[at],
            self.count[at],
            self.sum.take(at),
            self.min.take(at),
            self.max.take(at),
            self.last.take(at),
            self.through[at],
        )

    def name(self, row: int) -> Subject:
        """The subject of one row."""
        at = int(self.at[row])
        org_id, metric_key, subject_type, subject_id = (self.names.column(name)[at].as_py() for name in SUBJECT)
        return org_id, metric_key, subject_type, subject_id

    def text(self, name: str) -> Any:
        """One of the four columns of a subject, as a pyarrow array."""
        column: Any = self.names.column(name)
        return column.take(pa.array(self.at))

    def values(self, row: int) -> WindowValues:
        amounts = (_one(getattr(self, name), row) for name in AMOUNTS)
        return WindowValues(int(self.count[row]), *amounts)


@dataclass(frozen=True, slots=True)
class Interest:
    """Which rows matter at all: every row of some periods, on others those of some metrics."""

    whole_periods: frozenset[int]
    metrics: dict[int, frozenset[str]]

    def keep(self, table: pa.Table) -> pa.Table:
        period = table.column("period_type")
        wanted: Any = pc.is_in(period, pa.array(sorted(self.whole_periods), pa.int8()))
        for code, keys in self.metrics.items():
            if code not in self.whole_periods:
                watched = pc.is_in(table.column("metric_key"), pa.array(sorted(keys), pa.large_string()))
                wanted = pc.or_(wanted, pc.and_(pc.equal(period, pa.scalar(code, pa.int8())), watched))
        return table.filter(wanted)


def rows_of(table: pa.Table, interest: Interest | None = None, *, since: int = 0) -> WindowColumns:
    """A table with the columns of `usage_windows`, without the rows whose folded_through is below `since`."""
    table = _in_shape(table)
    if since > 0:
        older = pc.less(table.column("folded_through"), pa.scalar(since, pa.int64()))
        if pc.any(older).as_py():
            table = table.filter(pc.invert(older))
    if interest is not None:
        table = interest.keep(table)
    columns: list[Any] = [table.column(name).combine_chunks() for name in SUBJECT]
    names = pa.RecordBatch.from_arrays(columns, list(SUBJECT))
    return WindowColumns(
        names,
        np.arange(names.num_rows),
        hashes_of(names),
        table.column("period_type").to_numpy(),
        table.column("period_start").cast(pa.int64()).to_numpy(),
        table.column("record_count").to_numpy(),
        from_arrow(table.column("sum")),
        from_arrow(table.column("min")),
        from_arrow(table.column("max")),
        from_arrow(table.column("last")),
        table.column("folded_through").to_numpy(),
    )


def newest(places: Int64s, through: Int64s) -> Int64s:
    """The last of the rows with the highest folded_through, for each window (`places`)."""
    order = np.lexsort((through, places))
    ordered = places[order]
    last = np.append(ordered[1:] != ordered[:-1], True) if len(order) else np.empty(0, np.bool_)
    kept: Int64s = order[last]
    return kept


def read_message(value: bytes | None) -> tuple[pa.Table, pa.Table | None]:
    """The rows of one message of `usage.windows`, and the traces that it has (see Traces). Raises Poison for a value
    that is not an Arrow stream with the columns of window rows."""
    try:
        with pa.ipc.open_stream(value or b"") as reader:
            table = reader.read_all()
        table.validate(full=True)
        traced = traces_in(table)
        table = _in_shape(table)
        missing = [name for name in _SHAPE.names if table.column(name).null_count]
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise Poison("undecodable", f"no Arrow stream of window rows: {error}") from error
    if missing:
        raise Poison("invalid", f"nulls in {', '.join(missing)}")
    return table, traced


def _in_shape(table: pa.Table) -> pa.Table:
    """The columns that matter here, in the fold's types; ClickHouse answers other ones for the same values."""
    table = table.select(_SHAPE.names)
    if table.schema.equals(_SHAPE):
        return table
    period: Any = table.column("period_type")
    if pa.types.is_dictionary(period.type):
        period = period.cast(period.type.value_type)
    if not pa.types.is_integer(period.type):
        names = pa.array([str(name) for name in CODES], pa.large_string())
        period = pa.array(list(CODES.values()), pa.int8()).take(pc.index_in(period.cast(pa.large_string()), names))
    place = table.schema.get_field_index("period_type")
    return table.set_column(place, "period_type", period).cast(_SHAPE)


def _one(column: Limbs, row: int) -> int:
    return (int(column.hi[row]) << 64) + int(column.lo[row])
