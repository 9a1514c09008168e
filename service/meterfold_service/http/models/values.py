"""The forms that all models share: decimals are strings, times are RFC 3339 in UTC, lists are pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Generic, Protocol, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from meterfold_schemas.errors import shown
from meterfold_schemas.quantities import number_text
from meterfold_service.pages import MAX_LIMIT

__all__ = [
    "Answer",
    "Body",
    "Changes",
    "JsonObject",
    "ListOf",
    "Number",
    "PageQuery",
    "PlainText",
    "Query",
    "SubjectQuery",
    "Time",
    "flat",
]

T = TypeVar("T")

_RFC_3339: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_NUMBER: Final = r"^-?[0-9]+(\.[0-9]+)?$"
MAX_TEXT: Final = 4096


def _time(value: Any) -> Any:
    """pydantic takes numbers for Unix times, and times without an offset; both are easily meant otherwise."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError(f"{shown(value)} must be a time with an offset, such as 2026-11-01T00:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value.isoformat()} is not in the years 1 to 9999 in UTC") from None


def _plain(value: str) -> str:
    """Text that can be sent on."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the text has a lone surrogate, which is not valid Unicode") from None
    if "\0" in value:
        raise ValueError("the text has a NUL character")
    return value


def _object(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


Number = Annotated[
    Decimal,
    PlainSerializer(number_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _NUMBER, "examples": ["1234.5"]}),
]
"""A decimal as text with all its digits: JSON numbers lose some in most readers."""

Time = Annotated[
    datetime,
    BeforeValidator(_time),
    AfterValidator(_in_utc),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-01T00:00:00Z"]}),
]

PlainText = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_plain)]

JsonObject = Annotated[dict[str, Any], BeforeValidator(_object)]
"""Stored as JSON text."""


class Answer(BaseModel):
    """Made from the value of an operation: `of`."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    @classmethod
    def of(cls, value: Any) -> Self:
        return cls.model_validate(value)


class Body(BaseModel):
    """The body of a request. An unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def given(self) -> dict[str, Any]:
        """The fields that the caller named."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def _without_defaults(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        field.pop("default", None)


class Changes(Body):
    """What is left out stays as it is, so no default is published: a generated client would send it."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)


class Query(Body):
    """The parameters of a request. An unknown one is an error."""


class PageQuery(Query):
    """Which page of a list."""

    limit: int = Field(default=100, ge=1, le=MAX_LIMIT, description="The most rows of the page.")
    cursor: PlainText | None = Field(
        default=None, description="`next_cursor` of the page before, with the same other parameters. First page: none."
    )

    @property
    def page(self) -> dict[str, Any]:
        return {"limit": self.limit, "cursor": self.cursor}


class SubjectQuery(Query):
    """Whose usage."""

    subject_type: PlainText | None = Field(default=None, description="With `subject_id`.", examples=["user"])
    subject_id: PlainText | None = Field(default=None, description="With `subject_type`.", examples=["ada"])


class _Rows(Protocol):
    @property
    def total(self) -> int: ...
    @property
    def rows(self) -> Iterable[Any]: ...
    @property
    def cursor(self) -> str | None: ...


class ListOf(Answer, Generic[T]):
    """A page of a list."""

    data: list[T]
    next_cursor: str | None = Field(description="Asks for the next page; null after the last one.")
    total: int = Field(ge=0, description="Rows of the whole list.")

    @classmethod
    def page(cls, page: _Rows, **more: Any) -> Self:
        return cls.model_validate({"data": list(page.rows), "next_cursor": page.cursor, "total": page.total, **more})


def flat(value: Any, **more: Any) -> dict[str, Any]:
    """The fields of a frozen value, `subject` in two: for models that have the same names."""
    names: Iterable[str] = getattr(type(value), "__dataclass_fields__", ())
    found: Mapping[str, Any] = {name: getattr(value, name) for name in names}
    if "subject" in found:
        kind, name = found["subject"] or (None, None)
        found = {**found, "subject_type": kind, "subject_id": name}
    return {**found, **more}
