"""Metadata made of several columns: objects of JSON columns merged with single cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from meterfold_cli.importing.amounts import ExactFloat
from meterfold_cli.importing.plan import Row, Step
from meterfold_schemas.errors import InvalidUsage, shown

__all__ = ["Entry", "json_value", "metadata_step"]

#: (name, index, whether the cell is JSON, what an empty cell means)
Entry = tuple[str, int, bool, str | None]


def metadata_step(objects: Sequence[tuple[str, int]], entries: Sequence[Entry], fixed: Mapping[str, Any]) -> Step:
    """`objects` are the (column, index) of JSON objects whose entries become entries; `entries` win over them, and
    `fixed` is there in every row."""

    def step(row: Row, event: dict[str, Any]) -> None:
        values: dict[str, Any] = {}
        for column, index in objects:
            found = json_value(column, row[index])
            if found is None:
                continue
            if not isinstance(found, dict):
                raise InvalidUsage(
                    f"column {column!r}: {shown(row[index])} is not a JSON object, which metadata must be"
                )
            values.update(found)
        values.update(fixed)
        for name, index, is_json, default in entries:
            cell = row[index]
            if cell is None or cell == "":
                if default is not None:
                    values[name] = default
                continue
            values[name] = json_value(name, cell) if is_json else cell
        if values:
            event["metadata"] = values

    return step


def json_value(column: str, cell: Any) -> Any:
    """The value of a JSON cell: text is parsed; Parquet and JSON Lines have objects. None for an empty cell."""
    if isinstance(cell, str):
        if not cell.strip():
            return None
        try:
            return json.loads(cell, parse_float=ExactFloat, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidUsage(f"column {column!r}: {shown(cell)} is not JSON: {error}") from None
    if isinstance(cell, list) and cell and all(type(pair) is tuple and len(pair) == 2 for pair in cell):
        return {str(name): value for name, value in cell}  # a map of Parquet
    return cell


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
