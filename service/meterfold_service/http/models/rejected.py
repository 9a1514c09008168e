"""Rejected messages, and sending them again."""

from __future__ import annotations

import base64
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Self

from pydantic import Field

from meterfold_schemas.quantities import number_text
from meterfold_service.http.models.values import Answer, Body, ListOf, PageQuery, PlainText, Query, SubjectQuery, Time
from meterfold_service.rejected.results import Redrive, RejectedMessage

__all__ = [
    "RedriveAllRequest",
    "RedriveReport",
    "RedriveRequest",
    "Rejected",
    "RejectedCounts",
    "RejectedFilter",
    "RejectedList",
    "RejectedQuery",
]

Reason = Literal["undecodable", "invalid", "too_old", "in_future", "misrouted"]


class RejectedFilter(SubjectQuery):
    """Which rejected messages."""

    reason: Reason | None = None
    org_id: PlainText | None = Field(default=None, description="As far as it could be read.")
    metric_key: PlainText | None = None
    partition: int | None = Field(default=None, ge=0, lt=2**31)
    since: Time | None = Field(default=None, description="Received at this time or later.")
    until: Time | None = Field(default=None, description="Received before this time.")
    redriven: bool | None = Field(default=None, description="Whether it was sent again.")


class RejectedQuery(RejectedFilter, PageQuery):
    """Which page of them."""

    sort: PlainText | None = Field(
        default=None, description="`-received_at` (default) or `received_at`.", examples=["received_at"]
    )


class RejectedCounts(Answer):
    """How many messages there are."""

    total: int
    reasons: dict[str, int]


class MessagePosition(Body):
    """A message of the topic usage.recorded."""

    partition: int = Field(ge=0, lt=2**31)
    offset: int = Field(ge=0, lt=2**63)


class Redriven(Answer):
    """What became of a message that was sent again."""

    state: str = Field(examples=["counted"])
    at: Time
    by: str
    note: str
    partition: int | None = Field(description="Where it was sent; null: not sent yet.")
    offset: int | None
    detail: str

    @classmethod
    def made(cls, redrive: Redrive) -> Self:
        sent = redrive.sent
        return cls(
            state=redrive.state,
            at=redrive.at,
            by=redrive.by,
            note=redrive.note,
            partition=None if sent is None else sent.partition,
            offset=None if sent is None else sent.offset,
            detail=redrive.detail,
        )


class Rejected(Answer):
    """A message that was rejected, and what can be read of it."""

    partition: int
    offset: int
    received_at: Time
    reason: str
    detail: str
    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    key: str = Field(description="Base64 of the original bytes.")
    value: str = Field(description="Base64 of the original bytes.")
    format: str | None = Field(description="The schema that it could be read with.")
    fields: dict[str, Any] = Field(description="What can be read.")
    problems: dict[str, str]
    problem: str | None
    redrive: Redriven | None

    @classmethod
    def of(cls, value: RejectedMessage) -> Self:
        event = value.event
        return cls(
            partition=value.position.partition,
            offset=value.position.offset,
            received_at=value.received_at,
            reason=value.reason,
            detail=value.detail,
            org_id=value.org_id,
            metric_key=value.metric_key,
            subject_type=value.subject_type,
            subject_id=value.subject_id,
            key=base64.b64encode(value.key).decode("ascii"),
            value=base64.b64encode(value.value).decode("ascii"),
            format=event.format,
            fields={name: _shown(one) for name, one in event.fields.items()},
            problems=dict(event.problems),
            problem=event.problem,
            redrive=None if value.redrive is None else Redriven.made(value.redrive),
        )


class RejectedList(ListOf[Rejected]):
    """A page of rejected messages."""


class Fields(Body):
    """What is changed before a message is sent again."""

    fields: dict[str, Any] = Field(
        default_factory=dict,
        description="These replace fields of the event; null removes one. A `timestamp` may be `received_at`.",
        examples=[{"timestamp": "received_at"}],
    )
    drop: list[PlainText] = Field(default_factory=list, max_length=100, description="Fields to leave out.")


class Correction(Fields, MessagePosition):
    """What is changed in one message before it is sent again."""


class HowToRedrive(Body):
    """How messages are sent again."""

    read_as: PlainText | None = Field(default=None, description="Read the bytes with this schema.")
    by: PlainText | None = Field(default=None, description="Default: the name of the token.")
    note: PlainText = ""
    dry_run: bool = False


class RedriveRequest(HowToRedrive):
    """Messages to send again."""

    messages: list[Correction] = Field(min_length=1, max_length=1000)


class RedriveAllRequest(HowToRedrive, Fields):
    """Which messages to send again, all with the same correction. Without a filter: every one."""

    reason: Reason | None = None
    org_id: PlainText | None = Field(default=None, description="As far as it could be read.")
    metric_key: PlainText | None = None
    subject_type: PlainText | None = Field(default=None, description="With `subject_id`.")
    subject_id: PlainText | None = Field(default=None, description="With `subject_type`.")
    partition: int | None = Field(default=None, ge=0, lt=2**31)
    since: Time | None = Field(default=None, description="Received at this time or later.")
    until: Time | None = Field(default=None, description="Received before this time.")
    limit: int | None = Field(
        default=None, ge=1, lt=2**31, description="The most messages, by partition and arrival. Default: all."
    )


class Refusal(Query):
    """A message that was not sent again, and why."""

    partition: int
    offset: int
    why: str


class RedriveReport(Answer):
    """What was sent again."""

    dry_run: bool
    sent: int
    already: int = Field(description="Sent again before.")
    refused_total: int
    refused: list[Refusal]
    states: dict[str, int] = Field(description="What became of what was sent, as far as it was waited for.")

    @classmethod
    def of(cls, value: Any) -> Self:
        refused = [
            {"partition": o.position.partition, "offset": o.position.offset, "why": o.why} for o in value.refused
        ]
        names = ("dry_run", "sent", "already", "refused_total")
        return cls.model_validate(
            {**{name: getattr(value, name) for name in names}, "refused": refused, "states": dict(value.states)}
        )


def _shown(value: Any) -> Any:
    if isinstance(value, Decimal):
        return number_text(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value
