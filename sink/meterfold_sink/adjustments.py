"""Rows of usage_adjustments: what has moved since it was closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meterfold_sink.closing_checksum import BOUNDED

if TYPE_CHECKING:
    from meterfold_schemas.periods import Period
    from meterfold_sink.client import Client

__all__ = ["list_adjustments"]

_COLUMNS: Final = (
    "org_id, metric_key, subject_type, subject_id, period_type, period_start, period_end, closed_at, revised_at, "
    "old_quantity, new_quantity, difference, old_count, new_count, old_sum, new_sum, partition, offsets"
)


def list_adjustments(
    client: Client,
    *,
    period: Period | None,
    start: int | None,
    end: int | None,
    metric_key: str | None,
    org_id: str | None,
    subject: tuple[str, str] | None,
    limit: int,
    offset: int,
) -> tuple[list[dict[str, Any]], int]:
    """Rows by period, metric, subject and closing, and how many there are in all. Periods begin in [start, end), UTC
    microseconds. Raises Retryable or Fatal."""
    conditions, parameters = ["1"], dict[str, Any](limit=limit, offset=offset)
    texts = {
        "period_type": None if period is None else period.value,
        "metric_key": metric_key,
        "org_id": org_id,
        "subject_type": None if subject is None else subject[0],
        "subject_id": None if subject is None else subject[1],
    }
    for column, text in texts.items():
        if text is not None:
            conditions.append(f"{column} = {{{column}:String}}")
            parameters[column] = text
    for name, comparison, moment in (("start", ">=", start), ("end", "<", end)):
        if moment is not None:
            conditions.append(f"period_start {comparison} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')")
            parameters[name] = moment
    where = " AND ".join(conditions)
    order = "period_start, period_type, metric_key, org_id, subject_type, subject_id, closed_at"
    rows = client.rows(
        f"SELECT {_COLUMNS}, toInt64(count() OVER ()) AS rows_in_all FROM usage_adjustments WHERE {where} "  # noqa: S608
        f"ORDER BY {order} LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}",
        parameters,
        BOUNDED,
    )
    total = rows[0]["rows_in_all"] if rows else 0
    if not rows and offset:
        total = client.value(f"SELECT toInt64(count()) FROM usage_adjustments WHERE {where}", parameters)  # noqa: S608
    for row in rows:
        del row["rows_in_all"]
    return rows, total
