"""Positions of usage.recorded as the three tables hold them, slice by slice of offsets, in bounded memory.

A position is (partition, offset). Rows of one table with equal sort key are one row to a reader (FINAL); the same
offset with another stamp, or in another table, is a second one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from meterfold_schemas.periods import micros
from meterfold_sink.client import Client

__all__ = [
    "KINDS",
    "Positions",
    "Span",
    "first_offset_after",
    "first_offset_since",
    "org_counts",
    "positions",
    "positions_outside",
    "positions_twice",
    "rejected_details",
    "slices",
    "spans_condition",
    "spans_parameters",
    "stamps_at",
    "stored_offsets",
    "stored_rows",
    "stored_since",
    "unknown_partitions",
]

#: kind -> table. The bit of a kind is 1 << its place.
KINDS: Final = {"records": "usage_records", "duplicates": "usage_duplicates", "rejected": "usage_rejected"}

_FINAL: Final = {"do_not_merge_across_partitions_select_final": 1}


_MOST_SPANS: Final = 64
"""Of one statement: each adds a condition to it."""


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets [first, until) of one partition."""

    partition: int
    first: int
    until: int

    def __len__(self) -> int:
        return self.until - self.first


def slices(spans: Iterable[Span], size: int) -> Iterator[list[Span]]:
    """The same offsets in lists that one statement can ask about, of up to `size` offsets each. Small spans go
    together, a large one is cut; empty ones are left out."""
    together, room = list[Span](), size
    for span in spans:
        first = span.first
        while first < span.until:
            until = min(span.until, first + room)
            together.append(Span(span.partition, first, until))
            room -= until - first
            first = until
            if room == 0 or len(together) == _MOST_SPANS:
                yield together
                together, room = [], size
    if together:
        yield together


def _union(columns: str, condition: str) -> str:
    return " UNION ALL ".join(
        f"SELECT {columns.format(kind=kind, bit=1 << place)} FROM {table} FINAL WHERE {condition}"  # noqa: S608
        for place, (kind, table) in enumerate(KINDS.items())
    )


def spans_condition(spans: Sequence[Span], one: str = "offset >= {first} AND offset < {until}") -> str:
    """The condition on `partition` and `offset` that rows lie in one of the spans, or for each span `one`; its
    parameters are those of `spans_parameters`."""
    return " OR ".join(
        f"(partition = {{p{n}:Int32}} AND {one.format(first=f'{{f{n}:Int64}}', until=f'{{u{n}:Int64}}')})"
        for n in range(len(spans))
    )


def spans_parameters(spans: Sequence[Span]) -> dict[str, Any]:
    return {
        name: value
        for n, span in enumerate(spans)
        for name, value in ((f"p{n}", span.partition), (f"f{n}", span.first), (f"u{n}", span.until))
    }


_ONE_PARTITION: Final = "partition = {partition:Int32} AND "
_IN_SLICE: Final = "offset >= {first:Int64} AND offset < {until:Int64}"
_BIT_AND_OFFSET: Final = "{bit} AS bit, partition, offset"
_KIND_AND_OFFSET: Final = "'{kind}' AS kind, partition, offset"


@dataclass(frozen=True, slots=True)
class Positions:
    """Distinct offsets of a slice, by table and `distinct` in all; `twice` of them are in more than one place."""

    records: int = 0
    duplicates: int = 0
    rejected: int = 0
    distinct: int = 0
    twice: int = 0

    def __add__(self, other: Positions) -> Positions:
        return Positions(
            self.records + other.records,
            self.duplicates + other.duplicates,
            self.rejected + other.rejected,
            self.distinct + other.distinct,
            self.twice + other.twice,
        )


def positions(client: Client, spans: Sequence[Span]) -> dict[int, Positions]:
    """partition -> what is stored of its span; no entry where nothing is. One span of each partition at most."""
    counts = ", ".join(f"toInt64(countIf(bitAnd(kinds, {1 << place}) != 0)) AS {k}" for place, k in enumerate(KINDS))
    sql = (
        f"SELECT partition, {counts}, toInt64(count()) AS distinct, toInt64(countIf(n > 1)) AS twice FROM ("  # noqa: S608
        "SELECT partition, offset, groupBitOr(bit) AS kinds, count() AS n "
        f"FROM ({_union(_BIT_AND_OFFSET, spans_condition(spans))}) GROUP BY partition, offset) GROUP BY partition"
    )
    rows = client.rows(sql, spans_parameters(spans), _FINAL)
    return {row.pop("partition"): Positions(**row) for row in rows}


