"""Definitions of metrics and thresholds: what people configure, checked completely when it is made.

The truth is the topics `metric.defined` and `threshold.defined`; `version` is the message's offset there and is set
by whoever read it. A deletion is a tombstone, which consumers handle: it has no value to read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from decimal import Decimal
from typing import Annotated, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from meterfold_schemas import ids, keys
from meterfold_schemas.errors import InvalidDefinition, InvalidUsage, shown
from meterfold_schemas.periods import KEPT, RESET_PERIOD, Period, micros
from meterfold_schemas.quantities import QUANTITY_PATTERN, UNIT, number_text, to_decimal, to_unscaled
from meterfold_schemas.usage_rules import MAX_TEXT_BYTES, METRIC_KEY, metadata_text, metric_key_bytes, text_bytes
from meterfold_schemas.vocabulary import Action, AggregationType, ResetPeriod

__all__ = ["MAX_DIMENSIONS", "SUBJECT", "MetricDefinition", "UsageThreshold", "default_warn_threshold", "percentage_of"]

PERIOD_NOT_KEPT: Final = "PERIOD_NOT_KEPT"
MAX_DIMENSIONS: Final = 10
"""The most dimensions of one metric: each combination of their values is a row of its own."""
SUBJECT: Final = "subject"
"""In a list of what to group by: the subject, and never a metadata field of this name."""
E = TypeVar("E")


def _checked(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A rule of usage events as a validator: its error gets the field's place in the definition."""

    def validate(value: Any) -> Any:
        try:
            return check(value)
        except InvalidUsage as error:
            raise ValueError(str(error)) from None

    return validate


def _text(value: str) -> str:
    text_bytes("text", value, empty=True)
    return value


def _some_text(value: str) -> str:
    text_bytes("text", value)
    return value


def _metric_key(value: str) -> str:
    metric_key_bytes(value)
    return value


def _quantity(value: Any) -> Decimal:
    return to_decimal(to_unscaled(value))


def _metadata(value: Any) -> str | None:
    return None if value is None else metadata_text(value)


def _dimensions(value: Any) -> tuple[str, ...]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise ValueError(f"{shown(value)} must be a list of metadata fields, such as ['model', 'region']")
    names = tuple(value)
    if len(names) > MAX_DIMENSIONS:
        raise ValueError(f"{len(names)} metadata fields are given; at most {MAX_DIMENSIONS} are allowed")
    for number, name in enumerate(names):
        try:
            text_bytes("a metadata field", name)
        except InvalidUsage as error:
            raise ValueError(str(error)) from None
        if name == SUBJECT:
            raise ValueError(f"{name!r} cannot be a dimension: usage is always kept by subject")
        if name in names[:number]:
            raise ValueError(f"the metadata field {shown(name)} is given twice; give each field once")
    return names


def _kept(value: Period) -> Period:
    if value not in KEPT:
        raise ValueError(
            f"{PERIOD_NOT_KEPT}: {value} windows are derived when read and cannot be watched; "
            f"give one of {', '.join(KEPT)}"
        )
    return value


def _described(**rules: Any) -> WithJsonSchema:
    """JSON Schema of a text whose rules are checked by a function."""
    return WithJsonSchema({"type": "string", **rules})


Text = Annotated[str, AfterValidator(_checked(_text)), _described(maxLength=MAX_TEXT_BYTES)]
SomeText = Annotated[str, AfterValidator(_checked(_some_text)), _described(minLength=1, maxLength=MAX_TEXT_BYTES)]
MetricKey = Annotated[str, AfterValidator(_checked(_metric_key)), _described(pattern=f"^{METRIC_KEY}$")]
Quantity = Annotated[
    Decimal,
    BeforeValidator(_checked(_quantity)),
    # JSON has all digits: str() of a small Decimal is 5E-9.
    PlainSerializer(number_text, return_type=str, when_used="json"),
    _described(pattern=QUANTITY_PATTERN),
]
Metadata = Annotated[str | None, BeforeValidator(_checked(_metadata))]
Dimensions = Annotated[tuple[str, ...], BeforeValidator(_dimensions)]
Moment = Annotated[AwareDatetime, Field(strict=True), AfterValidator(lambda moment: moment.astimezone(UTC))]
KeptPeriod = Annotated[Period, AfterValidator(_kept), _described(enum=[period.value for period in KEPT])]


