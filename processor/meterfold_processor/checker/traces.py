"""Which trace belongs to a published window: that of its newest event, where the fold publishes traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from meterfold_processor.columns.tables import TRACES
from meterfold_schemas.traces import PARENT, STATE, TraceContext

__all__ = ["NO_TRACES", "Traces", "traces_in"]

_THROUGH: Final = "folded_through"
_SHAPE = pa.schema([pa.field(_THROUGH, pa.int64()), *TRACES])


class Traces:
    """The traces of one partition's rows, by `folded_through`. They are looked into only when a level changes."""

    def __init__(self, tables: Sequence[pa.Table] = ()) -> None:
        self._tables = tables
        self._found: dict[int, tuple[bytes | None, bytes | None]] | None = None

    def of(self, folded_through: int) -> TraceContext | None:
        """The trace of the event at this offset, if it is known and valid."""
        if not self._tables:
            return None
        if self._found is None:
            self._found = {}
            for table in self._tables:
                columns: list[Any] = [table.column(name).to_pylist() for name in _SHAPE.names]
                through, parent, state = columns
                self._found.update(zip(through, zip(parent, state, strict=True), strict=True))
        return TraceContext.of(*self._found.get(folded_through, (None, None)))


NO_TRACES: Final = Traces()


def traces_in(table: pa.Table) -> pa.Table | None:
    """The rows with a trace of a message of `usage.windows`; None where it has none, or columns of another kind."""
    if not {PARENT, STATE} <= set(table.column_names):
        return None
    table = table.select(_SHAPE.names)
    return table.filter(pc.is_valid(table.column(PARENT))) if table.schema.equals(_SHAPE) else None
