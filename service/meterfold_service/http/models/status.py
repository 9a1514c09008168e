"""The state of an installation."""

from __future__ import annotations

from pydantic import Field

from meterfold_service.http.models.values import Answer, Time

__all__ = ["FoldTotals", "Status"]


class PartitionStatus(Answer):
    """A partition of usage.recorded. Offsets are the next to read; null where a server did not say."""

    partition: int
    state: str = Field(description="`ok`, `behind`, `stuck`, `held` or `lost`.", examples=["ok"])
    log_start: int | None
    log_end: int | None
    next_offset: int | None
    lag: int | None
    waiting_seconds: float | None
    counted: int | None
    duplicates: int | None
    rejected: int | None
    last_stamp: Time | None
    flushed_at: Time | None
    checker_lag: int | None
    checker_waiting_seconds: float | None


class Status(Answer):
    """What `meterfold status` shows."""

    at: Time
    well: bool
    silent: list[str] = Field(description="Servers that did not answer.")
    problems: list[str] = Field(description="What is wrong, where, and what to do; empty when all is well.")
    notes: list[str]
    partitions: list[PartitionStatus]
    counted: int | None
    duplicates: int | None
    rejected: int | None


class FoldTotals(Answer):
    """What the fold has stored. `read` = `counted` + `duplicates` + `rejected` + `empty`."""

    at: Time
    partitions: int
    read: int = Field(description="Offsets that were read since the fold began.")
    counted: int
    duplicates: int
    rejected: int
    empty: int = Field(description="Markers of transactions, and messages that had expired.")
    last_stamp: Time | None = Field(description="When the last event that was read had arrived.")
    flushed_at: Time | None
