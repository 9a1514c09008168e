"""Which subjects have usage, and of which metrics. Read from the lifetime windows: one for each subject and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.quantities import exact_unscaled, to_decimal
from meterfold_schemas.totals import WindowValues, total_of
from meterfold_schemas.vocabulary import AggregationType

if TYPE_CHECKING:
    from meterfold_sink.client import Client
    from meterfold_sink.small import Parameter

__all__ = ["KnownSubject", "SubjectMetric", "find_subjects", "metrics_of_subject"]

# Without FINAL: an older version of a window is no later than the newest one. First the windows that were used last, by
# their times alone where no text is given; then the rows of their subjects, by id, which the index finds.
_NEWEST: Final = """
SELECT toString(org) AS org_id, toString(kind) AS subject_type, id AS subject_id, max(used) AS last_used,
    toInt64(sum(count()) OVER ()) AS windows
FROM
(
    SELECT w.org_id AS org, w.subject_type AS kind, w.subject_id AS id, w.last_timestamp AS used
    FROM usage_windows AS w
    WHERE {conditions}
    ORDER BY {first} used DESC
    LIMIT {{newest:UInt64}}
)
GROUP BY org, kind, id
ORDER BY {first} last_used DESC, org_id, subject_type, subject_id
LIMIT {{limit:UInt32}}
"""
_LIFETIME: Final = "w.period_type = 'lifetime' AND toYYYYMM(w.period_start) = 197001"
_MATCHING: Final = (
    "(positionCaseInsensitive(w.subject_id, {text:String}) > 0 "
    "OR positionCaseInsensitive(toString(w.subject_type), {text:String}) > 0)"
)
_COUNTED: Final = f"""
SELECT toString(w.org_id) AS org_id, toString(w.subject_type) AS subject_type, w.subject_id AS subject_id,
    toInt64(uniqExact(w.metric_key)) AS metrics
FROM usage_windows AS w
WHERE {_LIFETIME} AND w.subject_id IN {{ids:Array(String)}} AND w.org_id IN {{orgs:Array(String)}}
GROUP BY org_id, subject_type, subject_id
"""  # noqa: S608
_WINDOWS_EACH: Final = 100
"""Windows that are looked at for each subject of the answer: its metrics, and versions that are not merged yet."""
_EVERY: Final = 2**62
_AT_ONCE: Final = 100
"""Subjects of one statement, whose ids travel in a URL."""
# Both windows of each metric in one statement, also without FINAL: the newest version of a row has the highest
# folded_through.
_METRICS: Final = """
WITH w.period_type = 'monthly' AS is_month
SELECT
    toString(w.metric_key) AS metric_key,
    toInt64(maxIf(w.record_count, NOT is_month)) AS records,
    max(w.last_timestamp) AS last_used,
    toInt64(maxIf(w.record_count, is_month)) AS month_records,
    argMaxIf(w.sum, w.folded_through, is_month) AS month_sum,
    argMaxIf(w.min, w.folded_through, is_month) AS month_min,
    argMaxIf(w.max, w.folded_through, is_month) AS month_max,
    argMaxIf(w.last, w.folded_through, is_month) AS month_last
FROM usage_windows AS w
WHERE (w.period_type, w.period_start) IN (
        ('lifetime', toDateTime64(0, 6, 'UTC')), ('monthly', fromUnixTimestamp64Micro({month:Int64}, 'UTC')))
    AND w.org_id = {org_id:String} AND w.subject_type = {subject_type:String} AND w.subject_id = {subject_id:String}
GROUP BY metric_key
ORDER BY records DESC, metric_key
LIMIT {limit:UInt32}
"""


@dataclass(frozen=True, slots=True)
class KnownSubject:
    """A subject with usage: of how many metrics, and the latest time of its usage."""

    org_id: str
    subject_type: str
    subject_id: str
    metrics: int
    last_used: datetime


@dataclass(frozen=True, slots=True)
class SubjectMetric:
    """A metric of one subject: all events that were ever counted, the latest time of its usage, and the window of one
    month; without events in it `month_records` is 0 and the amounts mean nothing."""

    metric_key: str
    records: int
    last_used: datetime
    month_records: int
    month_sum: Decimal
    month_min: Decimal
    month_max: Decimal
    month_last: Decimal

    def month_total(self, kind: str) -> Decimal | None:
        """The total of the month by an aggregation type; None without events in it."""
        if not self.month_records:
            return None
        amounts = map(exact_unscaled, (self.month_sum, self.month_min, self.month_max, self.month_last))
        return to_decimal(total_of(AggregationType(kind), WindowValues(self.month_records, *amounts)))


def find_subjects(client: Client, text: str, *, org_id: str | None, limit: int) -> Sequence[KnownSubject]:
    """Subjects whose id or type contains `text`, an equal id first, then those used last. Raises Retryable or Fatal."""
    conditions = [_LIFETIME]
    values: dict[str, Parameter] = {"limit": limit, "newest": limit * _WINDOWS_EACH}
    if org_id is not None:
        conditions.append("w.org_id = {org_id:String}")
        values["org_id"] = org_id
    if text:
        conditions.append(_MATCHING)
        values["text"] = text
    sql = _NEWEST.format(conditions=" AND ".join(conditions), first="id = {text:String} DESC," if text else "")
    rows = client.rows(sql, values)
    if 0 < len(rows) < limit and rows[0]["windows"] >= limit * _WINDOWS_EACH:
        rows = client.rows(sql, {**values, "newest": _EVERY})  # subjects with more windows than that
    metrics = _metrics_of(client, rows)
    return [
        KnownSubject(
            *(name := (row["org_id"], row["subject_type"], row["subject_id"])), metrics[name], row["last_used"]
        )
        for row in rows
    ]


def _metrics_of(client: Client, subjects: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], int]:
    """(organization, type, id) -> how many metrics the subject has used."""
    found: dict[tuple[str, str, str], int] = {}
    for first in range(0, len(subjects), _AT_ONCE):
        some = subjects[first : first + _AT_ONCE]
        names = {"ids": sorted({row["subject_id"] for row in some}), "orgs": sorted({row["org_id"] for row in some})}
        for row in client.rows(_COUNTED, names):
            found[row["org_id"], row["subject_type"], row["subject_id"]] = row["metrics"]
    return found


def metrics_of_subject(
    client: Client, subject: tuple[str, str], *, org_id: str, month: int, limit: int = 200
) -> Sequence[SubjectMetric]:
    """The metrics of one subject, the busiest first. `month` begins at this instant in UTC microseconds. Raises
    Retryable or Fatal."""
    values: dict[str, Parameter] = {
        "subject_type": subject[0],
        "subject_id": subject[1],
        "org_id": org_id,
        "month": month,
        "limit": limit,
    }
    return [SubjectMetric(**row) for row in client.rows(_METRICS, values)]
