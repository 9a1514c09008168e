"""What `record_batch` may be given as a frame, as an Arrow table, and single rows of it as they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from meterfold.tables import check_names
from meterfold_schemas.errors import InvalidUsage

__all__ = ["Source", "source_of"]


@dataclass(frozen=True, slots=True)
class Source:
    """`table` (pyarrow) holds the frame's rows; `rows_at` gives those at some places in the frame's own kind, for
    `tables.rows`. `frame` is the whole frame."""

    frame: Any
    table: Any
    rows_at: Callable[[Sequence[int]], Any]


def source_of(frame: Any) -> Source | None:
    """None for what is not a frame, or one that Arrow cannot hold (a pandas column of mixed types, for example).

    Raises InvalidUsage for unknown columns, and where pyarrow or numpy is missing.
    """
    if hasattr(frame, "iter_slices") and hasattr(frame, "get_columns"):  # polars.DataFrame
        check_names(frame.columns)
        pa = _pyarrow(frame)
        return Source(frame, pa.table(frame), lambda places: frame[list(places)])
    if hasattr(frame, "to_batches") and hasattr(frame, "column_names"):  # pyarrow.Table
        check_names(frame.column_names)
        _pyarrow(frame)
        return Source(frame, frame, partial(_taken, frame))
    if hasattr(frame, "iloc") and hasattr(frame, "columns"):  # pandas.DataFrame
        check_names(list(frame.columns))
        pa = _pyarrow(frame)
        try:
            table = pa.Table.from_pandas(frame, preserve_index=False)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None
        return Source(frame, table, partial(_located, frame, table))
    if hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__"):
        table = _pyarrow(frame).table(frame)
        check_names(table.column_names)
        return Source(table, table, partial(_taken, table))
    return None


def _located(frame: Any, table: Any, places: Sequence[int]) -> Any:
    try:
        return frame.iloc[list(places)]
    except NotImplementedError:  # an Arrow type that pandas cannot take rows of
        return _taken(table, places)


def _taken(table: Any, places: Sequence[int]) -> Any:
    import pyarrow as pa

    try:
        return table.take(places)
    except pa.ArrowNotImplementedError:  # of a type such as string_view
        return pa.concat_tables([table.slice(place, 1) for place in places])


def _pyarrow(frame: Any) -> Any:
    try:
        import numpy  # noqa: F401  # the column encoder's, as pyarrow is
        import pyarrow
    except ImportError as error:
        kind = type(frame).__name__
        raise InvalidUsage(
            f"record_batch of a {kind} needs {error.name}, which is not installed: pip install 'meterfold[frames]'"
        ) from None
    return pyarrow
