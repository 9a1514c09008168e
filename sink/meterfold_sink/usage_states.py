"""The state of usage over any spans of time, from stored windows and from records, as one statement.

A span is given as pieces (see `Piece`), each with the number of the answer's row that it belongs to. A kind of piece is
read from one table: windows of a period where nothing but subjects is distinguished, and records for everything else. A
table that keeps sums by metadata fields is one more kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import Period, micros, period_end
from meterfold_sink.closed_usage import CLOSED_KINDS, closed_rows
from meterfold_sink.rules import FoldRules
from meterfold_sink.usage_groups import NO_TEXT, NO_VALUES, Grouping, field_conditions

__all__ = ["RECORDS", "Of", "Piece", "arrival", "ranges_of", "states"]

RECORDS: Final = "records"
_MOST_RANGES: Final = 100
"""More ranges of one kind are read as one from the first to the last: a long condition costs more than it saves."""
_LATEST: Final = micros(datetime(2299, 12, 31, tzinfo=UTC))
"""ClickHouse wraps a later time around."""


class Piece(NamedTuple):
    """[start, end) in UTC microseconds, of the row `number`: windows of the period `kind`, records ("records"), or sums
    by dimension of closed periods (a kind in CLOSED_KINDS)."""

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


def states(rules: FoldRules, of: Of, pieces: Sequence[Piece], grouping: Grouping) -> str:
    """A statement with the state of each row, from all kinds of pieces. Bind the parameters of `of` and `grouping`;
    integers that our own code made are written into the statement itself."""
    kinds: dict[str, list[Piece]] = {}
    for piece in pieces:
        kinds.setdefault(piece.kind, []).append(piece)
    if _is_window_each(pieces) and grouping.by_subject and not grouping.metadata_fields and grouping.unique is None:
        (kind,) = kinds
        return _unchanged(of, kind, pieces, grouping)
    sources = " UNION ALL ".join(
        _numbered(_source(rules, of, kind, mine, grouping), grouping, kind, mine) for kind, mine in kinds.items()
    )
    # Fewer and simpler keys are grouped faster: what is the same in every row is left out.
    keys, constants = ["number"], list[str]()
    (keys if of.org_id is None else constants).append("org" if of.org_id is None else "{org_id:String} AS org")
    if grouping.by_subject:
        keys += ["type_of", "id_of"]
    else:
        constants += [f"{NO_TEXT} AS type_of", f"{NO_TEXT} AS id_of"]
    (keys if grouping.fields else constants).append("field_values" if grouping.fields else NO_VALUES)
    return f"""
SELECT
    {", ".join([*keys, *constants])},
    toInt64(sum(n)) AS total_count, sum(s) AS total_sum, min(lo) AS lowest, max(hi) AS highest,
    argMax(la, (last_at, partition, last_position)) AS latest, {grouping.unique_count()} AS distinct_values,
    groupUniqArray(partition) AS used_partitions
FROM ({sources})
GROUP BY {", ".join(keys)}
HAVING count() > 0"""  # noqa: S608


def _is_window_each(pieces: Sequence[Piece]) -> bool:
    """Whether each row of the answer is made of one stored window of the same period for each subject."""
    kinds, numbers = {piece.kind for piece in pieces}, {piece.number for piece in pieces}
    return len(kinds) == 1 and len(numbers) == len(pieces) and all(map(_is_one_window, pieces))


def _is_one_window(piece: Piece) -> bool:
    if piece.kind == RECORDS or piece.kind in CLOSED_KINDS:
        return False
    return period_end(Period(piece.kind), piece.start) in (None, piece.end)


def _unchanged(of: Of, kind: str, pieces: Sequence[Piece], grouping: Grouping) -> str:
    """Stored windows as they are: a subject is always in the same partition, so nothing is to be added up."""
    number = _number_of("toUnixTimestamp64Micro(period_start)", kind, pieces)
    rows = f"""
SELECT
    {number} AS number, toString(org_id) AS org, {grouping.columns()},
    record_count AS total_count, toDecimal256(sum, 9) AS total_sum, min AS lowest, max AS highest, last AS latest,
    CAST(NULL AS Nullable(Int64)) AS distinct_values, [partition] AS used_partitions
