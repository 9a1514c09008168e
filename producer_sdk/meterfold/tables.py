"""Rows out of what `record_batch` may be given, without importing the library that made it.

A polars or pandas data frame and an Arrow table are read by their own methods, a slice at a time; anything else with
`__arrow_c_stream__` through pyarrow, if it is installed. A list or another iterable of mappings is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import repeat
from typing import Any, Final

from meterfold.events import UsageEvent
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.usage_fields import OPTIONAL

__all__ = ["FIELDS", "Row", "check_names", "rows"]

#: The fields of one event, in the order of a Row.
FIELDS: Final = (*(name for name in UsageEvent.__annotations__ if name not in OPTIONAL), *OPTIONAL)
Row = tuple[Any, ...]

_SLICE_ROWS: Final = 10_000
_NAMES: Final = frozenset(FIELDS)
# What a null in these columns of a table means cannot be guessed: no default, the row is refused.
_NEVER_NULL: Final = ("quantity", "id", "timestamp")


class _Null:
    """A null of a table where a value is needed; every check refuses it."""

    def __repr__(self) -> str:
        return "null"


_NULL: Final = _Null()


def rows(events: Any) -> Iterator[Row | InvalidUsage]:
    """One Row per event, or what is wrong with it. Raises InvalidUsage for a table with unknown columns."""
    if isinstance(events, Mapping):
        raise InvalidUsage("record_batch takes a list of events; use record() for one")
    slices = _slices(events)
    if slices is None:
        if not isinstance(events, Iterable):
            raise InvalidUsage(f"record_batch takes a list of mappings or a table, not {type(events).__name__}")
        return map(_row_of, events)
    return (row for columns in slices for row in _zipped(columns))


def _row_of(event: Any) -> Row | InvalidUsage:
    if type(event) is not dict and not isinstance(event, Mapping):
        return InvalidUsage(f"an event must be a mapping, not {type(event).__name__}")
    if not _NAMES.issuperset(event):
        return _unknown(sorted(map(str, event.keys() - _NAMES)), "field")
    get = event.get
    return (
        get("metric_key"),
        get("subject"),
        get("subject_type"),
        get("subject_id"),
        get("org_id"),
        get("quantity", 1),
        get("id"),
        get("timestamp"),
        *map(get, OPTIONAL),
    )


def _zipped(columns: dict[str, list[Any]]) -> Iterator[Row]:
    length = len(next(iter(columns.values()), ()))
    for name in _NEVER_NULL:
        if None in columns.get(name, ()):
            columns[name] = [_NULL if value is None else value for value in columns[name]]
    defaults: dict[str, Any] = {"quantity": 1}
    return zip(*(columns.get(name) or repeat(defaults.get(name), length) for name in FIELDS), strict=False)


def _slices(table: Any) -> Iterator[dict[str, list[Any]]] | None:
    """Columns as lists, slice by slice; None if this is not a table."""
    if hasattr(table, "iter_slices") and hasattr(table, "get_columns"):  # polars.DataFrame
        check_names(table.columns)
        return (
            {name: part.get_column(name).to_list() for name in part.columns} for part in table.iter_slices(_SLICE_ROWS)
        )
    if hasattr(table, "to_batches") and hasattr(table, "column_names"):  # pyarrow.Table
        return _arrow_slices(table)
    if hasattr(table, "iloc") and hasattr(table, "columns"):  # pandas.DataFrame
        check_names(list(table.columns))
        parts = (table.iloc[start : start + _SLICE_ROWS] for start in range(0, len(table), _SLICE_ROWS))
        return ({name: _without_nan(part[name]) for name in part.columns} for part in parts)
    if hasattr(table, "__arrow_c_stream__") or hasattr(table, "__arrow_c_array__"):
        try:
            import pyarrow
        except ImportError:
            raise InvalidUsage(
                f"a {type(table).__name__} is read through pyarrow, which is not installed: pip install pyarrow"
            ) from None
        # A RecordBatch, or a table of another library.
        return _arrow_slices(pyarrow.table(table))
    return None


def _arrow_slices(table: Any) -> Iterator[dict[str, list[Any]]]:
    check_names(table.column_names)
    return (
        dict(zip(batch.schema.names, map(_values, batch.columns), strict=True))
        for batch in table.to_batches(max_chunksize=_SLICE_ROWS)
    )


def _values(column: Any) -> list[Any]:
    """A column of Arrow as Python's values; maps are dictionaries, in which the last value of a key counts."""
    found: list[Any] = column.to_pylist()
    if str(column.type).startswith("map<"):
        return [None if pairs is None else dict(pairs) for pairs in found]
    return found


def _without_nan(column: Any) -> list[Any]:
    # pandas has no null for most types: a missing text is NaN, a missing time NaT, others are NA.
    return [None if missing else value for value, missing in zip(column.tolist(), column.isna().tolist(), strict=True)]


def check_names(names: list[Any]) -> None:
    """Raises InvalidUsage for a column that is not a field of an event, or that comes twice."""
    if unknown := [str(name) for name in names if name not in _NAMES]:
        raise _unknown(unknown, "column")
    if len(set(names)) < len(names):
        raise InvalidUsage(f"a column comes twice: {', '.join(map(str, names))}")


def _unknown(names: list[str], what: str) -> InvalidUsage:
    close = get_close_matches(names[0], FIELDS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(FIELDS)}"
    return InvalidUsage(f"unknown {what} {', '.join(names)}; {hint}")
