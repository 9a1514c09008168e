"""Notifications: what became of deliveries."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from meterfold_service.http.models.values import Answer, Body, ListOf, PageQuery, PlainText, Time

__all__ = [
    "Delivery",
    "DeliveryList",
    "DeliveryQuery",
    "DeliveryTry",
    "Endpoint",
    "EndpointList",
    "EndpointToEnable",
    "Redelivered",
    "RedeliveryRequest",
    "TestRequest",
    "TryList",
]

State = Literal["pending", "sending", "retrying", "delivered", "failed", "expired", "disabled"]
Channel = Literal["email", "webhook", "chat"]


class DeliveryQuery(PageQuery):
    """Which deliveries."""

    state: State | None = None
    channel: Channel | None = None
    target: PlainText | None = None
    event_id: PlainText | None = None
    org_id: PlainText | None = None
    threshold_id: PlainText | None = None
    alert_id: PlainText | None = None
    start: Time | None = Field(default=None, description="Of events at this time or later.")
    end: Time | None = Field(default=None, description="Of events before this time.")
    sort: PlainText | None = Field(
        default=None, description="`-occurred_at` (default) or `occurred_at`.", examples=["occurred_at"]
    )


class Delivery(Answer):
    """An event to one target."""

    occurred_at: Time
    event_id: str
    event_type: str
    channel: str
    target: str
    org_id: str
    threshold_id: str
    alert_id: str
    metric_key: str | None = Field(
        description="Of the alert. Null: the event is about an endpoint, or the checker has not copied the alert yet."
    )
    subject_type: str | None
    subject_id: str | None
    state: str = Field(examples=["delivered"])
    round: int
    attempts: int
    due_at: Time
    status: int = Field(description="HTTP status or SMTP code of the last answer; 0 without one.")
    error: str
    last_try_at: Time | None


class DeliveryList(ListOf[Delivery]):
    """A page of deliveries."""


class DeliveryTry(Answer):
    """A try; attempt 0 is the plan."""

    occurred_at: Time
    event_id: str
    event_type: str
    channel: str
    target: str
    round: int
    attempt: int
    state: str
    status: int
    error: str
    due_at: Time
    started_at: Time | None
    ended_at: Time | None


class TryList(ListOf[DeliveryTry]):
    """A page of the tries of one event, by target."""


class RedeliveryRequest(Body):
    """Which deliveries to send again. Needs `start` or `event_id`."""

    start: Time | None = None
    end: Time | None = None
    channel: Channel | None = None
    target: PlainText | None = None
    event_id: PlainText | None = None
    org_id: PlainText | None = None
    threshold_id: PlainText | None = None
    states: list[State] = Field(default=["failed", "expired", "disabled"], max_length=10)


class Redelivered(Answer):
    """How many deliveries are sent again."""

    deliveries: int


class TestRequest(Body):
    """Where to send a test message."""

    channel: Channel
    target: PlainText = Field(min_length=1, examples=["https://example.com/hook"])


class EndpointToEnable(Body):
    """A webhook to send to again."""

    endpoint: PlainText = Field(min_length=1, examples=["https://example.com/hook"])
    by: PlainText | None = Field(default=None, description="Default: the name of the token.")


class Endpoint(Answer):
    """A webhook that has failed."""

    endpoint: str
    state: str = Field(examples=["disabled"])
    since: Time
    reason: str
    changed_at: Time


class EndpointList(ListOf[Endpoint]):
    """A page of webhooks."""
