"""Usage: records, summaries, and what exports are asked for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meterfold_service.exports.results import Format
from meterfold_service.http.models.values import (
    Answer,
    JsonObject,
    ListOf,
    Number,
    PageQuery,
    PlainText,
    SubjectQuery,
    Time,
)

__all__ = [
    "ExportQuery",
    "RecordList",
    "RecordQuery",
    "Summary",
    "SummaryList",
    "SummaryQuery",
    "UsageRecord",
]

PeriodName = Literal["hourly", "daily", "weekly", "monthly", "yearly", "lifetime", "billing"]
_START = "Start, included."
_END = "End, not included. Default: now."


class Filtered(SubjectQuery):
    """By metadata fields."""

    where: list[PlainText] = Field(
        default_factory=list,
        max_length=100,
        description="`field=value`: only usage with this value of a metadata field. Repeatable: values of one field "
        "are alternatives.",
        examples=[["region=eu"]],
    )
    missing: list[PlainText] = Field(
        default_factory=list, max_length=100, description="Only usage without this metadata field. Repeatable."
    )


class RecordQuery(Filtered, PageQuery):
    """Whose records, and from when until when."""

    start: Time = Field(description=_START)
    end: Time | None = Field(default=None, description=_END)
    org_id: PlainText | None = Field(
        default=None, description="Organization. Default: that of the token, else subjects without one."
    )


class UsageRecord(Answer):
    """One counted event."""

    id: str
    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    quantity: Number
    source: str | None
    resource_type: str | None
    resource_id: str | None
    metadata: JsonObject | None
    timestamp: Time
    received_at: Time = Field(description="When Kafka stored the event.")
    partition: int = Field(description="With `offset`: the position of the event on the topic usage.recorded.")
    offset: int


class RecordList(ListOf[UsageRecord]):
    """A page of records by timestamp and offset."""

    total_quantity: Number | None = Field(
        description="Of all records of the list, by the metric's aggregation type. Null without records, or a metric."
    )


class SummaryQuery(Filtered, PageQuery):
    """Which periods, of whom, and how they are grouped."""

    start: Time = Field(description="The period that contains it is the first one.")
    end: Time | None = Field(default=None, description="Periods that begin before it are shown. Default: now.")
    period: PeriodName = Field(default="monthly", description="`billing` periods begin on the day `anchor`.")
    tz: PlainText | None = Field(
        default=None, description="IANA time zone of the periods. Default: UTC.", examples=["Europe/Berlin"]
    )
    anchor: int | None = Field(
        default=None, ge=1, le=31, description="Day of the month on which billing periods begin."
    )
    org_id: PlainText | None = Field(
        default=None, description="Organization. Default: that of the token, else subjects without one."
    )
    every_org: bool = Field(default=False, description="All organizations, each in rows of its own.")
    group_by: list[PlainText] = Field(
        default_factory=list,
        max_length=11,
        description="Metadata fields, or `subject`. Repeatable.",
        examples=[["model"]],
    )
    unique: PlainText | None = Field(
        default=None, description="Also count the distinct values of this metadata field, or of `subject`."
    )
    top: int | None = Field(
        default=None, ge=1, le=10_000, description="Only this many groups with the largest totals of each period."
    )
    empty: bool = Field(default=False, description="Also show periods in which nothing was recorded.")


class Summary(Answer):
    """The usage of one period. Where nothing was recorded, quantities are null."""

    org_id: str
    metric_key: str
    subject_type: str | None
    subject_id: str | None
    period_type: PeriodName
    period_start: Time
    period_end: Time | None = Field(description="Not included; null: a lifetime has no end.")
    total_quantity: Number | None = Field(description="By the metric's aggregation type; null without a definition.")
    record_count: int
    sum: Number | None
    min_quantity: Number | None
    max_quantity: Number | None
    avg_quantity: Number | None
    last_quantity: Number | None
    is_final: bool = Field(description="The period and its grace period are over, by the stamps of the events.")
    updated_at: Time | None = Field(description="Everything that had arrived until then is in the numbers.")
    group: dict[str, str | None] = Field(description="The value of each metadata field that was grouped by.")
    unique_count: int | None


class SummaryList(ListOf[Summary]):
    """A page of summaries, by period."""


class ExportQuery(SubjectQuery):
    """Which rows, and in which format."""

    format: Format = Field(default=Format.JSONL, description="The format of the stream.")
    metric_key: PlainText | None = None
    org_id: PlainText | None = Field(
        default=None, description="Only this organization; empty: subjects without one. Default: all of the token."
    )
    start: Time | None = Field(default=None, description="Start, included. Default: no limit.")
    end: Time | None = Field(default=None, description="End, not included. Default: no limit.")
    period: Literal["hourly", "daily", "weekly", "monthly", "yearly", "lifetime"] | None = Field(
        default=None, description="Of summaries (default: daily) and adjustments (default: all)."
    )
    partial: bool = Field(default=False, description="Export the records that are left if some have expired.")
    safe_for_spreadsheets: bool = Field(
        default=False, description="In CSV, put an apostrophe before text that a spreadsheet runs as a formula."
    )