def positions_twice(client: Client, span: Span, limit: int) -> list[dict[str, Any]]:
    """Offsets of the span that are in more than one table, or twice in one: {offset, kinds}, by offset."""
    sql = (
        "SELECT offset, arraySort(groupArray(kind)) AS kinds "  # noqa: S608
        f"FROM ({_union(_KIND_AND_OFFSET, spans_condition([span]))}) GROUP BY offset HAVING count() > 1 "
        "ORDER BY offset LIMIT {limit:UInt64}"
    )
    return client.query(sql, {**spans_parameters([span]), "limit": limit}, _FINAL).to_pylist()


def positions_outside(client: Client, spans: Sequence[Span], limit: int) -> list[dict[str, Any]]:
    """Rows of the spans' partitions that lie outside of them: {partition, kind, offset}, in order, up to `limit` of
    each partition."""
    if not spans:
        return []
    outside = spans_condition(spans, "(offset < {first} OR offset >= {until})")
    sql = (
        f"SELECT partition, kind, offset FROM ({_union(_KIND_AND_OFFSET, outside)}) "  # noqa: S608
        "ORDER BY partition, offset, kind LIMIT {limit:UInt64} BY partition"
    )
    return client.rows(sql, {**spans_parameters(spans), "limit": limit}, _FINAL)


def stored_offsets(client: Client, span: Span) -> pa.Table:
    """(kind, offset) of the span, by offset."""
    sql = f"SELECT kind, offset FROM ({_union(_KIND_AND_OFFSET, spans_condition([span]))}) ORDER BY offset"  # noqa: S608
    return client.query(sql, spans_parameters([span]), _FINAL)


def stored_since(client: Client, partition: int, first: int, until: int, since: int) -> pa.Table:
    """(kind, offset, reason) of the slice, in any order, of rows whose broker's stamp is `since` (UTC microseconds) or
    later, so that older months are not read. `kind` is the place in KINDS; `reason` is empty but for rejected ones."""
    reasons = ("''", "''", "CAST(reason AS String)")
    sql = " UNION ALL ".join(
        f"SELECT toUInt8({place}) AS kind, offset, {reason} AS reason FROM {table} FINAL "  # noqa: S608
        f"WHERE partition = {{partition:Int32}} AND {_IN_SLICE} "
        "AND received_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')"
        for place, (table, reason) in enumerate(zip(KINDS.values(), reasons, strict=True))
    )
    return client.query(sql, {**_slice(partition, first, until), "since": max(since, 0)}, _FINAL)


def rejected_details(client: Client, partition: int, offsets: Sequence[int]) -> list[dict[str, Any]]:
    """{offset, reason, detail} of rejected messages, by offset."""
    return client.query(
        "SELECT offset, CAST(reason AS String) AS reason, detail FROM usage_rejected FINAL "
        "WHERE partition = {partition:Int32} AND has({offsets:Array(Int64)}, offset) ORDER BY offset",
        {"partition": partition, "offsets": list(offsets)},
        _FINAL,
    ).to_pylist()


def stored_rows(client: Client, table: str, columns: Sequence[str], spans: Sequence[Span]) -> pa.Table:
    """Columns of one of the three tables (strings of usage_rejected are bytes), for the spans, in any order."""
    if table not in KINDS.values():
        raise ValueError(f"{table} holds no positions")
    # The originals of rejected messages may be anything; Arrow's strings are UTF-8.
    settings = {**_FINAL, "output_format_arrow_string_as_string": int(table != "usage_rejected")}
    sql = f"SELECT {', '.join(columns)} FROM {table} FINAL WHERE {spans_condition(spans)}"  # noqa: S608
    return client.query(sql, spans_parameters(spans), settings)