class Definition(BaseModel):
    """Base of both: frozen, without unknown fields. Raises InvalidDefinition."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refused(type(self), error) from None

    def changed(self, **changes: Any) -> Self:
        """A copy with changes, checked again as a whole."""
        return type(self)(**{**self.model_dump(), **changes})


class MetricDefinition(Definition):
    """What one metric counts and how its windows are read. An organization's own hides the global one (org_id "").

    `dimensions`: names of metadata fields that usage is grouped by, in the order in which they are shown; at most
    MAX_DIMENSIONS.
    """

    id: SomeText
    key: MetricKey
    name: SomeText
    description: Annotated[str, Field(max_length=4096)] | None = None
    unit: SomeText
    aggregation_type: AggregationType = AggregationType.SUM
    reset_period: ResetPeriod = ResetPeriod.MONTHLY
    precision: StrictInt = Field(default=2, ge=0, le=9)
    org_id: Text = ""
    category: Text | None = None
    display_order: StrictInt = Field(default=0, ge=-(2**31), le=2**31 - 1)
    dimensions: Dimensions = ()
    metadata: Metadata = None
    is_active: StrictBool = True
    created_at: Moment
    updated_at: Moment
    version: int = -1

    @property
    def message_key(self) -> bytes:
        return keys.metric_definition_key(self.org_id, self.key)

    @property
    def event_id(self) -> str:
        return ids.definition_event_id("metric.defined", self.id, micros(self.updated_at))

    def to_bytes(self) -> bytes:
        return _written("metric_defined", self)

    @classmethod
    def from_bytes(cls, data: bytes, *, version: int = -1) -> Self:
        """`version`: the message's offset. Raises Poison or UnknownSchema."""
        return _read(data, lambda _, values: cls(**_fields(values), version=version), "metric_defined")


class UsageThreshold(Definition):
    """A value to watch on one metric: of one subject, of every subject of a type, or of every subject.

    `org_id` None watches all organizations, each subject judged separately; "" only subjects without an organization.
    `warn_threshold` is a quantity or a percentage of `threshold` such as "90%"; left out it is 80 % of it.
    `period_type` is fixed at creation; `for_metric` takes it from the metric's reset period.
    """

    id: SomeText
    org_id: Text | None = None
    metric_key: MetricKey
    subject_type: SomeText | None = None
    subject_id: SomeText | None = None
    name: SomeText
    threshold: Quantity = Field(gt=0)
    warn_threshold: Quantity = Field(gt=0)
    period_type: KeptPeriod
    action: Action = Action.ALERT
    notify_emails: tuple[SomeText, ...] = ()
    notify_webhook: Annotated[str, Field(max_length=2048)] | None = None
    is_active: StrictBool = True
    metadata: Metadata = None
    created_at: Moment
    updated_at: Moment
    version: int = -1

    @classmethod
    def for_metric(cls, metric: MetricDefinition, **values: Any) -> Self:
        """A threshold on `metric`; without `period_type` it watches the metric's own period.

        Raises InvalidDefinition, with the code PERIOD_NOT_KEPT where the period is weekly or yearly.
        """
        values["metric_key"] = metric.key
        if values.get("period_type") is None:
            values["period_type"] = RESET_PERIOD[metric.reset_period]
        return cls(**values)

    @model_validator(mode="before")
    @classmethod
    def _relative_warning(cls, values: Any) -> Any:
        """The warning where it follows from the threshold. A threshold that is wrong is the only error then."""
        if not isinstance(values, Mapping) or "threshold" not in values:
            return values
        try:
            unscaled = to_unscaled(values["threshold"])
        except InvalidUsage as error:
            raise ValueError(f"threshold: {error}") from None
        if unscaled <= 0:
            raise ValueError(f"threshold: {values['threshold']} must be greater than 0")
        if unscaled == 1:
            raise ValueError(f"threshold: {values['threshold']} is too small: no warn_threshold fits below it")
        warning = values.get("warn_threshold")
        if warning is None:
            return {**values, "warn_threshold": default_warn_threshold(values["threshold"])}
        if isinstance(warning, str) and warning.rstrip().endswith("%"):
            return {**values, "warn_threshold": percentage_of(values["threshold"], warning)}
        return values

    @field_validator("notify_emails")
    @classmethod
    def _addresses(cls, emails: tuple[str, ...]) -> tuple[str, ...]:
        for email in emails:
            if not (email.count("@") == 1 and email.isprintable() and " " not in email and email.strip("@") == email):
                raise ValueError(f"{email!r} is not an e-mail address")
        return emails

    @field_validator("notify_webhook")
    @classmethod
    def _url(cls, url: str | None) -> str | None:
        if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise ValueError("give an http or https URL")
        return url

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.subject_id is not None and self.subject_type is None:
            raise ValueError("subject_id: needs a subject type as well; leave both out to watch every subject")
        if self.warn_threshold >= self.threshold:
            warning, limit = map(number_text, (self.warn_threshold, self.threshold))
            raise ValueError(f"warn_threshold: {warning} must be below the threshold, {limit}")
        return self

    @property
    def scope(self) -> tuple[str | None, str | None, str | None]:
        """org_id, subject_type and subject_id: whom it watches. None: any."""
        return self.org_id, self.subject_type, self.subject_id

    @property
    def narrowness(self) -> tuple[bool, bool, bool]:
        """Greater is narrower. Of the thresholds of one metric and name that match a subject the narrowest ones judge
        it: those of its organization before those of every organization, then one subject, a type, all subjects."""
        return self.org_id is not None, self.subject_id is not None, self.subject_type is not None

    def matches(self, org_id: str, subject_type: str, subject_id: str) -> bool:
        """Whether the subject is one that it watches."""
        return all(
            mine in (None, its) for mine, its in zip(self.scope, (org_id, subject_type, subject_id), strict=True)
        )

    @property
    def message_key(self) -> bytes:
        return keys.threshold_definition_key(self.id)

    @property
    def event_id(self) -> str:
        return ids.definition_event_id("threshold.defined", self.id, micros(self.updated_at))

    def to_bytes(self) -> bytes:
        return _written("threshold_defined", self)

    @classmethod
    def from_bytes(cls, data: bytes, *, version: int = -1) -> Self:
        """`version`: the message's offset. Raises Poison or UnknownSchema."""
        return _read(data, lambda _, values: cls(**_fields(values), version=version), "threshold_defined")


