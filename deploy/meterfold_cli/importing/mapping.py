"""A mapping: where the fields of an event come from in a file that was not made for Meterfold.

Options of the command make one, and a TOML file keeps one. docs/importing.md describes every key; a test compares the
two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from meterfold_schemas import usage_fields
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.usage_rules import METRIC_KEY, metric_key_bytes

__all__ = [
    "VALUES",
    "Condition",
    "IdColumn",
    "Mapping",
    "Measure",
    "MetadataValue",
    "Metric",
    "Quantity",
    "SubjectChoice",
    "Timestamp",
    "Value",
    "condition",
    "factor",
]

#: The fields of an event that the table `fields` may give: text that an event may do without.
VALUES: Final = tuple(field.name for field in usage_fields.FIELDS if field.rule == "text" and field.may_be_empty)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _named(value: Any) -> Any:
    """`region = "RegionId"` is short for `region = { column = "RegionId" }`."""
    return {"column": value} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _key(value: str) -> str:
    try:
        metric_key_bytes(value)
    except InvalidUsage as error:
        raise ValueError(str(error)) from None
    return value


def _one_of(part: BaseModel, *names: str) -> None:
    given = [name for name in names if getattr(part, name) not in (None, ())]
    if len(given) != 1:
        said = f"{' and '.join(given)} are given" if given else "none of them is given"
        raise ValueError(f"give one of {', '.join(names)}; {said}")


def factor(text: Any) -> Decimal:
    """An exact factor of a scale: text, or an integer of TOML. Raises ValueError."""
    if isinstance(text, Decimal):
        return text
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError(f'{text!r} must be a number in quotes, such as "0.001", because a float is not exact')
    try:
        number = Decimal(text)
    except ArithmeticError:
        raise ValueError(f"{text!r} is not a number") from None
    if not number.is_finite() or not number:
        raise ValueError(f"{text!r} must be a finite number other than 0")
    return number


Column = Annotated[str, Field(min_length=1)]
Key = Annotated[str, AfterValidator(_key)]
Factor = Annotated[Decimal, BeforeValidator(factor)]
Separator = Literal["_", ".", "-"]


@dataclass(frozen=True, slots=True)
class Condition:
    """Which rows are imported: those whose `column` is `value`, or (`negated`) is not, as text. "" is empty."""

    column: str
    value: str
    negated: bool = False


def condition(text: str) -> Condition:
    """`Column=value` or `Column!=value`. Raises ValueError."""
    left, equals, value = text.partition("=")
    column = left.removesuffix("!").strip()
    if not equals or not column:
        raise ValueError(f"{text!r} must have the form COLUMN=VALUE or COLUMN!=VALUE")
    return Condition(column, value, left.endswith("!"))


def _conditions(value: str) -> str:
    condition(value)
    return value


class Value(_Part):
    """One field: a column, or one value for every row. `default` replaces an empty cell; an `optional` column may be
    missing in the file."""

    column: Column | None = None
    value: str | None = None
    default: str | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_of(self, "column", "value")
        return self


class MetadataValue(Value):
    """One entry of the metadata. `json`: the cell is JSON, and becomes an object, list or number."""

    json_: Annotated[bool, Field(alias="json")] = False


class IdColumn(_Part):
    """A column that identifies a row together with others. An `optional` one may be missing and is then empty."""

    column: Column
    optional: bool = False


class Metric(_Part):
    """The metric: one key for every row, or made of the text of one or several columns.

    `table` translates whole texts. Other texts follow `rule`: "exact" takes them as they are, "key" makes a metric key:
    lower case, and `separator` for every run of other characters. Several `columns` are joined with ".". `prefix` comes
    before what the rule makes. `others` "refuse" and "skip" are for texts that a table without rule "key" lacks.
    """

    value: Key | None = None
    column: Column | None = None
    columns: Annotated[tuple[Column, ...], BeforeValidator(_listed)] = ()
    table: dict[str, Key] = Field(default_factory=dict)
    rule: Literal["exact", "key"] = "exact"
    separator: Separator = "_"
    prefix: Annotated[str, Field(pattern=rf"^({METRIC_KEY})?$")] = ""
    others: Literal["refuse", "skip"] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_of(self, "value", "column", "columns")
        if self.others is not None and (not self.table or self.rule == "key"):
            raise ValueError('others needs a table, and does not apply to rule "key", which translates every text')
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.column,) if self.column else self.columns


class Quantity(_Part):
    """How much: a column or one value, times `scale`, or times the factor of its unit: `units` by the text of
    `unit_column`. Exact; with more than 9 decimals it is refused unless `rounding` is "half_even" or "half_up"."""

    column: Column | None = None
    value: Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)] | None = None
    scale: Factor | None = None
    unit_column: Column | None = None
    units: dict[str, Factor] = Field(default_factory=dict)
    rounding: Literal["half_even", "half_up"] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_of(self, "column", "value")
        if (self.unit_column is None) != (not self.units):
            raise ValueError("unit_column and units belong together: the column, and the factor of each of its texts")
        if self.scale is not None and self.units:
            raise ValueError("scale and units exclude each other: multiply the factors of units instead")
        return self


class Measure(Quantity):
    """One of several quantities of a row. Each becomes an event with the id of the row and this metric. A row without
    a value in the column has no such event; with `skip_zero` neither has one with 0. An `optional` column may be
    missing."""

    metric: Key
    skip_zero: bool = False
    optional: bool = False


class Timestamp(_Part):
    """When: a column or one value, in the format of `--time-format`; `timezone` for times without a UTC offset."""

    column: Column | None = None
    value: str | None = None
    format: str = "iso"
    timezone: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_of(self, "column", "value")
        return self


class SubjectChoice(_Part):
    """Who: `type` (or `type_column`) and the column of the id, or one id for every row."""

    type: str | None = None
    type_column: Column | None = None
    column: Column | None = None
    value: str | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_of(self, "type", "type_column")
        _one_of(self, "column", "value")
        return self


def _field(name: str) -> str:
    if name not in VALUES:
        raise ValueError(f"unknown field {name!r}; fields are {', '.join(VALUES)}")
    return name


Named = Annotated[Value, BeforeValidator(_named)]


class Mapping(_Part):
    """A whole mapping. It names every column that is read; the file may have others."""

    description: str = ""
    records: str = ""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    strip: bool = False
    where: Annotated[tuple[Annotated[str, AfterValidator(_conditions)], ...], BeforeValidator(_listed)] = ()
    id: Column | None = None
    id_from: Annotated[tuple[Annotated[IdColumn, BeforeValidator(_named)], ...], BeforeValidator(_listed)] = ()
    timestamp: Annotated[Timestamp, BeforeValidator(_named)]
    subjects: Annotated[tuple[SubjectChoice, ...], BeforeValidator(_listed), Field(min_length=1)]
    metric: Annotated[Metric, BeforeValidator(_named)] | None = None
    quantity: Annotated[Quantity, BeforeValidator(_named)] | None = None
    measures: Annotated[tuple[Measure, ...], BeforeValidator(_listed)] = ()
    fields: dict[Annotated[str, AfterValidator(_field)], Named] = Field(default_factory=dict)
    metadata_from: Annotated[tuple[Annotated[IdColumn, BeforeValidator(_named)], ...], BeforeValidator(_listed)] = ()
    metadata: dict[str, Annotated[MetadataValue, BeforeValidator(_named)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        _one_of(self, "id", "id_from")
        _one_of(self, "metric", "measures")
        if self.quantity is not None and self.measures:
            raise ValueError("quantity and measures exclude each other: each measure has a column of its own")
        keys = [measure.metric for measure in self.measures]
        if len(set(keys)) != len(keys):
            raise ValueError("two measures have the same metric; their events would share an id, and one would count")
        return self

    @property
    def columns(self) -> frozenset[str]:
        """Every column that the mapping names."""
        found = {condition(text).column for text in self.where}
        _collect(self.plain(), found)
        if self.id is not None:
            found.add(self.id)
        return frozenset(found)

    @property
    def optional_columns(self) -> frozenset[str]:
        """The columns that a file, or a row of JSON, may lack."""
        return frozenset(_optional(self.plain()))

    def plain(self) -> dict[str, Any]:
        """The values of its TOML file: only what differs from a default."""
        values: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return values


def _collect(part: Any, found: set[str]) -> None:
    if isinstance(part, dict):
        for name, value in part.items():
            if name in ("column", "type_column", "unit_column"):
                found.add(value)
            elif name == "columns":
                found.update(value)
            elif name not in ("table", "units"):
                _collect(value, found)
    elif isinstance(part, list):
        for value in part:
            _collect(value, found)


def _optional(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if part.get("optional") is True and isinstance(part.get("column"), str):
            yield part["column"]
        for value in part.values():
            yield from _optional(value)
    elif isinstance(part, list):
        for value in part:
            yield from _optional(value)
