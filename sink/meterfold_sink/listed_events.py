"""The newest records of one metric, and who has used it, for interfaces that list events and subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas import usage_fields

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["newest_events", "used_by"]

_MICROS: Final = "fromUnixTimestamp64Micro({{{}:Int64}}, 'UTC')"
_SUBJECTS: Final = """
SELECT subject_id, min(period_start) AS first_day, max(period_start) AS last_day
FROM usage_windows FINAL
WHERE period_type = 'daily' AND org_id = {org_id:String} AND metric_key = {metric_key:String}
    AND subject_type = {subject_type:String} :more
GROUP BY subject_id
ORDER BY subject_id
LIMIT {limit:UInt64}
"""


def newest_events(
    client: Client,
    *,
    org_id: str,
    metric_key: str,
    first: int,
    last: int,
    arrived_from: int,
    arrived_until: int,
    subject_ids: Sequence[str] = (),
    ids: Sequence[str] = (),
    limit: int,
) -> list[dict[str, Any]]:
    """Records with first <= timestamp < last that arrived from `arrived_from` to before `arrived_until`, all in UTC
    microseconds, the newest first. `subject_ids`, `ids` (of resources): only these. Raises Retryable or Fatal."""
    conditions = [
        f"received_at >= {_MICROS.format('arrived_from')} AND received_at < {_MICROS.format('arrived_until')}",
        "org_id = {org_id:String} AND metric_key = {metric_key:String}",
        f"timestamp >= {_MICROS.format('first')} AND timestamp < {_MICROS.format('last')}",
    ]
    parameters: dict[str, Any] = {
        "org_id": org_id,
        "metric_key": metric_key,
        "first": first,
        "last": last,
        "arrived_from": arrived_from,
        "arrived_until": arrived_until,
        "limit": limit,
    }
    for name, values in (("subject_id", subject_ids), ("resource_id", ids)):
        if values:
            conditions.append(f"{name} IN {{{name}s:Array(String)}}")
            parameters[f"{name}s"] = list(values)
    sql = (
        f"SELECT {', '.join(usage_fields.NAMES)}, received_at, partition, offset FROM usage_records FINAL "  # noqa: S608
        f"PREWHERE {' AND '.join(conditions)} ORDER BY timestamp DESC, partition, offset DESC LIMIT {{limit:UInt64}}"
    )
    return client.rows(sql, parameters)


def used_by(
    client: Client, *, org_id: str, metric_key: str, subject_type: str, subject_id: str | None = None, limit: int
) -> list[dict[str, Any]]:
    """subject_id, first_day and last_day of usage of each subject of a type, by id. Raises Retryable or Fatal."""
    parameters: dict[str, Any] = {
        "org_id": org_id,
        "metric_key": metric_key,
        "subject_type": subject_type,
        "limit": limit,
    }
    more = ""
    if subject_id is not None:
        more, parameters["subject_id"] = "AND subject_id = {subject_id:String}", subject_id
    return client.rows(_SUBJECTS.replace(":more", more), parameters)