def default_warn_threshold(threshold: int | Decimal | str | float) -> Decimal:
    """80 % of a threshold, cut to 9 decimals. Raises InvalidUsage for an invalid quantity."""
    return to_decimal(to_unscaled(threshold) * 4 // 5)


def percentage_of(threshold: int | Decimal | str | float, percentage: str) -> Decimal:
    """A text such as "90%" or "62.5 %" of a threshold, cut to 9 decimals. Raises ValueError outside of 0 to 100 %."""
    number = percentage.strip().removesuffix("%").strip()
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,9})?", number):
        raise ValueError(f"warn_threshold: {percentage!r} must be a percentage above 0 and below 100, such as 80%")
    return to_decimal(to_unscaled(threshold) * to_unscaled(number) // (100 * UNIT))


def _read(data: bytes, build: Callable[[str, dict[str, Any]], E], name: str) -> E:
    # Imported here: it brings fastavro, which whoever reads definitions from ClickHouse does not need.
    from meterfold_schemas.wire import read_event

    return read_event(data, build, name)


def _written(name: str, definition: MetricDefinition | UsageThreshold) -> bytes:
    from meterfold_schemas.wire import write_event

    values = definition.model_dump(exclude={"version"})
    return write_event(name, {"event_id": definition.event_id, "occurred_at": definition.updated_at, **values})


def _fields(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in ("event_id", "occurred_at")}


def _refused(model: type[BaseModel], error: ValidationError) -> InvalidDefinition:
    found = []
    code = None
    for entry in error.errors(include_url=False, include_context=False):
        text = entry["msg"].removeprefix("Value error, ")
        if text.startswith(PERIOD_NOT_KEPT):
            code, text = PERIOD_NOT_KEPT, text.removeprefix(f"{PERIOD_NOT_KEPT}: ")
        where = ".".join(map(str, entry["loc"]))
        if not where and text.partition(": ")[0] in model.model_fields:  # of the whole, but about one field
            where, _, text = text.partition(": ")
        found.append((where, text))
    return InvalidDefinition(
        f"{model.__name__}: {'; '.join(': '.join(filter(None, problem)) for problem in found)}",
        code=code,
        problems=found,
    )
