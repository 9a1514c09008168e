"""The usage records of one subject, page by page, with their total."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas import usage_fields
from meterfold_schemas.periods import micros
from meterfold_sink.rules import FoldRules
from meterfold_sink.total_sql import average, total
from meterfold_sink.usage_groups import field_conditions, field_parameters

if TYPE_CHECKING:
    from meterfold_sink.client import Client
    from meterfold_sink.keyset import Position
    from meterfold_sink.usage_groups import FieldFilter
    from meterfold_sink.usage_states import Of

__all__ = ["RecordPage", "usage_records"]

# An event's timestamp says when its record arrived, within the rules: so the months and the sort key help. Rows of one
# offset are equal, so a condition before FINAL is right.
_RECORDS: Final = """
FROM usage_records FINAL
PREWHERE partition = {partition:Int32}
    AND received_at >= fromUnixTimestamp64Micro({arrived_from:Int64}, 'UTC')
    AND received_at <= fromUnixTimestamp64Micro({arrived_until:Int64}, 'UTC')
    AND org_id = {org_id:String} AND metric_key = {metric_key:String}
    AND subject_type = {subject_type:String} AND subject_id = {subject_id:String}
    AND timestamp >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')
    AND timestamp < fromUnixTimestamp64Micro({end:Int64}, 'UTC')
WHERE :filters
"""
_FILTERS: Final = ":filters"
_PAGE: Final = f"""
SELECT
    {", ".join(usage_fields.NAMES)}, received_at, partition, offset
{_RECORDS}
    AND (toUnixTimestamp64Micro(timestamp), usage_records.offset) > ({{after_timestamp:Int64}}, {{after_offset:Int64}})
ORDER BY timestamp, usage_records.offset
LIMIT {{limit:UInt64}}
"""
_TYPE: Final = """
SELECT argMax(CAST(aggregation_type, 'String'), length(org_id)) FROM metric_definitions FINAL
WHERE deleted = 0 AND key = {metric_key:String} AND org_id IN ({org_id:String}, '')
"""
_TOTAL: Final = f"""
WITH
    ({_TYPE}) AS total_by,
    {average("sum(toDecimal256(quantity, 9))", "count()")} AS unscaled_avg
SELECT
    toInt64(count()) AS total,
    if(total = 0, NULL, {
    total(
        "total_by",
        count="total",
        sum_="sum(toDecimal256(quantity, 9))",
        unscaled_avg="unscaled_avg",
        highest="max(quantity)",
        lowest="min(quantity)",
        latest="argMax(quantity, (timestamp, offset))",
    )
}) AS total_quantity
{_RECORDS}
"""


@dataclass(frozen=True, slots=True)
class RecordPage:
    """`rows` with the columns of usage_records, by timestamp and offset. `total` and `total_quantity` (by the metric's
    type; None without records or definition) are of all records that were asked for, not of the page. `end`: the
    timestamp (UTC microseconds) and offset of the last row, if more are behind it."""

    rows: list[dict[str, Any]]
    total: int
    total_quantity: Decimal | None
    end: tuple[int, int] | None


def usage_records(
    client: Client,
    rules: FoldRules,
    of: Of,
    start: int,
    end: int,
    *,
    filters: tuple[FieldFilter, ...] = (),
    after: Position | None = None,
    limit: int = 100,
) -> RecordPage:
    """The records of one subject of one organization with start <= timestamp < end, in UTC microseconds, that pass all
    `filters`. `after`: only those behind this (timestamp, offset). Raises Retryable or Fatal.
    """
    arrived_from, arrived_until = rules.arrivals(start, end)
    parameters: dict[str, Any] = {
        **of.parameters(rules),
        "arrived_from": arrived_from,
        "arrived_until": arrived_until,
        "start": start,
        "end": end,
        **field_parameters(filters),
    }
    passing = " AND ".join(["1", *field_conditions(filters)])
    after_timestamp, after_offset = after or (start, -1)
    position = {"after_timestamp": after_timestamp, "after_offset": after_offset, "limit": limit + 1}
    rows = client.rows(_PAGE.replace(_FILTERS, passing), {**parameters, **position})
    (total,) = client.rows(_TOTAL.replace(_FILTERS, passing), parameters)
    last = (micros(rows[limit - 1]["timestamp"]), rows[limit - 1]["offset"]) if len(rows) > limit else None
    return RecordPage(rows[:limit], total["total"], total["total_quantity"], last)
