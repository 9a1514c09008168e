"""Where metrics have usage: the windows of one metric, and metric keys with usage and no definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

    from meterfold_sink.client import Client

__all__ = ["MetricUsage", "UndefinedMetric", "metric_usage", "monthly_totals", "undefined_metrics"]

_EXAMPLES: Final = 1000
_OF_METRIC: Final = """
FROM usage_windows FINAL
WHERE metric_key = {metric_key:String}
    AND ({everyone:UInt8} OR org_id = {org_id:String}) AND NOT has({except_orgs:Array(String)}, org_id)
"""
_FINAL: Final = {"do_not_merge_across_partitions_select_final": 1}


@dataclass(frozen=True, slots=True)
class MetricUsage:
    """The stored windows of one metric; a subject has one lifetime window.

    `newest`: monthly windows, the newest and then the busiest first, at most 1000. Columns: org_id, subject_type,
    subject_id, period_start, record_count, sum, min, max, last.
    """

    windows: int
    subjects: int
    newest: pa.Table


def monthly_totals(client: Client, org_id: str) -> pa.Table:
    """Every month of an organization's metrics and subjects: metric_key, subject_id, month, total (Decimal(38, 9)), in
    that order."""
    sql = (
        "SELECT metric_key, subject_id, period_start AS month, total_quantity AS total FROM usage_monthly "
        "WHERE org_id = {org_id:String} ORDER BY metric_key, subject_id, month"
    )
    return client.query(sql, {"org_id": org_id})


def metric_usage(
    client: Client, metric_key: str, org_id: str | None = None, except_orgs: Sequence[str] = ()
) -> MetricUsage:
    """The windows of a metric: of one organization, or (None) of every one but those in `except_orgs`.

    Reads the keys of all windows, which takes seconds where there are tens of millions. Raises Retryable or Fatal.
    """
    parameters: dict[str, Any] = {
        "metric_key": metric_key,
        "everyone": int(org_id is None),
        "org_id": org_id or "",
        "except_orgs": list(except_orgs),
        "examples": _EXAMPLES,
    }
    counts = f"SELECT toInt64(count()) AS windows, toInt64(countIf(period_type = 'lifetime')) AS subjects {_OF_METRIC}"
    (row,) = client.rows(counts, parameters, _FINAL)
    newest = client.query(
        "SELECT org_id, subject_type, subject_id, period_start, record_count, sum, min, max, last "
        f"{_OF_METRIC} AND period_type = 'monthly' "
        "ORDER BY period_start DESC, record_count DESC, org_id, subject_type, subject_id LIMIT {examples:UInt32}",
        parameters,
        _FINAL,
    )
    return MetricUsage(row["windows"], row["subjects"], newest)


@dataclass(frozen=True, slots=True)
class UndefinedMetric:
    """A metric key that has usage this month or last month, and no definition for these organizations.

    `organizations`: up to three of them. `records` are those of both months. `deleted`: the key had a definition;
    `elsewhere`: other organizations have one. `guess` is the defined key that looks most like it, if any.
    """

    key: str
    organizations: tuple[str, ...]
    organization_count: int
    records: int
    last_used: datetime
    deleted: bool
    elsewhere: bool
    guess: str | None


_SINCE: Final = "toDateTime64(toStartOfMonth(now('UTC') - INTERVAL 1 MONTH), 6, 'UTC')"
#: The keys of both months, which are nearly always all defined: two columns, in the order of the sort key.
_UNKNOWN: Final = f"""
WITH defined AS (SELECT org_id, key FROM metric_definitions FINAL WHERE deleted = 0)
SELECT org, key
FROM
(
    SELECT toString(w.org_id) AS org, toString(w.metric_key) AS key
    FROM
    (
        SELECT org_id, metric_key
        FROM usage_windows
        WHERE period_type = 'monthly' AND period_start >= {_SINCE}
            AND ({{everyone:UInt8}} OR org_id = {{org_id:String}})
        GROUP BY partition, period_type, period_start, org_id, metric_key
    ) AS w
    GROUP BY org, key
)
WHERE key NOT IN (SELECT key FROM defined WHERE org_id = '') AND (org, key) NOT IN (SELECT org_id, key FROM defined)
"""  # noqa: S608
#: Only where there is one, and by the sort key.
_UNDEFINED: Final = f"""
SELECT
    toString(w.metric_key) AS key,
    groupArrayDistinct(3)(toString(w.org_id)) AS organizations,
    toInt64(uniqExact(w.org_id)) AS organization_count,
    toInt64(sum(w.record_count)) AS records,
    max(w.last_timestamp) AS last_used,
    toString(w.metric_key) IN (SELECT key FROM metric_definitions FINAL WHERE deleted = 1) AS deleted
FROM usage_windows AS w FINAL
WHERE w.period_type = 'monthly' AND w.period_start >= {_SINCE}
    AND (w.org_id, w.metric_key) IN ({_UNKNOWN})
GROUP BY w.metric_key
ORDER BY records DESC, key
LIMIT {{limit:UInt32}}
"""  # noqa: S608


def undefined_metrics(client: Client, *, org_id: str | None = None, limit: int = 20) -> list[UndefinedMetric]:
    """Metric keys with usage this month or last month and without a definition, those with the most records first.

    `org_id` None looks at every organization. Raises Retryable or Fatal.
    """
    parameters: dict[str, Any] = {"everyone": int(org_id is None), "org_id": org_id or "", "limit": limit}
    in_order = {"optimize_aggregation_in_order": 1}
    if not client.rows(f"{_UNKNOWN} LIMIT 1", parameters, in_order):
        return []
    found = client.rows(_UNDEFINED, parameters, {**_FINAL, **in_order})
    keys = client.rows("SELECT DISTINCT key FROM metric_definitions FINAL WHERE deleted = 0 ORDER BY key")
    known = [row["key"] for row in keys]
    return [
        UndefinedMetric(
            key=row["key"],
            organizations=tuple(sorted(row["organizations"])),
            organization_count=row["organization_count"],
            records=row["records"],
            last_used=row["last_used"],
            deleted=bool(row["deleted"]),
            elsewhere=row["key"] in known,
            guess=None if row["key"] in known else next(iter(get_close_matches(row["key"], known, 1)), None),
        )
        for row in found
    ]
