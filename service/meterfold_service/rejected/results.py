"""What the operations on rejected messages answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from meterfold_schemas.usage import UsageRecorded
from meterfold_service.rejected.decoding import DecodedEvent

__all__ = ["Position", "Redrive", "RedriveReport", "RedriveState", "Refusal", "RejectedMessage"]

RedriveState = Literal["not sent", "not folded", "counted", "duplicate", "rejected", "expired"]


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A message of usage.recorded."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Redrive:
    """The one event that a rejected message is sent again as.

    `sent` is its position, and `state` what the fold made of it there. "not sent": it was recorded and perhaps not
    sent, because the command broke off: repeat it. "expired": its row is gone. `detail` says why it was rejected again,
    or where a duplicate was counted.
    """

    state: RedriveState
    at: datetime
    by: str
    note: str
    event: UsageRecorded
    sent: Position | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A message that the fold rejected for `reason`. Organization, metric and subject are as far as they could be read.
    `event` is what can be read of it."""

    position: Position
    received_at: datetime
    reason: str
    detail: str
    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    key: bytes = field(repr=False)
    value: bytes = field(repr=False)
    event: DecodedEvent
    redrive: Redrive | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message was not sent again."""

    position: Position
    why: str


@dataclass(frozen=True, slots=True)
class RedriveReport:
    """`sent` messages were sent again, or would be in a dry run; `already` were before. `refused` has the first of
    `refused_total`. `events` are the first of those that were sent. `states`: what became of what was sent, as far as
    it was waited for."""

    dry_run: bool
    sent: int
    already: int
    refused_total: int
    refused: tuple[Refusal, ...]
    events: tuple[tuple[Position, UsageRecorded], ...]
    states: Mapping[RedriveState, int]
