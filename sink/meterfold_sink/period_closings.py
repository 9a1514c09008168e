"""Closings as they are stored: one row of period_closings for each set of numbers that a period was closed with.

A row is named by its checksum, so that closing a period again with the same numbers, or twice at once, is the same row.
Numbers only change by counted events, which raise record_count: that orders the closings of a period.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.periods import Period, micros
from meterfold_sink.closing_checksum import EMPTY_CHECKSUM, IN_ORDER, checksum_sql, window_digest
from meterfold_sink.keyset import Key, Keys, Position, RowPage, micros_of, read_page

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = [
    "CLOSED",
    "ClosedNumbers",
    "ClosingRow",
    "PeriodState",
    "all_closings",
    "list_closings",
    "period_states",
    "read_closings",
    "stored_numbers",
    "write_closing",
]

#: The periods that can be closed.
CLOSED: Final = (Period.HOURLY, Period.DAILY, Period.MONTHLY)


@dataclass(frozen=True, slots=True)
class ClosingRow:
    """One closing. `metric_key` is empty for every metric; `revision` counts the closings of a period from 1.
    `next_offsets`: partition -> the offset below which everything is in the numbers."""

    period_type: str
    period_start: datetime
    metric_key: str
    revision: int
    revisions: int
    checksum: str
    window_count: int
    record_count: int
    next_offsets: Mapping[int, int]
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class ClosedNumbers:
    """The checksum of the windows of a period, how many they are, and the counted events in them."""

    checksum: str
    windows: int
    records: int


@dataclass(frozen=True, slots=True)
class PeriodState:
    """A period with windows. `is_closed`: it has a closing of every metric; `has_moved`: a window is newer than it."""

    period_type: str
    period_start: datetime
    is_closed: bool
    has_moved: bool


_ROWS: Final = """
SELECT
    toString(period_type) AS period_type, period_start, metric_key, checksum,
    toInt64(window_count) AS window_count, toInt64(record_count) AS record_count, closed_at,
    mapKeys(next_offsets) AS folded, mapValues(next_offsets) AS bounds,
    toInt64(row_number() OVER (PARTITION BY period_type, period_start, metric_key ORDER BY record_count, checksum))
        AS revision,
    toInt64(count() OVER (PARTITION BY period_type, period_start, metric_key)) AS revisions
FROM period_closings FINAL
WHERE {where}
"""
LATEST_CLOSINGS: Final[Keys] = (
    micros_of("period_start", descending=True),
    Key("period_type"),
    Key("metric_key"),
    Key("revision", "Int64", descending=True),
)


def read_closings(
    client: Client, period: Period, starts: Sequence[int], metric_key: str
) -> dict[int, list[ClosingRow]]:
    """start (UTC microseconds) -> its closings, from the first to the newest; no entry where there is none."""
    where = (
        "period_type = {period:String} AND metric_key = {metric_key:String} AND period_start IN "
        "(SELECT fromUnixTimestamp64Micro(arrayJoin({starts:Array(Int64)}), 'UTC'))"
    )
    rows = client.rows(
        f"{_ROWS.format(where=where)} ORDER BY period_start, revision",
        {"period": period.value, "metric_key": metric_key, "starts": list(starts)},
    )
    found: dict[int, list[ClosingRow]] = {}
    for row in rows:
        found.setdefault(micros(row["period_start"]), []).append(_closing(row))
    return found


def all_closings(client: Client, start: int | None, end: int | None) -> list[ClosingRow]:
    """Every closing of periods that begin in [start, end), UTC microseconds."""
    where, parameters = "1", dict[str, Any]()
    for name, comparison, moment in (("start", ">=", start), ("end", "<", end)):
        if moment is not None:
            where += f" AND period_start {comparison} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')"
            parameters[name] = moment
    return [_closing(row) for row in client.rows(_ROWS.format(where=where), parameters)]


def list_closings(
    client: Client,
    *,
    period: Period | None,
    start: int | None,
    end: int | None,
    metric_key: str | None,
    newest: bool,
    limit: int,
    offset: int = 0,
    after: Position | None = None,
) -> RowPage[ClosingRow]:
    """Closings of periods that begin in [start, end), the latest period first. `newest`: only the newest of each
    period."""
    conditions, parameters = ["1"], dict[str, Any]()
    if period is not None:
        conditions.append("period_type = {period:String}")
        parameters["period"] = period.value
    if start is not None:
        conditions.append("period_start >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')")
        parameters["start"] = start
    if end is not None:
        conditions.append("period_start < fromUnixTimestamp64Micro({end:Int64}, 'UTC')")
        parameters["end"] = end
    if metric_key is not None:
        conditions.append("metric_key = {metric_key:String}")
        parameters["metric_key"] = metric_key
    only = "revision = revisions" if newest else "1"
    inner = f"SELECT * FROM ({_ROWS.format(where=' AND '.join(conditions))}) WHERE {only}"  # noqa: S608
    page = read_page(client, inner, LATEST_CLOSINGS, parameters, limit=limit, offset=offset, after=after)
    return RowPage([_closing(row) for row in page.rows], page.total, page.end)


def write_closing(
    client: Client,
    period: Period,
    start: int,
    metric_key: str,
    *,
    checksum: str,
    windows: int,
    records: int,
    next_offsets: Mapping[int, int],
) -> None:
    """Store a closing; of two with the same numbers the first stays. Its windows must be in closed_windows before."""
    client.command(
        "INSERT INTO period_closings "
        "(period_type, period_start, metric_key, checksum, window_count, record_count, next_offsets, closed_at) "
        "SELECT {period:String}, fromUnixTimestamp64Micro({start:Int64}, 'UTC'), {metric_key:String}, "
        "{checksum:String}, {windows:UInt64}, {records:UInt64}, "
        "mapFromArrays({folded:Array(Int32)}, {next_offsets:Array(Int64)}), now64(6, 'UTC')",
        {
            "period": period.value,
            "start": start,
            "metric_key": metric_key,
            "checksum": checksum,
            "windows": windows,
            "records": records,
            "folded": list(next_offsets),
            "next_offsets": list(next_offsets.values()),
        },
    )


def stored_numbers(
    client: Client, period: Period, starts: Sequence[int], metric_key: str, next_offsets: Mapping[int, int]
) -> dict[int, ClosedNumbers]:
    """start (UTC microseconds) -> the numbers in closed_windows, as of these offsets; of every start."""
    key = "period_start, metric_key, org_id, subject_type, subject_id, partition"
    digest = window_digest(period_type="{period:String}", least="least", greatest="greatest", last="latest")
    windows = f"""
