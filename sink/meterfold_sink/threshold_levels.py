"""The current state of thresholds: the level of each current window that has reached one, and its value.

The level follows from the mirrored events: a level holds while it was reached once more than it was left. The value is
that of usage_summaries, so it is as new as the fold; a level may be behind it by what the checker has before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final, NamedTuple

from meterfold_schemas.periods import Period, from_micros, micros, period_end, period_start
from meterfold_schemas.quantities import exact_unscaled, to_decimal
from meterfold_schemas.totals import AMOUNTS, WindowValues, percentage_used, total_of
from meterfold_schemas.vocabulary import AggregationType
from meterfold_sink.client import Client
from meterfold_sink.thresholds import RANK_OF_ROW

__all__ = ["JudgedWindow", "Standing", "WindowNow", "nearest_windows", "standings", "thresholds_of_subject"]

_WIDE: Final = Context(prec=60)
_HUNDREDTH: Final = Decimal("0.01")
_LEVEL_ORDER: Final = ("exceeded", "approaching", "none")

_STARTS: Final = {"hour": Period.HOURLY, "day": Period.DAILY, "month": Period.MONTHLY}
_WINDOW: Final = "threshold_id, org_id, metric_key, subject_type, subject_id, period_type, period_start"
# Without FINAL: an event that is stored twice changes no maximum.
_CURRENT: Final = f"""
SELECT {_WINDOW}, reached AS level, latest_value FROM
(
    SELECT threshold_id, org_id, any(e.metric_key) AS metric_key, subject_type, subject_id,
        any(e.period_type) AS period_type, period_start,
        maxIf(crossing, level = 'exceeded' AND event_type = 'threshold.exceeded')
            > maxIf(crossing, level = 'exceeded' AND event_type = 'threshold.cleared') AS is_exceeded,
        maxIf(crossing, level = 'approaching' AND event_type = 'threshold.approaching')
            > maxIf(crossing, level = 'approaching' AND event_type = 'threshold.cleared') AS is_approaching,
        argMax(actual_value, occurred_at) AS latest_value,
        multiIf(is_exceeded, 'exceeded', is_approaching, 'approaching', 'none') AS reached
    FROM threshold_events AS e
    WHERE (period_end IS NULL OR period_end > now64(6, 'UTC')) AND {{condition}}
        AND ({{{{seen_by:Nullable(String)}}}} IS NULL OR org_id = {{{{seen_by:Nullable(String)}}}})
    GROUP BY threshold_id, org_id, subject_type, subject_id, period_start  -- the rest follows from the threshold
)
"""  # noqa: S608
_IS_SUBJECT: Final = (
    "org_id = {org_id:String} AND subject_type = {subject_type:String} AND subject_id = {subject_id:String}"
)
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
# Of the thresholds of one metric and name the narrowest judge, where the metric is active for the organization: its own
# definition hides the one of every organization.
_OF_SUBJECT: Final = f"""
SELECT t.id AS threshold_id, t.name AS name, t.metric_key AS metric_key, t.threshold AS threshold,
    toString(t.action) AS action, toString(t.period_type) AS period_type, ifNull(l.level, 'none') AS level
FROM
(
    SELECT *, {RANK_OF_ROW} AS rank,
        max(rank) OVER (PARTITION BY metric_key, name) AS narrowest
    FROM thresholds FINAL
    WHERE NOT deleted AND is_active
        AND ifNull(org_id = {{org_id:String}}, 1)
        AND ifNull(subject_type = {{subject_type:String}}, 1)
        AND ifNull(subject_id = {{subject_id:String}}, 1)
) AS t
LEFT JOIN
(
    SELECT threshold_id, toNullable(level) AS level FROM ({_CURRENT.format(condition=_IS_SUBJECT)})
) AS l ON l.threshold_id = t.id
WHERE t.rank = t.narrowest AND t.metric_key IN
(
    SELECT key FROM metric_definitions FINAL
    WHERE NOT deleted AND org_id IN ('', {{org_id:String}})
    GROUP BY key
    HAVING argMax(is_active, org_id)
)
ORDER BY metric_key, name, period_type, threshold_id
LIMIT {{limit:UInt64}}
"""  # noqa: S608
_SHOWN: Final = f"""
SELECT *, toInt64(countIf(level = 'exceeded') OVER (PARTITION BY threshold_id)) AS exceeded,
    toInt64(countIf(level = 'approaching') OVER (PARTITION BY threshold_id)) AS approaching
FROM ({_LEVELS})
ORDER BY threshold_id, level != 'exceeded', level != 'approaching', latest_value DESC, subject_id
LIMIT {{limit:UInt64}} BY threshold_id
"""  # noqa: S608
# Without FINAL: the newest version of a row has the highest folded_through. The rows are found by the sort key and the
# index of subjects; a few more than were asked for do not matter.
_VALUES: Final = """
SELECT toString(w.org_id) AS org_id, toString(w.metric_key) AS metric_key, toString(w.subject_type) AS subject_type,
    w.subject_id AS subject_id, toString(w.period_type) AS period_type, w.period_start AS period_start,
    any(w.partition) AS partition, max(w.record_count) AS record_count,
    argMax(w.sum, w.folded_through) AS sum_now, argMax(w.min, w.folded_through) AS min_now,
    argMax(w.max, w.folded_through) AS max_now, argMax(w.last, w.folded_through) AS last_now
