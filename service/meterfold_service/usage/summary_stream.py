"""The rows of usage.getSummary as a stream of Arrow batches, as exports are: all of them, page after page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self

import pyarrow as pa

from meterfold_schemas.errors import InvalidUsage
from meterfold_service.pages import MAX_LIMIT, Page
from meterfold_service.usage.results import UsageSummary

__all__ = ["MOST_ROWS", "SummaryStream"]

MOST_ROWS: Final = 100_000
"""Each page sums everything up once more."""
Columns = tuple[tuple[str, pa.DataType], ...]

_QUANTITY: Final = pa.decimal128(38, 9)
_TIME: Final = pa.timestamp("us", "UTC")
_WHOSE: Final[Columns] = (
    ("org_id", pa.string()),
    ("metric_key", pa.string()),
    ("subject_type", pa.string()),
    ("subject_id", pa.string()),
)
_WHAT: Final[Columns] = (
    ("period_type", pa.string()),
    ("period_start", _TIME),
    ("period_end", _TIME),
    ("total_quantity", _QUANTITY),
    ("record_count", pa.int64()),
    *((name, _QUANTITY) for name in ("sum", "min_quantity", "max_quantity", "avg_quantity", "last_quantity")),
    ("is_final", pa.bool_()),
)


class SummaryStream:
    """A column for each metadata field that the rows are grouped by, named as the field with `group.` before it: so it
    is no other column's name, and no formula in a spreadsheet.

    `read` is get_summary with everything but its page. Raises what it raises, and InvalidUsage for more than MOST_ROWS.
    """

    def __init__(self, read: Callable[..., Page[UsageSummary]]) -> None:
        self._read = read
        self._first = read(limit=MAX_LIMIT)
        self.expected = self._first.total
        if self.expected > MOST_ROWS:
            raise InvalidUsage(
                f"the table has {self.expected:,} rows, more than {MOST_ROWS:,}; choose a shorter time, or download "
                "the totals of each subject"
            )
        self._fields = tuple(self._first.rows[0].group) if self._first.rows else ()
        grouped = [(f"group.{name}", pa.string()) for name in self._fields]
        self.schema = pa.schema([*_WHOSE, *grouped, *_WHAT])

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        page = self._first
        while True:
            yield self._batch(page.rows)
            if page.cursor is None:
                return
            page = self._read(limit=MAX_LIMIT, cursor=page.cursor)

    def _batch(self, rows: Sequence[UsageSummary]) -> pa.RecordBatch:
        columns: dict[str, list[Any]] = {
            **{name: [getattr(row, name) for row in rows] for name, _ in (*_WHOSE, *_WHAT)},
            **{f"group.{name}": [row.group[name] for row in rows] for name in self._fields},
        }
        return pa.RecordBatch.from_pydict(columns, schema=self.schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Each page has had a connection of its own."""
