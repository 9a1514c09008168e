"""Thresholds, and where they are."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, StrictBool, WithJsonSchema

from meterfold_schemas.definitions import KeptPeriod, MetricKey, Quantity, SomeText, Text
from meterfold_schemas.periods import Period
from meterfold_schemas.quantities import QUANTITY_PATTERN
from meterfold_schemas.vocabulary import Action
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

__all__ = [
    "ListedThreshold",
    "NearestQuery",
    "NearestWindows",
    "SubjectThresholds",
    "Threshold",
    "ThresholdChange",
    "ThresholdChanges",
    "ThresholdContent",
    "ThresholdList",
    "ThresholdQuery",
    "WatchedSubjects",
]

Value = Annotated[
    Quantity, WithJsonSchema({"anyOf": [{"type": "string", "pattern": QUANTITY_PATTERN}, {"type": "number"}]})
]


class ThresholdChanges(Changes):
    """What to change of a threshold: everything but whom it watches, and its period."""

    name: SomeText = Field(default="", examples=["monthly quota"])
    threshold: Value = Field(default=Decimal(1), description="Greater than 0.", examples=["1000"])
    warn_threshold: PlainText | None = Field(
        default=None, description="A quantity, or a percentage of the threshold. Default: 80%.", examples=["90%"]
    )
    action: Action = Field(default=Action.ALERT, description="What the application should do.")
    notify_emails: list[SomeText] = Field(default_factory=list, max_length=100, examples=[["ops@example.com"]])
    notify_webhook: PlainText | None = Field(default=None, max_length=2048, examples=["https://example.com/hook"])
    is_active: StrictBool = True
    metadata: dict[str, Any] | None = None


class ThresholdContent(ThresholdChanges):
    """A threshold to create: a value to watch on one metric, of one subject, a type of subjects, or every subject."""

    metric_key: MetricKey = Field(examples=["api.calls"])
    name: SomeText = Field(examples=["monthly quota"])
    threshold: Value = Field(description="Greater than 0.", examples=["1000"])
    org_id: Text | None = Field(
        default=None,
        description="Empty: subjects without an organization. Default: that of the token, else every organization.",
    )
    subject_type: SomeText | None = Field(default=None, description="Default: every type.", examples=["user"])
    subject_id: SomeText | None = Field(default=None, description="With `subject_type`. Default: every subject.")
    period_type: KeptPeriod | None = Field(default=None, description="Default: the metric's reset period.")


class Threshold(Answer):
    """A threshold as it is defined."""

    id: str
    org_id: str | None = Field(description="Null: every organization.")
    metric_key: str
    subject_type: str | None
    subject_id: str | None
    name: str
    threshold: Number
    warn_threshold: Number
    period_type: Period
    action: Action
    notify_emails: list[str]
    notify_webhook: str | None
    is_active: bool
    metadata: JsonObject | None
    created_at: Time = Field(description="It judges periods that end later.")
    updated_at: Time
    version: int = Field(description="The offset of the definition on the topic threshold.defined.")


class WindowNow(Answer):
    """A current period of one subject."""

    org_id: str
    subject_type: str
    subject_id: str
    period_start: Time
    period_end: Time | None
    level: str = Field(examples=["approaching"])
    value: Number | None
    percentage_used: Number | None
    updated_at: Time | None


class Standing(Answer):
    """The current periods that have reached a level, the highest first; counts are of all of them."""

    windows: list[WindowNow]
    exceeded: int
    approaching: int


class ListedThreshold(Answer):
    """A threshold, and where it is now."""

    threshold: Threshold
    standing: Standing
    resting: str | None = Field(description="Why it judges nothing now.")
    notes: list[str]


class ThresholdList(ListOf[ListedThreshold]):
    """A page of thresholds."""


class ThresholdQuery(PageQuery):
    """Which thresholds."""

    org_id: PlainText | None = Field(default=None, description="Only those that name this organization.")
    metric_key: PlainText | None = None
    subject_type: PlainText | None = None
    subject_id: PlainText | None = None
    is_active: bool | None = None
    windows: int = Field(default=20, ge=0, le=1000, description="The most current periods of each threshold.")
    sort: PlainText | None = Field(
        default=None,
        description="`scope` (default), `name`, `created_at` or `updated_at`; `-` in front: in reverse.",
        examples=["-created_at"],
    )


class NearestQuery(Query):
    """How many."""

    limit: int = Field(default=10, ge=1, le=1000, description="The most windows.")


class JudgedWindow(Answer):
    """A current period that an active threshold judges."""

    threshold_id: str
    name: str
    metric_key: str
    period_type: Period = Field(description="That of the threshold.")
    threshold: Number
    action: Action
    window: WindowNow


class NearestWindows(Answer):
    """The current periods that are approaching a threshold or exceed it, the highest percentage first."""

    data: list[JudgedWindow]


class SubjectThresholds(Answer):
    """The thresholds that judge a subject, each with its current period; the highest level first."""

    data: list[JudgedWindow]


class Reached(Answer):
    """Current periods with usage of the subjects that a threshold judges."""

    windows: int
    exceeded: int = Field(description="At or above the threshold.")
    approaching: int = Field(description="At or above the warn threshold, and below the threshold.")


class ThresholdChange(Answer):
    """What a change of a threshold does at once."""

    changes_anything: bool = Field(description="Whether a level is reached or left, or other periods are judged.")
    before: Threshold | None = Field(description="Null: it is new.")
    after: Threshold | None = Field(description="Null: it is deleted.")
    reached_before: Reached
    reached_after: Reached


class SubjectGroup(Answer):
    """The subjects of one type in one organization."""

    org_id: str
    subject_type: str
    subjects: int


class WatchedSubjects(Answer):
    """Of the subjects that have used the metric: how many the threshold judges, and why the others are not."""

    watched: int
    subjects: int
    matching: int
    replaced: int = Field(description="Judged by a narrower threshold of the same name.")
    undefined: int = Field(description="In organizations where the metric is not active.")
    groups: list[SubjectGroup] = Field(description="The largest ones of all, where none is watched.")