FROM usage_windows AS w
WHERE (w.period_type, w.period_start) IN ({windows}) AND w.org_id IN {{org_ids:Array(String)}}
    AND w.metric_key IN {{metric_keys:Array(String)}} AND w.subject_id IN {{subject_ids:Array(String)}}
GROUP BY org_id, metric_key, subject_type, subject_id, period_type, period_start
"""
_FACTS: Final = """
SELECT 'kind' AS what, org_id, key AS name, toString(aggregation_type) AS value
FROM metric_definitions FINAL
WHERE deleted = 0 AND has({metric_keys:Array(String)}, key)
UNION ALL
SELECT 'stamp', '', toString(partition), toString(toUnixTimestamp64Micro(last_stamp)) FROM fold_progress FINAL
"""
# A subject's id may be used in several organizations. Its windows are found by its id, which is indexed.
_SAME_SUBJECT: Final = """
WITH
    [
        fromUnixTimestamp64Micro({hour:Int64}, 'UTC'), fromUnixTimestamp64Micro({day:Int64}, 'UTC'),
        fromUnixTimestamp64Micro({month:Int64}, 'UTC'), toDateTime64(0, 6, 'UTC')
    ] AS starts
SELECT org_id, metric_key, subject_type, subject_id, toString(w.period_type) AS period_type, period_start
FROM usage_windows AS w
WHERE (w.period_type, w.period_start) IN (
        ('hourly', starts[1]), ('daily', starts[2]), ('monthly', starts[3]), ('lifetime', starts[4]))
    AND subject_id IN {subject_ids:Array(String)}
    AND (toString(w.period_type), toString(w.metric_key), toString(w.subject_type), w.subject_id) IN
    (
        SELECT one.1, one.2, one.3, one.4
        FROM (SELECT arrayJoin(arrayZip({period_types:Array(String)}, {metric_keys:Array(String)},
            {subject_types:Array(String)}, {subject_ids:Array(String)})) AS one)
    )
    AND ({seen_by:Nullable(String)} IS NULL OR org_id = {seen_by:Nullable(String)})
GROUP BY org_id, metric_key, subject_type, subject_id, period_type, period_start
ORDER BY org_id
LIMIT {limit:UInt64} BY metric_key, subject_type, subject_id, period_type
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


class _Value(NamedTuple):
    """The total of a window, None without a definition, and when its partition was folded."""

    total: Decimal | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """`windows`: the highest ones first, at most as many as were asked for. The counts are of all current windows."""

    windows: tuple[WindowNow, ...]
    exceeded: int
    approaching: int


@dataclass(frozen=True, slots=True)
class JudgedWindow:
    """A current window that an active threshold judges. `period_type` is that of the threshold."""

    threshold_id: str
    name: str
    metric_key: str
    period_type: str
    threshold: Decimal
    action: str
    window: WindowNow


def nearest_windows(client: Client, *, limit: int, seen_by: str | None = None) -> list[JudgedWindow]:
    """The current windows that are approaching a threshold or exceed it, the highest percentage at their last event
    first. `seen_by`: those of this organization. Raises Retryable or Fatal."""
    rows = client.rows(_NEAREST, {"limit": limit, "seen_by": seen_by})
    values = _values(client, rows)
    return [_judged(row, values) for row in rows]


def thresholds_of_subject(
    client: Client, subject: tuple[str, str], *, org_id: str, limit: int = 200, now: datetime | None = None
) -> list[JudgedWindow]:
    """The thresholds that judge a subject, each with its current window, also where that has reached nothing. The
    highest level first, then the highest percentage. Raises Retryable or Fatal."""
    whose = {"org_id": org_id, "subject_type": subject[0], "subject_id": subject[1]}
    at = micros(now or datetime.now(UTC))
    rows = [
        {**row, **whose, "period_start": from_micros(period_start(Period(row["period_type"]), at))}
        for row in client.rows(_OF_SUBJECT, {**whose, "limit": limit})
    ]
    values = _values(client, rows)
    found = [_judged(row, values) for row in rows]
    return sorted(found, key=lambda one: (_LEVEL_ORDER.index(one.window.level), -(one.window.percentage_used or 0)))


