"""Questions of the applications: usage records with their total, and summaries, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa

from meterfold_schemas import usage_fields
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import Period, micros
from meterfold_schemas.vocabulary import AggregationType
from meterfold_sink.client import Client
from meterfold_sink.rules import FoldRules

__all__ = ["SummaryPage", "UsagePage", "get_summaries", "get_usage"]

MAX_LIMIT: Final = 10_000

# An event's timestamp says when its record arrived, within the rules: so the months and the sort key help.
_RECORDS: Final = """
FROM usage_records FINAL
WHERE partition = {partition:Int32}
    AND received_at >= fromUnixTimestamp64Micro({arrived_from:Int64}, 'UTC')
    AND received_at <= fromUnixTimestamp64Micro({arrived_until:Int64}, 'UTC')
    AND org_id = {org_id:String} AND metric_key = {metric_key:String}
    AND subject_type = {subject_type:String} AND subject_id = {subject_id:String}
    AND timestamp >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')
    AND timestamp < fromUnixTimestamp64Micro({end:Int64}, 'UTC')
"""
_COLUMNS: Final = ", ".join((*usage_fields.NAMES, "received_at", "partition", "offset"))
_TYPE: Final = """
SELECT argMax(CAST(aggregation_type, 'String'), length(org_id)) FROM metric_definitions FINAL
WHERE deleted = 0 AND key = {metric_key:String} AND org_id IN ({org_id:String}, '')
"""
#: The total of records by each aggregation type, as totals.total_of makes it of a window (a test compares them).
_TOTAL_OF: Final = MappingProxyType(
    {
        AggregationType.COUNT: "toDecimal256(total, 9)",
        AggregationType.SUM: "sum(toDecimal256(quantity, 9))",
        AggregationType.AVG: "toDecimal256(unscaled_avg, 9) / 1000000000",
        AggregationType.MAX: "toDecimal256(max(quantity), 9)",
        AggregationType.MIN: "toDecimal256(min(quantity), 9)",
        AggregationType.LAST: "toDecimal256(argMax(quantity, (timestamp, offset)), 9)",
    }
)


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Records of one page, ordered by timestamp and offset; `total` records and their quantity by the metric's type."""

    records: pa.Table
    total: int
    total_quantity: Decimal | None


@dataclass(frozen=True, slots=True)
class SummaryPage:
    """Rows of usage_summaries of one page, ordered by period and subject; `total` of them in all."""

    summaries: pa.Table
    total: int


def get_usage(
    client: Client,
    rules: FoldRules,
    *,
    metric_key: str,
    subject_type: str,
    subject_id: str,
    start: datetime,
    end: datetime,
    org_id: str = "",
    limit: int = 100,
    offset: int = 0,
) -> UsagePage:
    """One subject's records with start <= timestamp < end.

    `total_quantity` is None where there is no record, or no definition of the metric.
    """
    _check_page(limit, offset)
    first, last = micros(start), micros(end)
    arrived_from, arrived_until = rules.arrivals(first, last)
    parameters: dict[str, Any] = {
        "partition": partition_of(subject_key(org_id, metric_key, subject_type, subject_id), rules.partition_count),
        "arrived_from": arrived_from,
        "arrived_until": arrived_until,
        "org_id": org_id,
        "metric_key": metric_key,
        "subject_type": subject_type,
        "subject_id": subject_id,
        "start": first,
        "end": last,
        "limit": limit,
        "offset": offset,
    }
    records = client.query(
        f"SELECT {_COLUMNS} {_RECORDS} ORDER BY timestamp, usage_records.offset "
        "LIMIT {limit:UInt64} OFFSET {offset:UInt64}",
        parameters,
    )
    (total,) = client.rows(_totals(), parameters)
    return UsagePage(records, total["total"], total["total_quantity"])


def _totals() -> str:
    totals = ", ".join(f"total_by = '{kind}', {total}" for kind, total in _TOTAL_OF.items())
    return (
        "SELECT toInt64(count()) AS total, "
        f"({_TYPE}) AS total_by, "
        "toInt256(sum(toDecimal256(quantity, 9)) * 1000000000) AS unscaled, "
        "sign(unscaled) * intDiv(2 * abs(unscaled) + total, 2 * toInt256(greatest(total, 1))) AS unscaled_avg, "
        f"if(total = 0, NULL, multiIf({totals}, NULL)) AS total_quantity {_RECORDS}"
    )


def get_summaries(
    client: Client,
    *,
    metric_key: str,
    period_type: str,
    start: datetime,
    end: datetime | None = None,
    subject: tuple[str, str] | None = None,
    org_id: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> SummaryPage:
    """Summaries whose period_start lies in [start, end); `subject` is (type, id); org_id None means every org."""
    _check_page(limit, offset)
    conditions = [
        "period_type = {period_type:String}",
        "metric_key = {metric_key:String}",
        "period_start >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')",
    ]
    parameters: dict[str, Any] = {
        "period_type": Period(period_type).value,
        "metric_key": metric_key,
        "start": micros(start),
        "limit": limit,
        "offset": offset,
    }
    if end is not None:
        conditions.append("period_start < fromUnixTimestamp64Micro({end:Int64}, 'UTC')")
        parameters["end"] = micros(end)
    if subject is not None:
        conditions.append("subject_type = {subject_type:String} AND subject_id = {subject_id:String}")
        parameters["subject_type"], parameters["subject_id"] = subject
    if org_id is not None:
        conditions.append("org_id = {org_id:String}")
        parameters["org_id"] = org_id
    chosen = f"FROM usage_summaries WHERE {' AND '.join(conditions)}"
    summaries = client.query(
        f"SELECT * {chosen} ORDER BY period_start, org_id, subject_type, subject_id "
        "LIMIT {limit:UInt64} OFFSET {offset:UInt64}",
        parameters,
    )
    return SummaryPage(summaries, client.value(f"SELECT toInt64(count()) {chosen}", parameters))


def _check_page(limit: int, offset: int) -> None:
    if not 0 <= limit <= MAX_LIMIT or offset < 0:
        raise InvalidUsage(f"limit must be 0 to {MAX_LIMIT} and offset at least 0, not {limit} and {offset}")
