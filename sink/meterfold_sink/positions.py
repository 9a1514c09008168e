"""Positions of usage.recorded as the three tables hold them, slice by slice of offsets, in bounded memory.

A position is (partition, offset). Rows of one table with equal sort key are one row to a reader (FINAL); the same
offset with another stamp, or in another table, is a second one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from meterfold_schemas.periods import micros
from meterfold_sink.client import Client

__all__ = [
    "KINDS",
    "Positions",
    "first_offset_after",
    "first_offset_since",
    "org_counts",
    "positions",
    "positions_outside",
    "positions_twice",
    "rejected_details",
    "stamp_at",
    "stored_offsets",
    "stored_rows",
    "stored_since",
    "unknown_partitions",
]

#: kind -> table. The bit of a kind is 1 << its place.
KINDS: Final = {"records": "usage_records", "duplicates": "usage_duplicates", "rejected": "usage_rejected"}

_FINAL: Final = {"do_not_merge_across_partitions_select_final": 1}


def _union(columns: str, condition: str) -> str:
    return " UNION ALL ".join(
        f"SELECT {columns.format(kind=kind, bit=1 << place)} FROM {table} FINAL "  # noqa: S608
        f"WHERE partition = {{partition:Int32}} AND {condition}"
        for place, (kind, table) in enumerate(KINDS.items())
    )


_IN_SLICE: Final = "offset >= {first:Int64} AND offset < {until:Int64}"
_BIT_AND_OFFSET: Final = "{bit} AS bit, offset"
_KIND_AND_OFFSET: Final = "'{kind}' AS kind, offset"


@dataclass(frozen=True, slots=True)
class Positions:
    """Distinct offsets of a slice, by table and `distinct` in all; `twice` of them stand in more than one place."""

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


def positions(client: Client, partition: int, first: int, until: int) -> Positions:
    """What is stored of the offsets [first, until)."""
    counts = ", ".join(f"toInt64(countIf(bitAnd(kinds, {1 << place}) != 0)) AS {k}" for place, k in enumerate(KINDS))
    sql = (
        f"SELECT {counts}, toInt64(count()) AS distinct, toInt64(countIf(n > 1)) AS twice FROM ("  # noqa: S608
        "SELECT offset, groupBitOr(bit) AS kinds, count() AS n "
        f"FROM ({_union(_BIT_AND_OFFSET, _IN_SLICE)}) GROUP BY offset)"
    )
    (row,) = client.query(sql, _slice(partition, first, until), _FINAL).to_pylist()
    return Positions(**row)


def positions_twice(client: Client, partition: int, first: int, until: int, limit: int) -> list[dict[str, Any]]:
    """Offsets of the slice that stand in more than one table, or twice in one: {offset, kinds}, by offset."""
    sql = (
        "SELECT offset, arraySort(groupArray(kind)) AS kinds "  # noqa: S608
        f"FROM ({_union(_KIND_AND_OFFSET, _IN_SLICE)}) GROUP BY offset HAVING count() > 1 "
        "ORDER BY offset LIMIT {limit:UInt64}"
    )
    return client.query(sql, {**_slice(partition, first, until), "limit": limit}, _FINAL).to_pylist()


def positions_outside(client: Client, partition: int, first: int, until: int, limit: int) -> list[dict[str, Any]]:
    """Rows of a partition whose offset is not in [first, until): {kind, offset}, by offset."""
    outside = "(offset < {first:Int64} OR offset >= {until:Int64})"
    sql = (
        f"SELECT kind, offset FROM ({_union(_KIND_AND_OFFSET, outside)}) "  # noqa: S608
        "ORDER BY offset, kind LIMIT {limit:UInt64}"
    )
    return client.query(sql, {**_slice(partition, first, until), "limit": limit}, _FINAL).to_pylist()


def stored_offsets(client: Client, partition: int, first: int, until: int) -> pa.Table:
    """(kind, offset) of the slice, by offset."""
    sql = f"SELECT kind, offset FROM ({_union(_KIND_AND_OFFSET, _IN_SLICE)}) ORDER BY offset"  # noqa: S608
    return client.query(sql, _slice(partition, first, until), _FINAL)


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


def stored_rows(client: Client, table: str, columns: Sequence[str], partition: int, first: int, until: int) -> pa.Table:
    """Columns of one of the three tables (strings of usage_rejected are bytes), for the slice, in any order."""
    if table not in KINDS.values():
        raise ValueError(f"{table} holds no positions")
    # The originals of rejected messages may be anything; Arrow's strings are UTF-8.
    settings = {**_FINAL, "output_format_arrow_string_as_string": int(table != "usage_rejected")}
    sql = f"SELECT {', '.join(columns)} FROM {table} FINAL WHERE partition = {{partition:Int32}} AND {_IN_SLICE}"  # noqa: S608
    return client.query(sql, _slice(partition, first, until), settings)


def first_offset_after(client: Client, partition: int, stamp: int) -> int | None:
    """The lowest stored offset whose broker's stamp is later than `stamp` (UTC microseconds), if there is one."""
    condition = "received_at > fromUnixTimestamp64Micro({stamp:Int64}, 'UTC')"
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
        f"FROM ({_union('offset, received_at', _IN_SLICE)})"
    )
    parameters = {**_slice(partition, first, until), "stamp": stamp}
    (row,) = client.query(sql, parameters, _FINAL).to_pylist()
    after_older = row["older"] + 1 if row["n_older"] else first
    return min(after_older, row["younger"]) if row["n_younger"] else after_older