def _judged(row: Mapping[str, Any], values: Mapping[tuple[Any, ...], _Value]) -> JudgedWindow:
    names = ("threshold_id", "name", "metric_key", "period_type", "threshold", "action")
    return JudgedWindow(**{name: row[name] for name in names}, window=_window(row["threshold"], row, values))


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
    # One row also where no window is shown: it has the counts.
    parameters: dict[str, Any] = {"ids": [row["id"] for row in thresholds], "limit": max(limit, 1), "seen_by": seen_by}
    reached: dict[str, list[Mapping[str, Any]]] = {row["id"]: [] for row in thresholds}
    counts: dict[str, tuple[int, int]] = {}
    for window in client.rows(_SHOWN, parameters):
        counts[window["threshold_id"]] = window["exceeded"], window["approaching"]
        if limit:
            reached[window["threshold_id"]].append(window)
    of_one = [row for row in thresholds if row["subject_id"] is not None and len(reached[row["id"]]) < limit]
    same = _of_same_subjects(client, [row for row in of_one if row["org_id"] is None], at, limit, seen_by)
    for row in of_one:
        reached[row["id"]] += _below(row, reached[row["id"]], same, at, limit)
    values = _values(client, [window for windows in reached.values() for window in windows])
    return {
        row["id"]: Standing(
            _highest_first(_window(row["threshold"], window, values) for window in reached[row["id"]]),
            *counts.get(row["id"], (0, 0)),
        )
        for row in thresholds
    }


def _highest_first(windows: Iterable[WindowNow]) -> tuple[WindowNow, ...]:
    """By level, then by the value of now: the one at the last event is older."""
    return tuple(sorted(windows, key=lambda one: (_LEVEL_ORDER.index(one.level), -(one.value or 0))))


def _below(
    row: Mapping[str, Any],
    reached: Sequence[Mapping[str, Any]],
    same: Mapping[tuple[Any, ...], Sequence[Mapping[str, Any]]],
    at: int,
    limit: int,
) -> list[dict[str, Any]]:
    """The current windows of a threshold on one subject that have reached nothing."""
    if row["org_id"] is not None:
        start = from_micros(period_start(Period(row["period_type"]), at))
        return [] if reached else [{**row, "period_start": start, "level": "none"}]
    shown = {window["org_id"] for window in reached}
    others = [window for window in same.get(_subject(row), ()) if window["org_id"] not in shown]
    return [{**window, "level": "none"} for window in others[: limit - len(reached)]]


def _of_same_subjects(
    client: Client, thresholds: Sequence[Mapping[str, Any]], at: int, limit: int, seen_by: str | None
) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    """The current windows of subjects that thresholds of every organization name, `limit` for each that is shown and as
    many more."""
    if not thresholds:
        return {}
    starts = {name: period_start(kind, at) for name, kind in _STARTS.items()}
    parameters: dict[str, Any] = {
        **{f"{name}s": [row[name] for row in thresholds] for name in ("period_type", "subject_type", "subject_id")},
        "metric_keys": [row["metric_key"] for row in thresholds],
        **starts,
        "limit": 2 * limit,
        "seen_by": seen_by,
    }
    found: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for window in client.rows(_SAME_SUBJECT, parameters):
        found.setdefault(_subject(window), []).append(window)
    return found


def _subject(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("period_type", "metric_key", "subject_type", "subject_id"))


def _values(client: Client, windows: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], _Value]:
    """The values of windows as usage_summaries has them, in two statements."""
    if not windows:
        return {}
    kinds = {(Period(window["period_type"]), micros(window["period_start"])) for window in windows}
    parameters: dict[str, Any] = {
        f"{name}s": sorted({window[name] for window in windows}) for name in ("org_id", "metric_key", "subject_id")
    }
    places = ", ".join(f"('{kind.value}', fromUnixTimestamp64Micro(toInt64({start}), 'UTC'))" for kind, start in kinds)
    rows = client.rows(_VALUES.format(windows=places), parameters)
    facts = client.rows(_FACTS, {"metric_keys": parameters["metric_keys"]})
    types = {(fact["org_id"], fact["name"]): fact["value"] for fact in facts if fact["what"] == "kind"}
    stamps = {int(fact["name"]): int(fact["value"]) for fact in facts if fact["what"] == "stamp"}
    found = {}
    for row in rows:
        # An organization's own definition hides the one of every organization.
        kind = types.get((row["org_id"], row["metric_key"])) or types.get(("", row["metric_key"]))
        amounts = (exact_unscaled(row[f"{name}_now"]) for name in AMOUNTS)
        total = None if kind is None else total_of(AggregationType(kind), WindowValues(row["record_count"], *amounts))
        stamp = stamps.get(row["partition"])
        found[_name(row)] = _Value(None if total is None else to_decimal(total), from_micros(stamp) if stamp else None)
    return found


def _window(threshold: Decimal, window: Mapping[str, Any], values: Mapping[tuple[Any, ...], _Value]) -> WindowNow:
    found = values.get(_name(window))
    value = None if found is None else found.total
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
        updated_at=None if found is None else found.updated_at,
    )


def _percentage(value: Decimal, threshold: Decimal) -> Decimal:
    """With 2 decimals, as people read it. A percentage may have 38 digits, more than the decimal context keeps."""
    return percentage_used(value, threshold).quantize(_HUNDREDTH, rounding=ROUND_HALF_UP, context=_WIDE)


def _name(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("org_id", "metric_key", "subject_type", "subject_id", "period_type", "period_start")
    return tuple(row[name] for name in names)
