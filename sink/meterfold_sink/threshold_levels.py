"""The current state of thresholds: the level of each current window that has reached one, and its value.

The level follows from the mirrored events: a level holds while it was reached once more than it was left. The value is
that of usage_summaries, so it is as new as the fold; a level may be behind it by what the checker has before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final

from meterfold_schemas.periods import Period, from_micros, micros, period_end, period_start
from meterfold_schemas.totals import percentage_used
from meterfold_sink.client import Client

__all__ = ["NearWindow", "Standing", "WindowNow", "nearest_windows", "standings"]

_WIDE: Final = Context(prec=60)
_HUNDREDTH: Final = Decimal("0.01")
_LEVEL_ORDER: Final = ("exceeded", "approaching", "none")

_WINDOW: Final = "threshold_id, org_id, metric_key, subject_type, subject_id, period_type, period_start"
_CURRENT: Final = f"""
SELECT {_WINDOW}, reached AS level, latest_value FROM
(
    SELECT {_WINDOW},
        maxIf(crossing, level = 'exceeded' AND event_type = 'threshold.exceeded')
            > maxIf(crossing, level = 'exceeded' AND event_type = 'threshold.cleared') AS is_exceeded,
        maxIf(crossing, level = 'approaching' AND event_type = 'threshold.approaching')
            > maxIf(crossing, level = 'approaching' AND event_type = 'threshold.cleared') AS is_approaching,
        argMax(actual_value, occurred_at) AS latest_value,
        multiIf(is_exceeded, 'exceeded', is_approaching, 'approaching', 'none') AS reached
    FROM threshold_events FINAL
    WHERE (period_end IS NULL OR period_end > now64(6, 'UTC')) AND {{condition}}
        AND ({{{{seen_by:Nullable(String)}}}} IS NULL OR org_id = {{{{seen_by:Nullable(String)}}}})
    GROUP BY {_WINDOW}
)
"""  # noqa: S608
_LEVELS: Final = _CURRENT.format(condition="has({ids:Array(String)}, threshold_id)")
_NEAREST: Final = f"""
SELECT t.name AS name, t.threshold AS threshold, toString(t.action) AS action, l.threshold_id AS threshold_id,
    l.org_id AS org_id, l.metric_key AS metric_key, l.subject_type AS subject_type, l.subject_id AS subject_id,
    toString(l.period_type) AS period_type, l.period_start AS period_start, l.level AS level
FROM ({_CURRENT.format(condition="1")}) AS l
INNER JOIN (SELECT id, name, threshold, action FROM thresholds FINAL WHERE NOT deleted AND is_active) AS t
    ON t.id = l.threshold_id
WHERE l.level != 'none'
ORDER BY toFloat64(l.latest_value) / toFloat64(t.threshold) DESC, l.threshold_id, l.org_id, l.subject_id
LIMIT {{limit:UInt64}}
"""  # noqa: S608
_SHOWN: Final = (
    f"{_LEVELS} ORDER BY threshold_id, level != 'exceeded', level != 'approaching', latest_value DESC, subject_id"
)
_COUNTED: Final = f"SELECT threshold_id, level, toInt64(count()) AS n FROM ({_LEVELS}) GROUP BY threshold_id, level"  # noqa: S608
_VALUES: Final = """
SELECT org_id, metric_key, subject_type, subject_id, period_type, period_start, total_quantity, updated_at
FROM usage_summaries
WHERE period_type = {period_type:String} AND period_start = fromUnixTimestamp64Micro({start:Int64}, 'UTC')
    AND has({metric_keys:Array(String)}, metric_key) AND has({subject_ids:Array(String)}, subject_id)
    AND has({org_ids:Array(String)}, org_id)
"""
# A subject's id may be used in several organizations.
_SAME_SUBJECT: Final = """
SELECT org_id, metric_key, subject_type, subject_id, toString(w.period_type) AS period_type, period_start
FROM usage_windows AS w
WHERE w.period_type = {period_type:String} AND period_start = fromUnixTimestamp64Micro({start:Int64}, 'UTC')
    AND metric_key = {metric_key:String} AND subject_type = {subject_type:String} AND subject_id = {subject_id:String}
    AND NOT has({shown:Array(String)}, org_id)
    AND ({seen_by:Nullable(String)} IS NULL OR org_id = {seen_by:Nullable(String)})
