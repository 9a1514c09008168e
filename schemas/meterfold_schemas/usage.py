"""The event `usage.recorded` as a value. Producers on a hot path use UsageEncoder, which writes the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from meterfold_schemas import usage_json
from meterfold_schemas.errors import InvalidUsage, Poison
from meterfold_schemas.keys import subject_key
from meterfold_schemas.periods import from_micros, micros
from meterfold_schemas.quantities import to_decimal, to_unscaled
from meterfold_schemas.usage_fields import FIELDS, SCHEMA, UsageField
from meterfold_schemas.usage_rules import metadata_text, metric_key_bytes, text_bytes
from meterfold_schemas.wire import read_event, write_event

__all__ = ["UsageRecorded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecorded:
    """One usage event. Every rule of the contract is checked when it is made; a breach raises InvalidUsage.

    The quantity may be given as int, Decimal, decimal string or float and is kept as a Decimal of scale 9; metadata
    as a mapping or JSON text and is kept as JSON text; the timestamp is an aware datetime and is kept in UTC.
    """

    id: str
    metric_key: str
    subject_type: str
    subject_id: str
    quantity: Decimal
    timestamp: datetime
    org_id: str = ""
    source: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    metadata: str | None = None

    def __post_init__(self) -> None:
        for field in FIELDS:
            value = getattr(self, field.name)
            if value is not None or not field.optional:
                object.__setattr__(self, field.name, _checked(field, value))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From a mapping. Raises InvalidUsage, also for names that are missing or unknown."""
        try:
            return cls(**values)
        except TypeError as error:
            raise InvalidUsage(str(error).replace("UsageRecorded.__init__()", "a usage event")) from None

    @property
    def identity(self) -> tuple[str, str, str, str, str]:
        """What makes it the same event: org_id, metric_key, subject_type, subject_id, id."""
        return self.org_id, self.metric_key, self.subject_type, self.subject_id, self.id

    @property
    def key(self) -> bytes:
        """The message key."""
        return subject_key(self.org_id, self.metric_key, self.subject_type, self.subject_id)

    def to_bytes(self) -> bytes:
        return write_event(SCHEMA, {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """From Avro, or from JSON that begins with {.

        Raises UnknownSchema, Poison("undecodable"), or Poison("invalid") for a broken rule.
        """
        if data.startswith(usage_json.OPENING):
            values = usage_json.fields_of(data)
            try:
                return cls(**values)
            except InvalidUsage as error:
                raise Poison("invalid", str(error)) from None
        return read_event(data, lambda _, values: cls(**values), SCHEMA)


def _checked(field: UsageField, value: Any) -> Any:
    """The value as an event keeps it. Raises InvalidUsage."""
    match field.rule:
        case "text":
            text_bytes(field.name, value, empty=field.may_be_empty)
            return value
        case "metric_key":
            metric_key_bytes(value)
            return value
        case "metadata":
            return metadata_text(value)
        case "quantity":
            return to_decimal(to_unscaled(value))
        case "timestamp":
            return _moment(value)


def _moment(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise InvalidUsage(f"timestamp must be a timezone-aware datetime, not {type(value).__name__}")
    try:
        return from_micros(micros(value))
    except OverflowError:
        raise InvalidUsage(f"timestamp {value} is outside of the years 1 to 9999 in UTC") from None
