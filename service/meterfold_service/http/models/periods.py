"""Closed periods, and what has moved since."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from meterfold_service.http.models.values import (
    Answer,
    Body,
    ListOf,
    Number,
    PageQuery,
    PlainText,
    Query,
    SubjectQuery,
    Time,
)
from meterfold_service.pages import MAX_LIMIT

__all__ = [
    "Adjustment",
    "AdjustmentList",
    "AdjustmentQuery",
    "Closable",
    "CloseRun",
    "ClosingList",
    "ClosingQuery",
    "ClosingVersionQuery",
    "DueList",
    "DuePeriodsToClose",
    "DueQuery",
    "PeriodClosing",
    "PeriodToClose",
    "PeriodsToClose",
]

Closable = Literal["hourly", "daily", "monthly"]
MostPeriods = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="The most periods to close, the earliest first.")]


class PeriodToClose(Body):
    """A period to close."""

    period: Closable = Field(default="monthly")
    start: Time = Field(description="The start of the period in UTC.", examples=["2026-10-01T00:00:00Z"])
    metric_key: PlainText | None = Field(default=None, description="Default: every metric.")


class PeriodsToClose(PeriodToClose):
    """Periods to close: those that lie from `start` to `end`."""

    end: Time = Field(description="The end of the last period in UTC.", examples=["2026-11-01T00:00:00Z"])
    limit: MostPeriods = 100


class DuePeriodsToClose(Body):
    """Which of the due periods to close."""

    period: list[Closable] = Field(default_factory=list, max_length=3, description="Default: all.")
    limit: MostPeriods = 100


class PeriodClosing(Answer):
    """A closing: the numbers of a period as they were proved and stored."""

    period_type: Closable
    period_start: Time
    period_end: Time
    metric_key: str = Field(description="Empty: every metric.")
    revision: int = Field(description="Closings of the period are counted from 1.")
    checksum: str = Field(description="SHA-256 of the windows and their numbers.")
    window_count: int
    record_count: int
    next_offsets: dict[int, int] = Field(description="Partition: every event below this offset is in the numbers.")
    closed_at: Time
    is_new: bool = Field(description="This request has stored it.")


class WindowDifference(Answer):
    """A stored window that is not what its records add up to."""

    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_start: Time
    partition: int
    finding: str
    stored_count: int
    recounted_count: int
    stored_sum: Number
    recounted_sum: Number


class ClosingFailure(Answer):
    """A period that was not closed, with the code and the text of the error."""

    period_type: Closable
    period_start: Time
    code: str = Field(examples=["WINDOWS_DIFFER"])
    message: str
    total: int = Field(description="How many windows differ.")
    differences: list[WindowDifference] = Field(description="The first of them.")


class CloseRun(Answer):
    """What became of several periods. One that cannot be closed does not keep the others from it."""

    closings: list[PeriodClosing]
    failures: list[ClosingFailure]
    remaining: int = Field(
        description="Periods beyond the limit: repeat the request, for a range from the end of the last period here."
    )
    expired: int = Field(description="Periods that were never closed and cannot be any more: their records expired.")


class ClosingVersionQuery(Query):
    """Which closing of a period."""

    metric_key: PlainText | None = Field(default=None, description="Default: the closing of every metric.")
    revision: int | None = Field(default=None, ge=1, lt=2**31, description="Default: the newest.")


class ClosingList(ListOf[PeriodClosing]):
    """A page of closings, the latest period first."""


class ClosingQuery(PageQuery):
    """Which closings."""

    period: Closable | None = None
    start: Time | None = Field(default=None, description="Periods that begin at this time or later.")
    end: Time | None = Field(default=None, description="Periods that begin before this time.")
    metric_key: PlainText | None = Field(default=None, description="Empty: closings of every metric together.")
    newest: bool = Field(default=False, description="Only the newest closing of each period.")


class DuePeriod(Answer):
    """A period that has ended and is not closed, or has moved since."""

    period_type: Closable
    period_start: Time
    reason: str = Field(examples=["not closed"])


class DueList(ListOf[DuePeriod]):
    """A page of periods to close, the earliest first."""

    expired: int = Field(description="Periods that were never closed and cannot be any more: their records expired.")


class DueQuery(PageQuery):
    """Which periods."""

    period: list[Closable] = Field(default_factory=list, max_length=3, description="Default: all. Repeatable.")


class Adjustment(Answer):
    """A window that has moved since it was closed: what to credit or invoice."""

    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_type: Closable
    period_start: Time
    period_end: Time
    closed_at: Time
    revised_at: Time | None = Field(description="When the new numbers were closed.")
    old_quantity: Number | None
    new_quantity: Number | None
    difference: Number | None
    old_count: int
    new_count: int
    old_sum: Number
    new_sum: Number
    partition: int
    offsets: list[int] = Field(description="Of the events that moved it, up to 1,000.")


class AdjustmentList(ListOf[Adjustment]):
    """A page of adjustments, by period."""


class AdjustmentQuery(SubjectQuery, PageQuery):
    """Which adjustments."""

    period: Closable | None = None
    start: Time | None = Field(default=None, description="Periods that begin at this time or later.")
    end: Time | None = Field(default=None, description="Periods that begin before this time.")
    metric_key: PlainText | None = None
    org_id: PlainText | None = None
