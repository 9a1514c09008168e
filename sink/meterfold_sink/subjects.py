"""Which subjects have usage, and of which metrics. Read from the lifetime windows: one for each subject and metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meterfold_sink.client import Client
    from meterfold_sink.small import Parameter

__all__ = ["KnownSubject", "SubjectMetric", "find_subjects", "metrics_of_subject"]

# Without FINAL: an older version of a window is no later than the newest one.
_FIND: Final = """
SELECT toString(org_id) AS org_id, toString(subject_type) AS subject_type, subject_id,
    toInt64(uniqExact(metric_key)) AS metrics, max(last_timestamp) AS last_used
FROM usage_windows
WHERE period_type = 'lifetime' AND toYYYYMM(period_start) = 197001
    AND ({text:String} = '' OR positionCaseInsensitive(subject_id, {text:String}) > 0
        OR positionCaseInsensitive(toString(subject_type), {text:String}) > 0)
    AND ({everyone:UInt8} OR org_id = {org_id:String})
GROUP BY org_id, subject_type, subject_id
ORDER BY subject_id = {text:String} DESC, last_used DESC, org_id, subject_type, subject_id
LIMIT {limit:UInt32}
"""
_METRICS: Final = """
SELECT toString(metric_key) AS metric_key, toInt64(max(record_count)) AS records, max(last_timestamp) AS last_used
FROM usage_windows
WHERE period_type = 'lifetime' AND toYYYYMM(period_start) = 197001
    AND org_id = {org_id:String} AND subject_type = {subject_type:String} AND subject_id = {subject_id:String}
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
    """A metric of one subject: all events that were ever counted, and the latest time of its usage."""

    metric_key: str
    records: int
    last_used: datetime


def find_subjects(client: Client, text: str, *, org_id: str | None, limit: int) -> Sequence[KnownSubject]:
    """Subjects whose id or type contains `text`, an equal id first, then those used last. Raises Retryable or Fatal."""
    values: dict[str, Parameter] = {
        "text": text,
        "everyone": int(org_id is None),
        "org_id": org_id or "",
        "limit": limit,
    }
    return [KnownSubject(**row) for row in client.rows(_FIND, values)]


def metrics_of_subject(
    client: Client, subject: tuple[str, str], *, org_id: str, limit: int = 200
) -> Sequence[SubjectMetric]:
    """The metrics of one subject, the busiest first. Raises Retryable or Fatal."""
    values: dict[str, Parameter] = {
        "subject_type": subject[0],
        "subject_id": subject[1],
        "org_id": org_id,
        "limit": limit,
    }
    return [SubjectMetric(**row) for row in client.rows(_METRICS, values)]