FROM usage_windows FINAL
PREWHERE {" AND ".join(of.conditions())} AND period_type = '{kind}'
    AND ({ranges_of("period_start", _merged(pieces))})"""  # noqa: S608
    return rows if len(pieces) == 1 else f"SELECT * FROM ({rows}) WHERE number >= 0"  # noqa: S608


def _source(rules: FoldRules, of: Of, kind: str, mine: Sequence[Piece], grouping: Grouping) -> str:
    if kind == RECORDS:
        return _records(rules, of, _merged(mine), grouping)
    if kind in CLOSED_KINDS:
        return _closed(of, CLOSED_KINDS[kind], _merged(mine), grouping)
    return _windows(of, kind, _merged(mine))


def _numbered(source: str, grouping: Grouping, kind: str, mine: Sequence[Piece]) -> str:
    """The rows of one kind, each with the number of its piece."""
    number = _number_of("at", kind, mine)
    rows = f"""
        SELECT toUInt8(1) AS one, toString(org_id) AS org, {grouping.columns()}, partition, {source}
    """
    if number is not None:
        return f"""
    SELECT {number} AS number, w.* EXCEPT (at, one)
    FROM ({rows}) AS w
    WHERE number >= 0"""  # noqa: S608
    return f"""
    SELECT p.number AS number, w.* EXCEPT (at, one)
    FROM ({rows}) AS w
    ASOF INNER JOIN ({_piece_rows(mine)}) AS p ON p.one = w.one AND w.at >= p.first
    WHERE w.at < p.past"""  # noqa: S608


def _number_of(at: str, kind: str, mine: Sequence[Piece]) -> str | None:
    """The number of the row at the time `at`, -1 for a time between the pieces; None if that takes a join."""
    if len(mine) == 1:
        return f"toInt64({mine[0].number})"
    if not all(map(_is_one_window, mine)):
        return None
    starts, numbers = (",".join(str(one.start) for one in mine), ",".join(str(one.number) for one in mine))
    return f"transform({at}, CAST([{starts}] AS Array(Int64)), CAST([{numbers}] AS Array(Int64)), toInt64(-1))"


def _windows(of: Of, kind: str, ranges: Sequence[tuple[int, int]]) -> str:
    # The conditions are on columns of the sort key, which all versions of a row share: they may come before FINAL.
    return f"""
            toUnixTimestamp64Micro(period_start) AS at, record_count AS n, toDecimal256(sum, 9) AS s, min AS lo,
            max AS hi, last AS la, last_timestamp AS last_at, last_offset AS last_position
        FROM usage_windows FINAL
        PREWHERE {" AND ".join(of.conditions())} AND period_type = '{kind}' AND ({ranges_of("period_start", ranges)})"""


def _closed(of: Of, period: Period, ranges: Sequence[tuple[int, int]], grouping: Grouping) -> str:
    rows = closed_rows(period, [*of.conditions(), f"({ranges_of('period_start', ranges)})"])
    return f"""
            toUnixTimestamp64Micro(period_start) AS at, record_count AS n, toDecimal256(sum, 9) AS s, min AS lo,
            max AS hi, last AS la, last_timestamp AS last_at, last_offset AS last_position
        FROM ({rows})
        WHERE {" AND ".join(["1", *field_conditions(grouping.filters)])}"""


def _records(rules: FoldRules, of: Of, ranges: Sequence[tuple[int, int]], grouping: Grouping) -> str:
    # Rows of one offset are equal, so a condition before FINAL is right; metadata is read of the rows that pass only.
    conditions = [*of.conditions(), f"({ranges_of('timestamp', ranges)})", arrival(rules, ranges)]
    return f"""
            toUnixTimestamp64Micro(timestamp) AS at, toInt64(1) AS n, toDecimal256(quantity, 9) AS s, quantity AS lo,
            quantity AS hi, quantity AS la, timestamp AS last_at, offset AS last_position
        FROM usage_records FINAL
        PREWHERE {" AND ".join(conditions)}
        WHERE {" AND ".join(["1", *field_conditions(grouping.filters)])}"""


def _piece_rows(pieces: Sequence[Piece]) -> str:
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


def ranges_of(column: str, ranges: Iterable[tuple[int, int]]) -> str:
    """A condition: the column is in one of the half-open ranges, in UTC microseconds."""
    return " OR ".join(f"({column} >= {_moment(start)} AND {column} < {_moment(end)})" for start, end in ranges)


def arrival(rules: FoldRules, ranges: Sequence[tuple[int, int]]) -> str:
    """When records with such timestamps have arrived: the condition that months and sort key of usage_records can
    use."""
    first, last = rules.arrivals(min(start for start, _ in ranges), max(end for _, end in ranges))
    return f"received_at >= {_moment(first)} AND received_at <= {_moment(min(last, _LATEST))}"


def _moment(instant: int) -> str:
    return f"fromUnixTimestamp64Micro(toInt64({instant}), 'UTC')"