def stamp_at(client: Client, partition: int, offset: int) -> int | None:
    """The broker's stamp of the row at this offset (UTC microseconds), None where there is none."""
    sql = f"SELECT max(received_at) AS stamp, count() AS n FROM ({_union('received_at', 'offset = {offset:Int64}')})"  # noqa: S608
    (row,) = client.query(sql, {"partition": partition, "offset": offset}, _FINAL).to_pylist()
    return micros(row["stamp"]) if row["n"] else None


def org_counts(client: Client, partition: int, first: int, until: int) -> Iterator[dict[str, Any]]:
    """{org_id, records, duplicates, rejected} of the offsets [first, until); org_id None where a rejected message's key
    names no subject."""
    own, keyed = "CAST(org_id AS Nullable(String))", "if(JSONLength(key) = 4 AND startsWith(key, '[\"'), "
    of_key = f"{keyed}JSONExtractString(key, 1), CAST(NULL AS Nullable(String)))"
    orgs = {"records": own, "duplicates": own, "rejected": of_key}
    parts = " UNION ALL ".join(
        f"SELECT '{kind}' AS kind, {orgs[kind]} AS org_id FROM {table} FINAL "  # noqa: S608
        f"WHERE partition = {{partition:Int32}} AND {_IN_SLICE}"
        for kind, table in KINDS.items()
    )
    counts = ", ".join(f"toInt64(countIf(kind = '{kind}')) AS {kind}" for kind in KINDS)
    sql = f"SELECT org_id, {counts} FROM ({parts}) GROUP BY org_id"  # noqa: S608
    for batch in client.batches(sql, _slice(partition, first, until), _FINAL):
        yield from batch.to_pylist()


def unknown_partitions(client: Client, partition_count: int) -> list[dict[str, Any]]:
    """{table, partition, rows} of partition numbers that the topic does not have: there must be none."""
    tables = (*KINDS.values(), "usage_windows", "fold_progress")
    sql = " UNION ALL ".join(
        f"SELECT '{table}' AS table, partition, toInt64(count()) AS rows FROM {table} "  # noqa: S608
        "WHERE partition < 0 OR partition >= {count:Int32} GROUP BY partition"
        for table in tables
    )
    return client.query(f"SELECT * FROM ({sql}) ORDER BY table, partition", {"count": partition_count}).to_pylist()  # noqa: S608


def _slice(partition: int, first: int, until: int) -> dict[str, int]:
    return {"partition": partition, "first": first, "until": until}