SELECT period_start, {digest} AS digest, record_count
FROM
(
    SELECT {key},
        argMax(c.record_count, c.folded_through) AS record_count, argMax(c.sum, c.folded_through) AS sum,
        argMax(c.min, c.folded_through) AS least, argMax(c.max, c.folded_through) AS greatest,
        argMax(c.last, c.folded_through) AS latest, argMax(c.last_timestamp, c.folded_through) AS last_timestamp
    FROM closed_windows AS c FINAL
    WHERE c.period_type = {{period:String}}
        AND c.period_start IN (SELECT fromUnixTimestamp64Micro(arrayJoin({{starts:Array(Int64)}}), 'UTC'))
        AND ({{metric_key:String}} = '' OR c.metric_key = {{metric_key:String}})
        AND c.folded_through
            < transform(c.partition, {{folded:Array(Int32)}}, {{next_offsets:Array(Int64)}}, toInt64(0))
    GROUP BY {key}
)"""  # noqa: S608
    rows = client.rows(
        checksum_sql(windows),
        {
            "period": period.value,
            "starts": list(starts),
            "metric_key": metric_key,
            "folded": list(next_offsets),
            "next_offsets": list(next_offsets.values()),
        },
        IN_ORDER,
    )
    found = {
        micros(row["period_start"]): ClosedNumbers(row["checksum"], row["window_count"], row["record_count"])
        for row in rows
    }
    return {start: found.get(start, ClosedNumbers(EMPTY_CHECKSUM, 0, 0)) for start in starts}


def period_states(
    client: Client, periods: Sequence[Period], since: int, ended: Mapping[Period, int]
) -> list[PeriodState]:
    """Every period of these kinds that has windows and begins from `since` on and before `ended`, UTC microseconds, the
    earliest first.

    Reads three columns of the windows of these months, in the order of the sort key. Raises Retryable or Fatal.
    """
    if not periods:
        return []
    before = " OR ".join(
        f"(w.period_type = '{period.value}' AND w.period_start < "
        f"fromUnixTimestamp64Micro(toInt64({int(ended[period])}), 'UTC'))"
        for period in periods
    )
    rows = client.rows(
        f"""
SELECT
    toString(w.period_type) AS period_type, w.period_start AS period_start,
    CAST(max(b.closed) AS Bool) AS is_closed,
    CAST(max(b.closed = 1 AND w.newest >= b.bound) AS Bool) AS has_moved
FROM
(
    -- A few rows for each period meet the closings, and not each window.
    SELECT period_type, period_start, partition, max(folded_through) AS newest
    FROM usage_windows AS w
    WHERE w.period_start >= fromUnixTimestamp64Micro({{since:Int64}}, 'UTC') AND ({before})
    GROUP BY partition, period_type, period_start
) AS w
LEFT ANY JOIN
(
    SELECT
        CAST(period_type AS Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3, 'lifetime' = 4)) AS type,
        period_start AS start, entry.1 AS number, max(entry.2) AS bound, toUInt8(1) AS closed
    FROM period_closings FINAL
    ARRAY JOIN arrayZip(mapKeys(next_offsets), mapValues(next_offsets)) AS entry
    WHERE metric_key = ''
    GROUP BY type, start, number
) AS b ON b.type = w.period_type AND b.start = w.period_start AND b.number = w.partition
GROUP BY w.period_type, w.period_start
ORDER BY w.period_start, w.period_type
""",  # noqa: S608
        {"since": since},
        IN_ORDER,
    )
    return [PeriodState(**row) for row in rows]


def _closing(row: dict[str, Any]) -> ClosingRow:
    values = dict(row)
    values["next_offsets"] = dict(zip(values.pop("folded"), values.pop("bounds"), strict=True))
    return ClosingRow(**values)
