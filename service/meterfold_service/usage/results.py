"""What usage.get and usage.getSummary answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition

__all__ = ["SubjectUsage", "UsagePage", "UsageRecord", "UsageSummary"]


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One counted event. `metadata` is JSON text; `received_at` the broker's stamp; partition and offset its position
    on usage.recorded."""

    id: str
    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    quantity: Decimal
    source: str | None
    resource_type: str | None
    resource_id: str | None
    metadata: str | None
    timestamp: datetime
    received_at: datetime
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class UsagePage:
    """`records` of one page, by timestamp and offset. `total` counts all records from start to end that pass the
    filter; `total_quantity` is theirs by the metric's aggregation type, and None where there are none, or no
    definition. `cursor` asks for the next page; None after the last one."""

    records: tuple[UsageRecord, ...]
    total: int
    total_quantity: Decimal | None
    cursor: str | None


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """The usage of one period [period_start, period_end), which is never longer than its calendar says and never ends
    for a lifetime.

    Subject fields are None where subjects are added up. `group`: the value of each metadata field that was
    grouped by; None for records without it. `unique_count`: the number of distinct values of the field that was asked
    for; None if none was.

    Where nothing was recorded, `record_count` is 0 and every quantity None; recorded quantities that add up to 0 are 0.
    `total_quantity` is by the metric's aggregation type, and None where the organization has no definition. `is_final`:
    the period and the grace after it are over, by the stamps of every partition that is in it. `updated_at`: everything
    that had arrived until then is in the numbers.
    """

    org_id: str
    metric_key: str
    subject_type: str | None
    subject_id: str | None
    period_type: str
    period_start: datetime
    period_end: datetime | None
    total_quantity: Decimal | None
    record_count: int
    sum: Decimal | None
    min_quantity: Decimal | None
    max_quantity: Decimal | None
    avg_quantity: Decimal | None
    last_quantity: Decimal | None
    is_final: bool
    updated_at: datetime | None
    group: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    unique_count: int | None = None


@dataclass(frozen=True, slots=True)
class SubjectUsage:
    """A metric that a subject has used: `records` are all events that were ever counted, `last_used` the latest time of
    its usage. `month_total` is by the definition `metric` as the organization sees it; None without a definition, or
    without events in the month."""

    metric_key: str
    metric: MetricDefinition | None
    records: int
    last_used: datetime
    month_records: int
    month_total: Decimal | None
