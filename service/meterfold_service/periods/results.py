"""What the operations on periods answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterfold_sink.closing_recount import WindowDifference

__all__ = ["Adjustment", "CloseRun", "ClosingFailure", "DuePeriod", "DuePeriods", "PeriodClosing"]


@dataclass(frozen=True, slots=True)
class PeriodClosing:
    """One closing of the period [period_start, period_end).

    `metric_key` is empty where every metric was closed. `revision` counts the closings of the period from 1. `checksum`
    (SHA-256) covers the windows and their numbers; `record_count` is the number of counted events in them.
    `next_offsets`: partition -> the offset below which every event is in the numbers. `is_new`: this call has stored
    it; False where the period was closed with the same numbers before.
    """

    period_type: str
    period_start: datetime
    period_end: datetime
    metric_key: str
    revision: int
    checksum: str
    window_count: int
    record_count: int
    next_offsets: Mapping[int, int]
    closed_at: datetime
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class ClosingFailure:
    """A period that was not closed, with the error's code and text. `differences` are the first of `total`."""

    period_type: str
    period_start: datetime
    code: str
    message: str
    total: int = 0
    differences: tuple[WindowDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class CloseRun:
    """Several periods. `remaining`: periods beyond the limit. `expired`: see DuePeriods."""

    closings: tuple[PeriodClosing, ...]
    failures: tuple[ClosingFailure, ...]
    remaining: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True)
class DuePeriod:
    """A period that has ended. `reason`: "not closed", or "moved" where a late event has changed it since."""

    period_type: str
    period_start: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class DuePeriods:
    """`rows` from the earliest on; `total` counts all, and `cursor` asks for the next ones. `expired`: periods without
    a closing whose records may have expired within the last two months; they are not due, since they cannot be
    recounted."""

    rows: tuple[DuePeriod, ...]
    total: int
    expired: int
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A window that has moved since it was closed at `closed_at`.

    The old quantity is None where the window did not exist; quantities are by the metric's aggregation type, and None
    without a definition. `revised_at`: when the new numbers were closed, None if they are not. `offsets`: of the events
    that moved it, on `partition` of usage.recorded, up to 1,000, while their records are kept.
    """

    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_type: str
    period_start: datetime
    period_end: datetime
    closed_at: datetime
    revised_at: datetime | None
    old_quantity: Decimal | None
    new_quantity: Decimal | None
    difference: Decimal | None
    old_count: int
    new_count: int
    old_sum: Decimal
    new_sum: Decimal
    partition: int
    offsets: tuple[int, ...]
