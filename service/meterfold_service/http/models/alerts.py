"""Alerts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meterfold_schemas.definitions import SomeText
from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Action, AlertStatus, Level
from meterfold_service.http.models.values import Answer, Body, ListOf, Number, PageQuery, PlainText, SubjectQuery, Time

__all__ = ["Alert", "AlertAct", "AlertList", "AlertQuery"]


class Alert(Answer):
    """A level that was reached: one alert per threshold, subject, period, level and crossing."""

    id: str
    threshold_id: str
    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_type: Period
    period_start: Time
    period_end: Time | None
    level: Level
    crossing: int
    threshold: Number
    actual_value: Number = Field(description="When it was triggered.")
    percentage_used: Number
    action: Action
    status: AlertStatus
    acknowledged_by: str | None
    acknowledged_at: Time | None
    resolved_by: str | None = Field(description="Null where the value fell back or the period ended.")
    resolved_at: Time | None
    triggered_at: Time


class AlertList(ListOf[Alert]):
    """A page of alerts."""


class AlertQuery(SubjectQuery, PageQuery):
    """Which alerts."""

    metric_key: PlainText | None = None
    org_id: PlainText | None = Field(default=None, description="Empty: of subjects without an organization.")
    threshold_id: PlainText | None = None
    status: AlertStatus | None = None
    level: Literal["approaching", "exceeded"] | None = None
    since: Time | None = Field(default=None, description="Triggered then or later.")
    sort: PlainText | None = Field(
        default=None,
        description="`-triggered_at` (default) or `-percentage_used`; without the `-` in reverse.",
        examples=["-percentage_used"],
    )


class AlertAct(Body):
    """Who acts on an alert."""

    by: SomeText | None = Field(default=None, description="A person or a program. Default: the name of the token.")
