"""Rows of usage_adjustments: what has moved since it was closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from meterfold_sink.closing_checksum import IN_ORDER
from meterfold_sink.keyset import Key, Keys, Position, RowPage, micros_of, read_page

if TYPE_CHECKING:
    from meterfold_schemas.periods import Period
    from meterfold_sink.client import Client

__all__ = ["ADJUSTMENT_KEYS", "list_adjustments"]

_COLUMNS: Final = (
    "org_id, metric_key, subject_type, subject_id, period_type, period_start, period_end, closed_at, revised_at, "
    "old_quantity, new_quantity, difference, old_count, new_count, old_sum, new_sum, partition, offsets"
)
ADJUSTMENT_KEYS: Final[Keys] = (
    micros_of("period_start"),
    Key("toString(period_type)"),
    *map(Key, ("metric_key", "org_id", "subject_type", "subject_id")),
    micros_of("closed_at"),
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
    offset: int = 0,
    after: Position | None = None,
) -> RowPage[dict[str, Any]]:
    """Rows by period, metric, subject and closing. Periods begin in [start, end), UTC microseconds. Raises Retryable or
    Fatal."""
    conditions, parameters = ["1"], dict[str, Any]()
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
    select = f"SELECT {_COLUMNS} FROM usage_adjustments WHERE {' AND '.join(conditions)}"  # noqa: S608
    return read_page(
        client, select, ADJUSTMENT_KEYS, parameters, limit=limit, offset=offset, after=after, settings=IN_ORDER
    )
