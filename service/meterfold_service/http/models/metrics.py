"""Metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, StrictBool, StrictInt

from meterfold_schemas.definitions import Dimensions, MetricKey, SomeText, Text
from meterfold_schemas.vocabulary import AggregationType, ResetPeriod
from meterfold_service.http.models.thresholds import Threshold
from meterfold_service.http.models.values import (
    Answer,
    Changes,
    JsonObject,
    ListOf,
    Number,
    PageQuery,
    PlainText,
    Query,
    Time,
)

if TYPE_CHECKING:
    from meterfold_service.metrics import changes

__all__ = [
    "Metric",
    "MetricChange",
    "MetricChanges",
    "MetricContent",
    "MetricList",
    "MetricQuery",
    "OrganizationQuery",
]

_KEY = "1 to 200 characters of `a-z`, `0-9`, `_`, `.` and `-`; unique per organization."
_ORGANIZATION = "The organization; empty: every organization. Default: that of the token, else every organization."


class MetricChanges(Changes):
    """What to change of a metric. Usage that exists is not counted again: its totals follow the new definition."""

    name: SomeText = Field(default="", description="For people.", examples=["API calls"])
    unit: SomeText = Field(default="", examples=["calls"])
    description: PlainText | None = None
    aggregation_type: AggregationType = Field(default=AggregationType.SUM, description="What the total of a period is.")
    reset_period: ResetPeriod = Field(default=ResetPeriod.MONTHLY, description="When usage starts from 0 again.")
    precision: StrictInt = Field(default=2, ge=0, le=9, description="Digits shown behind the decimal point.")
    category: Text | None = None
    display_order: StrictInt = Field(default=0, ge=-(2**31), le=2**31 - 1)
    dimensions: Dimensions = Field(
        default=(), max_length=10, description="Metadata fields that usage is grouped by.", examples=[["model"]]
    )
    metadata: dict[str, Any] | None = None
    is_active: StrictBool = True


class MetricContent(MetricChanges):
    """A metric to define."""

    key: MetricKey = Field(description=_KEY, examples=["api.calls"])
    name: SomeText = Field(description="For people.", examples=["API calls"])
    unit: SomeText = Field(examples=["calls"])
    org_id: Text | None = Field(default=None, description=_ORGANIZATION)


class Metric(Answer):
    """A metric as it is defined."""

    id: str
    key: str = Field(examples=["api.calls"])
    name: str
    description: str | None
    unit: str
    aggregation_type: AggregationType
    reset_period: ResetPeriod
    precision: int
    org_id: str = Field(description="Empty: every organization without a definition of its own.")
    category: str | None
    display_order: int
    dimensions: list[str]
    metadata: JsonObject | None
    is_active: bool
    created_at: Time
    updated_at: Time
    version: int = Field(description="The offset of the definition on the topic metric.defined.")


class Undefined(Answer):
    """A metric key with usage this month or last month, and without a definition."""

    key: str
    organizations: list[str] = Field(description="Up to three of them.")
    organization_count: int
    records: int
    last_used: Time
    deleted: bool
    elsewhere: bool = Field(description="Other organizations define the key.")
    guess: str | None = Field(description="The defined key that looks most like it.")


class MetricList(ListOf[Metric]):
    """A page of metrics."""

    undefined: list[Undefined]


class ChangedField(Answer):
    """A field that decides what totals say."""

    field: str = Field(examples=["aggregation_type"])
    before: str | bool
    after: str | bool


class ChangedWindow(Answer):
    """The total of one month of one subject. Null: no total."""

    org_id: str
    subject_type: str
    subject_id: str
    period_start: Time
    before: Number | None
    after: Number | None


class MetricChange(Answer):
    """What a change of a metric does to usage that exists, as its organizations see it."""

    changes_anything: bool = Field(description="Whether totals or thresholds that exist say something else afterwards.")
    before: Metric
    after: Metric | None = Field(description="Null: the metric is not defined then.")
    fields: list[ChangedField]
    windows: int = Field(description="Stored windows of the metric. None of them is counted again.")
    subjects: int
    example: ChangedWindow | None = Field(description="One of the newest totals that change.")
    resting: list[Threshold] = Field(description="Thresholds that judge now and will not.")
    judging: list[Threshold] = Field(description="Thresholds that will judge the new totals.")

    @classmethod
    def made(cls, change: changes.MetricChange) -> Self:
        fields = [{"field": name, "before": before, "after": after} for name, (before, after) in change.fields.items()]
        names = ("changes_anything", "before", "after", "example", "resting", "judging")
        return cls.model_validate(
            {
                **{name: getattr(change, name) for name in names},
                "fields": fields,
                "windows": change.usage.windows,
                "subjects": change.usage.subjects,
            }
        )


class OrganizationQuery(Query):
    """Whose definition."""

    org_id: PlainText | None = Field(default=None, description=_ORGANIZATION)


class MetricQuery(PageQuery):
    """Which metrics."""

    org_id: PlainText | None = Field(
        default=None,
        description="Only metrics of this organization; empty: those of every organization. Default: all that the "
        "token may see.",
    )
    category: PlainText | None = None
    is_active: bool | None = None
    sort: PlainText | None = Field(
        default=None,
        description="`display_order` (default), `key`, `name`, `created_at` or `updated_at`; `-` in front: in reverse.",
        examples=["-updated_at"],
    )
