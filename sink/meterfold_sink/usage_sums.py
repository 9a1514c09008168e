"""Sums of usage over any spans of time: from stored windows, and from records for parts of an hour.

The types of totals are those of the view usage_summaries; sums of sums are computed in 256 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.periods import HOUR, MICROS_PER_SECOND, from_micros
from meterfold_sink.rules import FoldRules
from meterfold_sink.total_sql import average, total
from meterfold_sink.usage_states import RECORDS, arrival, ranges_of, states

if TYPE_CHECKING:
    from meterfold_sink.client import Client
    from meterfold_sink.usage_groups import Grouping
    from meterfold_sink.usage_states import Of, Piece

__all__ = ["MissingRecords", "UsageSum", "first_kept_hour", "missing_records", "usage_sums"]

_SETTINGS: Final = {"do_not_merge_across_partitions_select_final": 1, "max_query_size": 1 << 26}


@dataclass(frozen=True, slots=True)
class UsageSum:
    """One row: the state of all usage in it, and its total by the metric's type (None: the organization has no
    definition). `partitions`: those whose usage is in it. Subject fields are None where subjects are added up.
    `field_values`: of the metadata fields that it is grouped by, None for a missing one. `unique_count`: the distinct
    values of the field that was asked for, else None."""

    number: int
    org_id: str
    subject_type: str | None
    subject_id: str | None
    field_values: tuple[str | None, ...]
    total: Decimal | None
    record_count: int
    sum: Decimal
    min: Decimal
    max: Decimal
    avg: Decimal
    last: Decimal
    unique_count: int | None
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MissingRecords:
    """An hour whose window has counted more records than are kept. Every record of `kept_from` and later is kept."""

    hour: datetime
    missing: int
    kept_from: datetime


_TOTALS: Final = f"""
WITH
    (SELECT any(aggregation_type) FROM definitions WHERE org_id = '') AS global_type,
    if(ifNull(d.aggregation_type, '') != '', ifNull(d.aggregation_type, ''), ifNull(global_type, '')) AS total_by,
    {average("u.total_sum", "u.total_count")} AS unscaled_avg
SELECT
    u.number AS number,
    u.org AS org_id,
    u.type_of AS subject_type,
    u.id_of AS subject_id,
    u.field_values AS field_values,
    {
    total(
        "total_by",
        count="u.total_count",
        sum_="u.total_sum",
        unscaled_avg="unscaled_avg",
        highest="u.highest",
        lowest="u.lowest",
        latest="u.latest",
    )
} AS total,
    u.total_count AS record_count,
    u.total_sum AS sum,
    u.lowest AS min,
    u.highest AS max,
    toDecimal256(unscaled_avg, 9) / 1000000000 AS avg,
    u.latest AS last,
    u.distinct_values AS unique_count,
    u.used_partitions AS partitions
"""  # noqa: S608


def usage_sums(
    client: Client,
    rules: FoldRules,
    of: Of,
    pieces: Sequence[Piece],
    *,
    grouping: Grouping,
    top: int | None,
    limit: int,
    offset: int,
) -> tuple[list[UsageSum], int]:
    """Rows that have usage, by number, organization, subject and metadata fields, and how many there are in all. `top`:
    only this many of each number and organization, those with the largest total first.

    Raises Retryable or Fatal. Records that have expired are missing from the answer: ask `missing_records` afterwards.
    """
    parameters = {**of.parameters(rules), **grouping.parameters(), "limit": limit, "offset": offset}
    parameters["closed_fields"] = list(grouping.metadata_fields)
    order = "number, org_id, subject_type, subject_id, field_values"
    limit_by = ""
    if top is not None:
        order = "number, org_id, total DESC NULLS LAST, subject_type, subject_id, field_values"
        limit_by, parameters["top"] = "LIMIT {top:UInt64} BY number, org_id", top
    sql = f"""
WITH definitions AS
(
    SELECT org_id, toString(aggregation_type) AS aggregation_type
    FROM metric_definitions FINAL
    WHERE deleted = 0 AND key = {{metric_key:String}}
)
SELECT *, toInt64(count() OVER ()) AS rows_in_all
FROM
(
    {_TOTALS}
    FROM ({states(rules, of, pieces, grouping)}) AS u
    LEFT ANY JOIN definitions AS d ON d.org_id = u.org
    ORDER BY {order}
    {limit_by}
)
ORDER BY {order}
LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}
"""  # noqa: S608
    rows = client.rows(sql, parameters, _SETTINGS)
    total = rows[0].pop("rows_in_all") if rows else 0
    if not rows and offset:
        return [], usage_sums(client, rules, of, pieces, grouping=grouping, top=top, limit=1, offset=0)[1]
    for row in rows:
        row.pop("rows_in_all", None)
    return [_usage_sum(row) for row in rows], total


def _usage_sum(row: dict[str, Any]) -> UsageSum:
    values, partitions = tuple(row["field_values"]), tuple(sorted(row["partitions"]))
    return UsageSum(**{**row, "field_values": values, "partitions": partitions})


def missing_records(
    client: Client, rules: FoldRules, of: Of, pieces: Iterable[Piece], now: int
) -> MissingRecords | None:
    """The first hour of the RECORDS pieces whose records are not all kept, at `now` (UTC microseconds).

    Only hours whose records may have expired are looked at: in a newer one the fold may be at work, which is no loss.
    """
    kept_from = first_kept_hour(rules, now)
    hours = [
        (piece.start - piece.start % HOUR, min(_hour_after(piece.end), kept_from))
        for piece in pieces
        if piece.kind == RECORDS and piece.start < kept_from
    ]
    if not hours:
        return None
    where = " AND ".join(of.conditions())
    sql = f"""
SELECT hour, toInt64(sum(counted) - sum(kept)) AS missing
FROM
(
    SELECT toUnixTimestamp64Micro(period_start) AS hour, record_count AS counted, toInt64(0) AS kept
    FROM usage_windows FINAL
    WHERE period_type = 'hourly' AND {where} AND ({ranges_of("period_start", hours)})
    UNION ALL
    SELECT intDiv(toUnixTimestamp64Micro(timestamp), {HOUR}) * {HOUR} AS hour, toInt64(0), toInt64(1)
    FROM usage_records FINAL
    PREWHERE {where} AND ({ranges_of("timestamp", hours)}) AND {arrival(rules, hours)}
)
GROUP BY hour
HAVING missing > 0
ORDER BY hour
LIMIT 1
"""  # noqa: S608
    rows = client.rows(sql, of.parameters(rules), _SETTINGS)
    if not rows:
        return None
    return MissingRecords(from_micros(rows[0]["hour"]), rows[0]["missing"], from_micros(kept_from))


def first_kept_hour(rules: FoldRules, now: int) -> int:
    """The first hour of which no record can have expired at `now`; both in UTC microseconds."""
    return _hour_after(now - (rules.kept_seconds - 1) * MICROS_PER_SECOND)


def _hour_after(instant: int) -> int:
    return instant + -instant % HOUR