GROUP BY org_id, metric_key, subject_type, subject_id, period_type, period_start
ORDER BY org_id
LIMIT {limit:UInt64}
"""


@dataclass(frozen=True, slots=True)
class WindowNow:
    """A current window of one subject of an organization ("": without one).

    `value` is None where nothing was counted in it; `percentage_used` is of the threshold; `updated_at`: everything
    that had arrived until then is in the value.
    """

    org_id: str
    subject_type: str
    subject_id: str
    period_start: datetime
    period_end: datetime | None
    level: str
    value: Decimal | None
    percentage_used: Decimal | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """`windows`: the highest ones first, at most as many as were asked for. The counts are of all current windows."""

    windows: tuple[WindowNow, ...]
    exceeded: int
    approaching: int


@dataclass(frozen=True, slots=True)
class NearWindow:
    """A current window that has reached a level of an active threshold."""

    threshold_id: str
    name: str
    metric_key: str
    threshold: Decimal
    action: str
    window: WindowNow


def nearest_windows(client: Client, *, limit: int, seen_by: str | None = None) -> list[NearWindow]:
    """The current windows that are approaching a threshold or exceed it, the highest percentage at their last event
    first. `seen_by`: those of this organization. Raises Retryable or Fatal."""
    rows = client.rows(_NEAREST, {"limit": limit, "seen_by": seen_by})
    values = _values(client, rows)
    names = ("threshold_id", "name", "metric_key", "threshold", "action")
    return [
        NearWindow(**{name: row[name] for name in names}, window=_window(row["threshold"], row, values)) for row in rows
    ]


def standings(
    client: Client,
    thresholds: Sequence[Mapping[str, Any]],
    *,
    limit: int,
    now: datetime | None = None,
    seen_by: str | None = None,
) -> dict[str, Standing]:
    """threshold id -> its current state, of rows of the table thresholds. Raises Retryable or Fatal.

    A threshold on one subject has its window, also where it has reached nothing; one of every organization has those
    of each organization that uses the metric for a subject of that name. `seen_by`: only those of this organization.
    """
    at = micros(now or datetime.now(UTC))
    parameters: dict[str, Any] = {"ids": [row["id"] for row in thresholds], "limit": limit, "seen_by": seen_by}
    shown = client.rows(f"{_SHOWN} LIMIT {{limit:UInt64}} BY threshold_id", parameters)
    counts = {(row["threshold_id"], row["level"]): row["n"] for row in client.rows(_COUNTED, parameters)}
    reached: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in thresholds}
    for window in shown:
        reached[window["threshold_id"]].append(window)
    for row in thresholds:
        if row["subject_id"] is not None and len(reached[row["id"]]) < limit:
            reached[row["id"]] += _below(client, row, reached[row["id"]], at, limit, seen_by)
    values = _values(client, [window for windows in reached.values() for window in windows])
    return {
        row["id"]: Standing(
            _highest_first(_window(row["threshold"], window, values) for window in reached[row["id"]]),
            counts.get((row["id"], "exceeded"), 0),
            counts.get((row["id"], "approaching"), 0),
        )
        for row in thresholds
    }


def _highest_first(windows: Iterable[WindowNow]) -> tuple[WindowNow, ...]:
    """By level, then by the value of now: the one at the last event is older."""
    return tuple(sorted(windows, key=lambda one: (_LEVEL_ORDER.index(one.level), -(one.value or 0))))


def _below(
    client: Client,
    row: Mapping[str, Any],
    reached: Sequence[Mapping[str, Any]],
    at: int,
    limit: int,
    seen_by: str | None,
) -> list[dict[str, Any]]:
    """The current windows of a threshold on one subject that have reached nothing."""
    start = period_start(Period(row["period_type"]), at)
    if row["org_id"] is not None:
        return [] if reached else [{**row, "period_start": from_micros(start), "level": "none"}]
    parameters: dict[str, Any] = {
        **{name: row[name] for name in ("period_type", "metric_key", "subject_type", "subject_id")},
        "start": start,
        "shown": [window["org_id"] for window in reached],
        "limit": limit - len(reached),
        "seen_by": seen_by,
    }
    return [{**window, "level": "none"} for window in client.rows(_SAME_SUBJECT, parameters)]


def _values(client: Client, windows: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """Of one kind of window after the other: there are at most four current ones."""
    kinds: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for window in windows:
        kinds.setdefault((window["period_type"], micros(window["period_start"])), []).append(window)
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for (period_type, start), some in kinds.items():
        parameters: dict[str, Any] = {
            "period_type": period_type,
            "start": start,
            "metric_keys": sorted({window["metric_key"] for window in some}),
            "subject_ids": sorted({window["subject_id"] for window in some}),
            "org_ids": sorted({window["org_id"] for window in some}),
        }
        for row in client.rows(_VALUES, parameters):
            found[_name(row)] = row
    return found


def _window(threshold: Decimal, window: Mapping[str, Any], values: Mapping[tuple[Any, ...], Any]) -> WindowNow:
    row = values.get(_name(window))
    value = None if row is None else row["total_quantity"]
    end = period_end(Period(window["period_type"]), micros(window["period_start"]))
    return WindowNow(
        org_id=window["org_id"],
        subject_type=window["subject_type"],
        subject_id=window["subject_id"],
        period_start=window["period_start"],
        period_end=None if end is None else from_micros(end),
        level=window["level"],
        value=value,
        percentage_used=None if value is None else _percentage(value, threshold),
        updated_at=None if row is None else row["updated_at"],
    )


def _percentage(value: Decimal, threshold: Decimal) -> Decimal:
    """With 2 decimals, as people read it. A percentage may have 38 digits, more than the decimal context keeps."""
    return percentage_used(value, threshold).quantize(_HUNDREDTH, rounding=ROUND_HALF_UP, context=_WIDE)


def _name(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("org_id", "metric_key", "subject_type", "subject_id", "period_type", "period_start")
    return tuple(row[name] for name in names)
