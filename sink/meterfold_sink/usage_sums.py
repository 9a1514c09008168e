"""Sums of usage over any spans of time: from stored windows, and from records for parts of an hour.

A span is given as pieces (see `Piece`), each with the number of the answer's row that it belongs to. The types of
totals are those of the view usage_summaries; sums of sums are computed in 256 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import HOUR, MICROS_PER_SECOND, from_micros
from meterfold_sink.rules import FoldRules
from meterfold_sink.total_sql import average, total

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["MissingRecords", "Of", "Piece", "UsageSum", "missing_records", "usage_sums"]

RECORDS: Final = "records"
_MOST_RANGES: Final = 100
"""More ranges of one kind are read as one from the first to the last: a long condition costs more than it saves."""
_SETTINGS: Final = {"do_not_merge_across_partitions_select_final": 1, "max_query_size": 1 << 26}


class Piece(NamedTuple):
    """[start, end) in UTC microseconds, of the row `number`: windows of the period `kind`, or records ("records")."""

    number: int
    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Of:
    """Whose usage of what. `org_id` None: of every organization, one row each. `subject` (type, id) None: of all."""

    metric_key: str
    org_id: str | None
    subject: tuple[str, str] | None = None

    def conditions(self) -> list[str]:
        found = ["metric_key = {metric_key:String}"]
        if self.org_id is not None:
            found.append("org_id = {org_id:String}")
        if self.subject is not None:
            found.append("subject_type = {subject_type:String} AND subject_id = {subject_id:String}")
        if self.org_id is not None and self.subject is not None:
            found.append("partition = {partition:Int32}")
        return found

    def parameters(self, rules: FoldRules) -> dict[str, Any]:
        values: dict[str, Any] = {"metric_key": self.metric_key}
        if self.org_id is not None:
            values["org_id"] = self.org_id
        if self.subject is not None:
            values["subject_type"], values["subject_id"] = self.subject
        if self.org_id is not None and self.subject is not None:
            key = subject_key(self.org_id, self.metric_key, *self.subject)
            values["partition"] = partition_of(key, rules.partition_count)
        return values


@dataclass(frozen=True, slots=True)
class UsageSum:
    """One row: the state of all usage in it, and its total by the metric's type (None: the organization has no
    definition). `partitions`: those whose usage is in it. Subject fields are None where subjects are not told apart."""

    number: int
    org_id: str
    subject_type: str | None
    subject_id: str | None
    total: Decimal | None
    record_count: int
    sum: Decimal
    min: Decimal
    max: Decimal
    avg: Decimal
    last: Decimal
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MissingRecords:
    """An hour whose window has counted more records than are kept."""

    hour: datetime
    missing: int


_TOTALS: Final = f"""
WITH
    (SELECT any(aggregation_type) FROM definitions WHERE org_id = '') AS global_type,
    if(ifNull(d.aggregation_type, '') != '', ifNull(d.aggregation_type, ''), ifNull(global_type, '')) AS total_by,
    {average("u.total_sum", "u.total_count")} AS unscaled_avg
SELECT
    u.number AS number,
    u.org AS org_id,
    u.type_of AS subject_type,
    u.id_of AS subject_id,
    {
    total(
        "total_by",
        count="u.total_count",
        sum_="u.total_sum",
        unscaled_avg="unscaled_avg",
        highest="u.highest",
        lowest="u.lowest",
        latest="u.latest",
    )
} AS total,
    u.total_count AS record_count,
    u.total_sum AS sum,
    u.lowest AS min,
    u.highest AS max,
    toDecimal256(unscaled_avg, 9) / 1000000000 AS avg,
    u.latest AS last,
    u.used_partitions AS partitions
"""  # noqa: S608


def usage_sums(
    client: Client,
    rules: FoldRules,
    of: Of,
    pieces: Sequence[Piece],
    *,
    by_subject: bool,
    top: int | None,
    limit: int,
    offset: int,
) -> tuple[list[UsageSum], int]:
    """Rows that have usage, by number, organization and subject, and how many there are in all. `top`: only this many
    of each number and organization, those with the largest total first.

    Raises Retryable or Fatal. Records that have expired are missing from the answer: ask `missing_records` afterwards.
    """
    parameters = {**of.parameters(rules), "limit": limit, "offset": offset}
    order = "number, org_id, subject_type, subject_id"
    limit_by = ""
    if top is not None:
        order = "number, org_id, total DESC NULLS LAST, subject_type, subject_id"
        limit_by, parameters["top"] = "LIMIT {top:UInt64} BY number, org_id", top
    sql = f"""
WITH definitions AS
(
    SELECT org_id, toString(aggregation_type) AS aggregation_type
    FROM metric_definitions FINAL
    WHERE deleted = 0 AND key = {{metric_key:String}}
)
SELECT *, toInt64(count() OVER ()) AS rows_in_all
FROM
(
    {_TOTALS}
    FROM ({_states(rules, of, pieces, by_subject)}) AS u
    LEFT ANY JOIN definitions AS d ON d.org_id = u.org
    ORDER BY {order}
    {limit_by}
)
ORDER BY {order}
LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}
"""  # noqa: S608
    rows = client.rows(sql, parameters, _SETTINGS)
    total = rows[0].pop("rows_in_all") if rows else 0
    if not rows and offset:
        return [], usage_sums(client, rules, of, pieces, by_subject=by_subject, top=top, limit=1, offset=0)[1]
    for row in rows:
        row.pop("rows_in_all", None)
    return [UsageSum(**{**row, "partitions": tuple(sorted(row["partitions"]))}) for row in rows], total


def missing_records(
    client: Client, rules: FoldRules, of: Of, pieces: Iterable[Piece], now: int
) -> MissingRecords | None:
    """The first hour of the RECORDS pieces whose records are not all kept, at `now` (UTC microseconds).

    Only hours whose records may have expired are looked at: in a newer one the fold may be at work, which is no loss.
    """
    kept_from = now - (rules.record_retention_seconds - rules.future_tolerance_seconds - 1) * MICROS_PER_SECOND
    hours = [
        (piece.start - piece.start % HOUR, min(_hour_after(piece.end), _hour_after(kept_from)))
        for piece in pieces
        if piece.kind == RECORDS and piece.start - piece.start % HOUR < kept_from
    ]
    if not hours:
        return None
    where = " AND ".join(of.conditions())
    sql = f"""
