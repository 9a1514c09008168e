"""What usage is grouped and filtered by: the subject, and fields of the records' metadata.

The value of a metadata field is text: a JSON string itself, and any other value as JSON (12, true, [1,2]), numbers in
their shortest form. A field that is missing, and one that is null, has no value (NULL), which differs from "". Names
and values of fields come from the caller, so they travel as parameters only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from meterfold_schemas.definitions import SUBJECT

__all__ = ["EVERYTHING", "NO_TEXT", "NO_VALUES", "FieldFilter", "Grouping", "field_conditions", "field_parameters"]

VALUE: Final = "value"
"""The only key of the JSON objects in FieldFilter.values."""


@dataclass(frozen=True, slots=True)
class FieldFilter:
    """Keeps records whose metadata field has one of `values`: JSON objects such as {"value":12}. `or_missing`: also
    records without the field."""

    field: str
    values: tuple[str, ...]
    or_missing: bool = False


@dataclass(frozen=True, slots=True)
class Grouping:
    """`by_subject`: subjects apart. `fields`: the values of these metadata fields apart. `filters`: all of them must
    keep a record. `unique`: count the distinct values of this metadata field, or of SUBJECT."""

    by_subject: bool = False
    fields: tuple[str, ...] = ()
    filters: tuple[FieldFilter, ...] = ()
    unique: str | None = None

    @property
    def metadata_fields(self) -> tuple[str, ...]:
        """The metadata fields that the answer needs, each once. Windows have none of them, only records."""
        unique = () if self.unique in (None, SUBJECT) else (self.unique,)
        return tuple(dict.fromkeys((*self.fields, *(one.field for one in self.filters), *filter(None, unique))))

    def columns(self) -> str:
        """Expressions of type_of and id_of (NULL unless by subject), field_values and unique_of, over usage_records or
        usage_windows."""
        unique = NO_TEXT
        if self.unique == SUBJECT:
            unique = "toNullable(concat(toString(subject_type), '\\0', subject_id))"  # neither of them has a NUL
        elif self.unique is not None:
            unique = _value("unique_field")
        values = ", ".join(_value(f"field_{number}") for number in range(len(self.fields)))
        return (
            f"{'toNullable(toString(subject_type))' if self.by_subject else NO_TEXT} AS type_of, "
            f"{'toNullable(subject_id)' if self.by_subject else NO_TEXT} AS id_of, "
            f"CAST([{values}] AS Array(Nullable(String))) AS field_values, {unique} AS unique_of"
        )

    def unique_count(self) -> str:
        """An expression of Nullable(Int64) over the rows of a group."""
        return "CAST(NULL AS Nullable(Int64))" if self.unique is None else "toNullable(toInt64(uniqExact(unique_of)))"

    def parameters(self) -> dict[str, Any]:
        found: dict[str, Any] = {f"field_{number}": name for number, name in enumerate(self.fields)}
        if self.unique not in (None, SUBJECT):
            found["unique_field"] = self.unique
        return {**found, **field_parameters(self.filters)}


EVERYTHING: Final = Grouping()
"""All usage together."""

NO_TEXT: Final = "CAST(NULL AS Nullable(String))"
NO_VALUES: Final = "CAST([] AS Array(Nullable(String))) AS field_values"


def field_conditions(filters: tuple[FieldFilter, ...]) -> list[str]:
    """Conditions over usage_records, with the parameters of `field_parameters`."""
    found = []
    for number, one in enumerate(filters):
        value = _value(f"filter_{number}")
        accepted = (
            f"arrayMap(one -> ifNull(JSONExtract(one, '{VALUE}', 'Nullable(String)'), ''), "
            f"{{values_{number}:Array(String)}})"
        )
        condition = f"ifNull(has({accepted}, {value}), 0)"
        found.append(f"({condition} OR isNull({value}))" if one.or_missing else condition)
    return found


def field_parameters(filters: tuple[FieldFilter, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, one in enumerate(filters):
        found[f"filter_{number}"], found[f"values_{number}"] = one.field, list(one.values)
    return found


def _value(parameter: str) -> str:
    return f"JSONExtract(metadata, {{{parameter}:String}}, 'Nullable(String)')"
