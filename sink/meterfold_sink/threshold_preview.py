"""What a threshold would find if it judged now: current windows of its subjects, by the level they have reached."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.periods import micros, period_start
from meterfold_sink.thresholds import IS_DEFINED, IS_REPLACED, RANK, RANK_OF_ROW

if TYPE_CHECKING:
    from meterfold_schemas.definitions import UsageThreshold
    from meterfold_sink.client import Client

__all__ = ["Reached", "reached"]

_GIVEN: Final = {name: f"{{{name}:Nullable(String)}}" for name in ("org_id", "subject_type", "subject_id")}
_SQL: Final = f"""
WITH
    narrower AS
    (
        SELECT org_id, subject_type, subject_id
        FROM thresholds FINAL
        WHERE NOT deleted AND is_active AND id != {{id:String}}
            AND metric_key = {{metric_key:String}} AND name = {{name:String}}
            AND {RANK_OF_ROW} > {RANK.format(**_GIVEN)}
    ),
    definers AS
    (
        SELECT org_id, is_active FROM metric_definitions FINAL WHERE NOT deleted AND key = {{metric_key:String}}
    )
SELECT
    toInt64(count()) AS windows,
    toInt64(countIf(total_quantity >= {{threshold:Decimal(38, 9)}})) AS exceeded,
    toInt64(countIf(total_quantity >= {{warn_threshold:Decimal(38, 9)}})) - exceeded AS approaching
FROM usage_summaries
WHERE period_type = {{period_type:String}} AND period_start = fromUnixTimestamp64Micro({{start:Int64}}, 'UTC')
    AND metric_key = {{metric_key:String}}
    AND ({_GIVEN["org_id"]} IS NULL OR org_id = {_GIVEN["org_id"]})
    AND ({_GIVEN["subject_type"]} IS NULL OR subject_type = {_GIVEN["subject_type"]})
    AND ({_GIVEN["subject_id"]} IS NULL OR subject_id = {_GIVEN["subject_id"]})
    AND NOT {IS_REPLACED} AND {IS_DEFINED}
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Reached:
    """Current windows with usage of the subjects that a threshold judges, and how many of them have reached a level."""

    windows: int = 0
    exceeded: int = 0
    approaching: int = 0


def reached(client: Client, threshold: UsageThreshold, now: datetime) -> Reached:
    """As the values are now, whether the threshold is stored or not. An inactive one judges nothing. Reads the windows
    of the current period of the metric. Raises Retryable or Fatal."""
    if not threshold.is_active:
        return Reached()
    names = ("id", "metric_key", "name", "threshold", "warn_threshold", *_GIVEN)
    parameters: dict[str, Any] = {
        **{name: getattr(threshold, name) for name in names},
        "period_type": threshold.period_type.value,
        "start": period_start(threshold.period_type, micros(now)),
    }
    (row,) = client.rows(_SQL, parameters)
    return Reached(**row)