SELECT hour, toInt64(sum(counted) - sum(kept)) AS missing
FROM
(
    SELECT toUnixTimestamp64Micro(period_start) AS hour, record_count AS counted, toInt64(0) AS kept
    FROM usage_windows FINAL
    WHERE period_type = 'hourly' AND {where} AND ({_ranges("period_start", hours)})
    UNION ALL
    SELECT intDiv(toUnixTimestamp64Micro(timestamp), {HOUR}) * {HOUR} AS hour, toInt64(0), toInt64(1)
    FROM usage_records FINAL
    WHERE {where} AND ({_ranges("timestamp", hours)}) AND {_arrival(rules, hours)}
)
GROUP BY hour
HAVING missing > 0
ORDER BY hour
LIMIT 1
"""  # noqa: S608
    rows = client.rows(sql, of.parameters(rules), _SETTINGS)
    return MissingRecords(from_micros(rows[0]["hour"]), rows[0]["missing"]) if rows else None


def _hour_after(instant: int) -> int:
    return instant + -instant % HOUR


def _states(rules: FoldRules, of: Of, pieces: Sequence[Piece], by_subject: bool) -> str:
    """The state of each row, from all kinds of pieces. Integers that our own code made stand in the statement
    itself."""
    subject = (
        "toNullable(toString(subject_type)) AS type_of, toNullable(subject_id) AS id_of"
        if by_subject
        else "CAST(NULL AS Nullable(String)) AS type_of, CAST(NULL AS Nullable(String)) AS id_of"
    )
    where = " AND ".join(of.conditions())
    sources = []
    for kind in dict.fromkeys(piece.kind for piece in pieces):
        mine = [piece for piece in pieces if piece.kind == kind]
        ranges = _merged(mine)
        if kind == RECORDS:
            columns = (
                "toUnixTimestamp64Micro(timestamp) AS at, toInt64(1) AS n, toDecimal256(quantity, 9) AS s, "
                "quantity AS lo, quantity AS hi, quantity AS la, timestamp AS last_at, offset AS last_position"
            )
            table, condition = "usage_records", f"({_ranges('timestamp', ranges)}) AND {_arrival(rules, ranges)}"
        else:
            columns = (
                "toUnixTimestamp64Micro(period_start) AS at, record_count AS n, toDecimal256(sum, 9) AS s, min AS lo, "
                "max AS hi, last AS la, last_timestamp AS last_at, last_offset AS last_position"
            )
            table, condition = "usage_windows", f"period_type = '{kind}' AND ({_ranges('period_start', ranges)})"
        sources.append(f"""
    SELECT p.number AS number, w.* EXCEPT (at, one)
    FROM
    (
        SELECT toUInt8(1) AS one, toString(org_id) AS org, {subject}, partition, {columns}
        FROM {table} FINAL
        WHERE {where} AND {condition}
    ) AS w
    ASOF INNER JOIN ({_numbered(mine)}) AS p ON p.one = w.one AND w.at >= p.first
    WHERE w.at < p.past""")  # noqa: S608
    return f"""
SELECT
    number, org, type_of, id_of,
    toInt64(sum(n)) AS total_count, sum(s) AS total_sum, min(lo) AS lowest, max(hi) AS highest,
    argMax(la, (last_at, partition, last_position)) AS latest, groupUniqArray(partition) AS used_partitions
FROM ({" UNION ALL ".join(sources)})
GROUP BY number, org, type_of, id_of"""  # noqa: S608


def _numbered(pieces: Sequence[Piece]) -> str:
    """The pieces of one kind as rows (one, number, first, past)."""
    columns = ([piece.number for piece in pieces], [piece.start for piece in pieces], [piece.end for piece in pieces])
    arrays = ", ".join(f"CAST([{','.join(map(str, column))}] AS Array(Int64))" for column in columns)
    return (
        "SELECT toUInt8(1) AS one, row.1 AS number, row.2 AS first, row.3 AS past "  # noqa: S608
        f"FROM (SELECT arrayJoin(arrayZip({arrays})) AS row)"
    )


def _merged(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Adjacent pieces as one range."""
    found: list[tuple[int, int]] = []
    for piece in sorted(pieces, key=lambda piece: piece.start):
        if found and found[-1][1] == piece.start:
            found[-1] = found[-1][0], piece.end
        else:
            found.append((piece.start, piece.end))
    return found if len(found) <= _MOST_RANGES else [(found[0][0], found[-1][1])]


def _ranges(column: str, ranges: Iterable[tuple[int, int]]) -> str:
    return " OR ".join(f"({column} >= {_moment(start)} AND {column} < {_moment(end)})" for start, end in ranges)


def _arrival(rules: FoldRules, ranges: Sequence[tuple[int, int]]) -> str:
    """When such records have arrived: the condition that months and sort key of usage_records can use."""
    first, last = rules.arrivals(min(start for start, _ in ranges), max(end for _, end in ranges))
    return f"received_at >= {_moment(first)} AND received_at <= {_moment(last)}"


def _moment(instant: int) -> str:
    return f"fromUnixTimestamp64Micro(toInt64({instant}), 'UTC')"
