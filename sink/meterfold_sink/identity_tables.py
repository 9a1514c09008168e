"""Identities as the fold remembers them: hashes of `usage_records`, and the compact tables of them in pieces.

All times are UTC microseconds, spans are half-open. A table is stored under the `source` that its identities were
counted from: after the topic was created again, or a rule was changed, the tables of before are not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meterfold_schemas.periods import from_micros
from meterfold_sink.client import Client
from meterfold_sink.rules import FoldRules
from meterfold_sink.writers import Writer

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "TABLE",
    "TableVersion",
    "count_records",
    "identity_source",
    "load_hashes",
    "read_pieces",
    "read_rests",
    "read_versions",
    "write_pieces",
]

TABLE: Final = "identity_tables"

#: Strings of these columns are bytes, which are rarely valid UTF-8.
_BYTES: Final = {"output_format_arrow_string_as_string": 0}
_NO_END: Final = 9_000_000_000_000_000  # the year 2255; DateTime64(6) ends in 2299
_SPAN: Final = (
    "received_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC') "
    "AND received_at < fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
)
_OF_VERSION: Final = (
    "source = {source:String} AND partition = {partition:Int32} "
    "AND week = fromUnixTimestamp64Micro({week:Int64}, 'UTC') "
    "AND covered_until = fromUnixTimestamp64Micro({covered_until:Int64}, 'UTC') "
    "AND through = {through:Int64} AND bucket_bits = {bucket_bits:UInt8}"
)


@dataclass(frozen=True, slots=True)
class TableVersion:
    """The key of one stored table of a partition, and how many of its pieces are there."""

    week: int
    covered_until: int
    through: int
    bucket_bits: int
    pieces: int = 0


def identity_source(rules: FoldRules) -> str:
    """What decides which identities a partition has counted: the topic, and the rules by which events are judged."""
    return f"{rules.topic_id}/{rules.horizon_seconds}/{rules.future_tolerance_seconds}/{rules.decoder_version}"


def count_records(client: Client, partition: int, since: int, until: int) -> int:
    """Counted records that arrived in the span, to within a percent; one that was inserted twice counts once."""
    rows = client.rows(
        "SELECT toInt64(uniqCombined(offset)) AS records FROM usage_records WHERE partition = {partition:Int32} AND "  # noqa: S608
        + _SPAN,
        _span(partition, since, until),
    )
    return int(rows[0]["records"])


def load_hashes(client: Client, partition: int, since: int, until: int, lowest: int, highest: int) -> pa.Table:
    """identity_hash of the counted records of the span, from `lowest` to `highest`; one may come twice."""
    return client.query(
        "SELECT identity_hash FROM usage_records WHERE partition = {partition:Int32} AND "  # noqa: S608
        + _SPAN
        + " AND identity_hash >= {lowest:UInt64} AND identity_hash <= {highest:UInt64}",
        {**_span(partition, since, until), "lowest": lowest, "highest": highest},
    )


def read_versions(client: Client, source: str, partition: int) -> list[TableVersion]:
    """The stored tables of a partition, complete or not."""
    rows = client.rows(
        "SELECT toUnixTimestamp64Micro(week) AS week, toUnixTimestamp64Micro(covered_until) AS covered_until, "
        "through, bucket_bits, toInt64(uniqExact(piece)) AS pieces FROM identity_tables "
        "WHERE source = {source:String} AND partition = {partition:Int32} "
        "GROUP BY week, covered_until, through, bucket_bits",
        {"source": source, "partition": partition},
    )
    return [TableVersion(**row) for row in rows]


def read_pieces(client: Client, source: str, partition: int, version: TableVersion, first: int, end: int) -> pa.Table:
    """piece, counts, remainders, checksum of the pieces [first, end), in order; one may come twice."""
    return client.query(
        "SELECT piece, counts, remainders, checksum FROM identity_tables "  # noqa: S608
        f"WHERE {_OF_VERSION} AND piece >= {{first:UInt32}} AND piece < {{end:UInt32}} ORDER BY piece",
        {**_key(source, partition, version), "first": first, "end": end},
        _BYTES,
    )


def read_rests(client: Client, source: str, partition: int, wanted: Sequence[tuple[TableVersion, int]]) -> pa.Table:
    """week, covered_until, through, bucket_bits, piece, rests, rests_checksum of single pieces; one may come twice."""
    tuples = ", ".join(
        f"(fromUnixTimestamp64Micro({int(v.week)}, 'UTC'), fromUnixTimestamp64Micro({int(v.covered_until)}, 'UTC'), "
        f"{int(v.through)}, {int(v.bucket_bits)}, {int(piece)})"
        for v, piece in wanted
    )
    return client.query(
        "SELECT toUnixTimestamp64Micro(week) AS week_start, "  # noqa: S608
        "toUnixTimestamp64Micro(covered_until) AS week_covered, through, bucket_bits, piece, rests, rests_checksum "
        "FROM identity_tables WHERE source = {source:String} AND partition = {partition:Int32} "
        f"AND (week, covered_until, through, bucket_bits, piece) IN ({tuples})",
        {"source": source, "partition": partition},
        {**_BYTES, "max_query_size": 1 << 28},
    )


def write_pieces(client: Client, source: str, partition: int, version: TableVersion, pieces: pa.Table) -> None:
    """Store pieces (piece, counts, remainders, checksum, rests, rests_checksum); harmless when repeated."""
    import pyarrow as pa

    size = pieces.num_rows
    stamps = pa.timestamp("us", "UTC")
    key = {
        "source": pa.array([source] * size, pa.string()),
        "partition": pa.array([partition] * size, pa.int32()),
        "week": pa.array([from_micros(version.week)] * size, stamps),
        "covered_until": pa.array([from_micros(version.covered_until)] * size, stamps),
        "through": pa.array([version.through] * size, pa.int64()),
        "bucket_bits": pa.array([version.bucket_bits] * size, pa.uint8()),
    }
    columns = {**key, **dict(zip(pieces.column_names, pieces.columns, strict=True))}
    Writer(client).insert(TABLE, pa.table(columns))


def _span(partition: int, since: int, until: int) -> dict[str, int]:
    # DateTime64 begins in 1900 and ends in 2299; a bound beyond would wrap around.
    return {"partition": partition, "since": max(since, 0), "until": min(until, _NO_END)}


def _key(source: str, partition: int, version: TableVersion) -> dict[str, str | int]:
    return {
        "source": source,
        "partition": partition,
        "week": version.week,
        "covered_until": version.covered_until,
        "through": version.through,
        "bucket_bits": version.bucket_bits,
    }