def first_offset_after(client: Client, partition: int, stamp: int) -> int | None:
    """The lowest stored offset whose broker's stamp is later than `stamp` (UTC microseconds), if there is one."""
    condition = _ONE_PARTITION + "received_at > fromUnixTimestamp64Micro({stamp:Int64}, 'UTC')"
    sql = f"SELECT min(offset) AS offset, count() AS n FROM ({_union('offset', condition)})"  # noqa: S608
    (row,) = client.query(sql, {"partition": partition, "stamp": max(stamp, 0)}, _FINAL).to_pylist()
    return row["offset"] if row["n"] else None


def first_offset_since(client: Client, partition: int, stamp: int, first: int, until: int) -> int:
    """Where in [first, until) the rows with this broker's stamp (UTC microseconds) or a later one begin.

    Offsets that hold no row go with what follows them. `until` where every row is older.
    """
    sql = (
        "SELECT maxIf(offset, received_at < since) AS older, countIf(received_at < since) AS n_older, "  # noqa: S608
        "minIf(offset, received_at >= since) AS younger, countIf(received_at >= since) AS n_younger, "
        "fromUnixTimestamp64Micro({stamp:Int64}, 'UTC') AS since "
        f"FROM ({_union('offset, received_at', _ONE_PARTITION + _IN_SLICE)})"
    )
    parameters = {**_slice(partition, first, until), "stamp": stamp}
    (row,) = client.query(sql, parameters, _FINAL).to_pylist()
    after_older = row["older"] + 1 if row["n_older"] else first
    return min(after_older, row["younger"]) if row["n_younger"] else after_older


def stamps_at(client: Client, offsets: Mapping[int, int]) -> dict[int, int]:
    """partition -> the broker's stamp of the row at this offset of it (UTC microseconds); no entry where there is
    none."""
    found: dict[int, int] = {}
    for spans in slices((Span(partition, offset, offset + 1) for partition, offset in offsets.items()), _MOST_SPANS):
        union = _union("partition, received_at", spans_condition(spans))
        sql = f"SELECT partition, max(received_at) AS stamp FROM ({union}) GROUP BY partition"  # noqa: S608
        rows = client.rows(sql, spans_parameters(spans), _FINAL)
        found.update((row["partition"], micros(row["stamp"])) for row in rows)
    return found


def org_counts(client: Client, spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
    """{partition, org_id, records, duplicates, rejected} of the spans; org_id None where a rejected message's key names
    no subject."""
    own, keyed = "CAST(org_id AS Nullable(String))", "if(JSONLength(key) = 4 AND startsWith(key, '[\"'), "
    of_key = f"{keyed}JSONExtractString(key, 1), CAST(NULL AS Nullable(String)))"
    orgs = {"records": own, "duplicates": own, "rejected": of_key}
    parts = " UNION ALL ".join(
        f"SELECT '{kind}' AS kind, partition, {orgs[kind]} AS org_id FROM {table} FINAL "  # noqa: S608
        f"WHERE {spans_condition(spans)}"
        for kind, table in KINDS.items()
    )
    counts = ", ".join(f"toInt64(countIf(kind = '{kind}')) AS {kind}" for kind in KINDS)
    sql = f"SELECT partition, org_id, {counts} FROM ({parts}) GROUP BY partition, org_id"  # noqa: S608
    for batch in client.batches(sql, spans_parameters(spans), _FINAL):
        yield from batch.to_pylist()


def unknown_partitions(client: Client, partition_count: int) -> list[dict[str, Any]]:
    """{table, partition, rows} of partition numbers that the topic does not have: there must be none."""
    tables = (*KINDS.values(), "usage_windows", "fold_progress")
    sql = " UNION ALL ".join(
        f"SELECT '{table}' AS table, partition, toInt64(count()) AS rows FROM {table} "  # noqa: S608
        "WHERE partition < 0 OR partition >= {count:Int32} GROUP BY partition"
        for table in tables
    )
    return client.rows(f"SELECT * FROM ({sql}) ORDER BY table, partition", {"count": partition_count})  # noqa: S608


def _slice(partition: int, first: int, until: int) -> dict[str, int]:
    return {"partition": partition, "first": first, "until": until}
