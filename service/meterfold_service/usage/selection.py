"""What the caller groups and filters usage by, checked: names of metadata fields and their values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from meterfold_schemas.definitions import MAX_DIMENSIONS, SUBJECT
from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.usage_rules import text_bytes
from meterfold_sink.usage_groups import VALUE, FieldFilter, Grouping

__all__ = ["MAX_FILTER_BYTES", "FieldValue", "Where", "filters_of", "grouping_of"]

FieldValue = str | int | float | bool | None
"""The value of a metadata field. None: the field is missing, or null."""

Where = Mapping[str, FieldValue | Iterable[FieldValue]]
"""Metadata field: the value that it must have, or several of which it must have one."""

MAX_FILTER_BYTES: Final = 8192
"""The most bytes of a filter as JSON. It travels to the server in a URL."""


def grouping_of(
    group_by: str | Iterable[str], *, by_subject: bool = False, where: Where | None = None, unique: str | None = None
) -> Grouping:
    """Raises InvalidUsage."""
    names = [group_by] if isinstance(group_by, str) else _listed("group_by", group_by)
    for number, name in enumerate(names):
        _check_name("group_by", name)
        if name in names[:number]:
            raise InvalidUsage(f"group_by has {shown(name)} twice; give each field once")
    fields = tuple(name for name in names if name != SUBJECT)
    if len(fields) > MAX_DIMENSIONS:
        raise InvalidUsage(f"group_by has {len(fields)} metadata fields; at most {MAX_DIMENSIONS} are allowed")
    if unique is not None:
        _check_name("unique_count", unique)
    return Grouping(by_subject or SUBJECT in names, fields, filters_of(where), unique)


def filters_of(where: Where | None) -> tuple[FieldFilter, ...]:
    """Raises InvalidUsage."""
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise InvalidUsage(f"filter must be a mapping such as {{'region': 'eu'}}, not {shown(where)}")
    found = tuple(_filter_of(field, values) for field, values in where.items())
    size = sum(len(text.encode()) for one in found for text in (one.field, *one.values))
    if size > MAX_FILTER_BYTES:
        raise InvalidUsage(
            f"filter has {size:,} bytes as JSON; at most {MAX_FILTER_BYTES:,} are allowed. Give fewer values, or group "
            "by the field"
        )
    return found


def _filter_of(field: Any, given: Any) -> FieldFilter:
    _check_name("filter", field)
    if field == SUBJECT:
        raise InvalidUsage("filter cannot select a subject; give the argument subject=(type, id)")
    is_one = isinstance(given, str) or not isinstance(given, Iterable)
    values: list[Any] = [given] if is_one else _listed(f"the filter of {shown(field)}", given)
    if not values:
        raise InvalidUsage(f"the filter of {shown(field)} has no value; give at least one, or leave the field out")
    some = [_document(field, value) for value in values if value is not None]
    return FieldFilter(field, tuple(some), or_missing=None in values)


def _document(field: str, value: Any) -> str:
    if isinstance(value, str):
        text_bytes(f"the filter of {shown(field)}", value, empty=True)
    elif not isinstance(value, int | float):
        raise InvalidUsage(
            f"the filter of {shown(field)} has the value {shown(value)} of the type {type(value).__name__}; give text, "
            "a number, True, False, or None for records without the field"
        )
    try:
        return json.dumps({VALUE: value}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise InvalidUsage(f"the filter of {shown(field)} has the value {value}, which no JSON number has") from None


def _listed(what: str, values: Any) -> list[Any]:
    if isinstance(values, bytes | Mapping) or not isinstance(values, Iterable):
        raise InvalidUsage(f"{what} must be text or a list, not {shown(values)}")
    return list(values)


def _check_name(argument: str, name: Any) -> None:
    text_bytes(f"the metadata field in {argument}", name)
